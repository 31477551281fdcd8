"""One version of a trained stage: its folder, its manifest, its name, and which base it belongs to."""

import json
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sawyer.errors import CheckpointError, UsageError
from sawyer.runs import MANIFEST, hash_file

STAGES = ("base", "sft", "rlf", "reward", "judge", "classifiers")
ADAPTERS = ("sft", "rlf")
CURE = "Restore the folder from a copy, or remove it and repeat the step that trained it."
_REFERENCE = re.compile(rf"({'|'.join(STAGES)})(?:@(\d{{1,9}}))?")


@dataclass(frozen=True)
class Version:
    """One version of one stage. `info` is what was known when it was registered.

    Two of its keys have a meaning here: `fingerprint` of a base, and `backbone` of an adapter, the
    fingerprint of the base it was trained on.
    """

    stage: str
    number: int
    path: Path
    created: datetime
    info: dict[str, Any]
    current: bool

    @property
    def ref(self) -> str:
        """How people and requests name it, such as rlf@3."""
        return f"{self.stage}@{self.number}"


def read_version(path: Path, stage: str, number: int, current: bool) -> Version:
    """The version as its manifest describes it. All files must be there; their content is not read.

    Raises:
        CheckpointError: the manifest or a file is missing or is not what it should be.
    """
    if number == 0:  # shipped with the package: the manifest is optional
        kept = _manifest(path) if (path / MANIFEST).exists() else {}
        info = {key: value for key, value in kept.items() if key != "files"} | {"shipped": True}
        return Version(stage, 0, path, datetime.fromtimestamp(path.stat().st_mtime, UTC), info, current)
    manifest = _manifest(path)
    try:
        created = datetime.fromisoformat(manifest["created"])
        if (manifest["stage"], manifest["number"]) != (stage, number):
            raise ValueError(f"it is the manifest of {manifest['stage']}@{manifest['number']}")
        # Trainers note these in the manifest of the folder they write, which register kept.
        noted = {key: manifest[key] for key in ("backbone", "fingerprint") if key in manifest}
        return Version(stage, number, path, created, noted | manifest["info"], current)
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path / MANIFEST} is damaged ({error}). {CURE}") from error


def _manifest(path: Path) -> dict[str, Any]:
    """A version folder's manifest, all files it lists being there."""
    try:
        manifest = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
        missing = [name for name in manifest["files"] if not (path / name).is_file()]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path} is incomplete: no usable {MANIFEST} ({error}). {CURE}") from error
    if missing:
        raise CheckpointError(f"{path} is incomplete: {missing[0]} is missing. {CURE}")
    return manifest


def holds(version: Version, folder: Path) -> bool:
    """Whether the version was made of exactly these files; hidden ones and the folder's manifest do not count."""
    if version.number == 0:
        return False
    files = [file for file in folder.rglob("*") if file.is_file()]
    names = {file.relative_to(folder).as_posix(): file for file in files}
    found = {name: hash_file(file) for name, file in names.items() if not name.startswith(".") and "/." not in name}
    found.pop(MANIFEST, None)
    return _manifest(version.path)["files"] == found


def checked_stage(stage: str) -> str:
    if stage not in STAGES:
        raise UsageError(f"Unknown stage {stage!r}. Allowed: {', '.join(STAGES)}.")
    return stage


def parse_reference(reference: str) -> tuple[str, int | None]:
    """("rlf", 3) of "rlf@3", ("rlf", None) of "rlf"."""
    match = _REFERENCE.fullmatch(reference)
    if match is None:
        raise UsageError(
            f"{reference!r} names no version. Allowed: stage or stage@number; stages: {', '.join(STAGES)}."
        )
    return match[1], None if match[2] is None else int(match[2])


def fits(adapter: Version, base: Version) -> bool:
    """Whether it is certain that the adapter was made for this base."""
    if adapter.number == base.number == 0:
        return True
    made_for = adapter.info.get("backbone")
    return made_for is not None and made_for == base.info.get("fingerprint")


def misfits(adapter: Version, base: Version) -> bool:
    """Whether it was certainly not. Without fingerprints, shipped adapters go with the shipped base."""
    if None in (adapter.info.get("backbone"), base.info.get("fingerprint")):
        return adapter.number == 0 and base.number != 0
    return not fits(adapter, base)


def require_fit(adapter: Version, base: Version | None) -> None:
    if base is not None and misfits(adapter, base):
        raise CheckpointError(
            f"{adapter.ref} was made for another backbone than {base.ref}, which would be current with it."
            f" Promote it together with its own base, or train it again on {base.ref}."
        )
