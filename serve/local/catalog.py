"""What a recipe's registry offers a server, what of it is loaded, and when it has changed."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sawyer.errors import UsageError
from sawyer.registry import Registry
from sawyer.stage_version import ADAPTERS, misfits
from sawyer.types import Stage

if TYPE_CHECKING:  # torch takes seconds to import; the loading thread does it
    from sawyer.models import Policy


@dataclass(frozen=True)
class Offer:
    """The versions that can be served together with the current base.

    Attributes:
        base: where the backbone lies, None where the recipe names one of the hub.
        current: the version of each stage, in showing order; base's is None for a backbone of the hub.
        refs: everything that can be asked by name, oldest first within its stage.
    """

    base: Path | None
    current: Mapping[Stage, str | None]
    refs: tuple[str, ...]


@dataclass(frozen=True)
class Loaded:
    """A policy, the version of each of its stages in showing order, and what else can be asked by name.

    Where the policy holds an adapter under its stage's name instead of its version's, that is what answers.
    """

    policy: "Policy"
    versions: Mapping[Stage, str | None]
    refs: tuple[str, ...] = ()


class Catalog:
    """Reads a registry; cheap to ask whether something has changed.

    Args:
        own_base: whether the backbone is a version of this registry, not a model of the hub.
    """

    def __init__(self, registry: Registry, *, own_base: bool) -> None:
        self._registry, self._own_base = registry, own_base

    def stamp(self) -> tuple[int, ...]:
        """Something that differs once a version was added, removed or promoted."""
        folder = self._registry.folder
        files = [folder / "state.json", *(folder / stage for stage in ("base", *ADAPTERS))]
        return tuple(file.stat().st_mtime_ns if file.exists() else 0 for file in files)

    def offer(self) -> Offer:
        """What can be served now.

        Raises:
            CheckpointError: a current version is damaged.
        """
        base = self._registry.current("base") if self._own_base else None
        current: dict[Stage, str | None] = {"base": base.ref if base else None}
        refs = [base.ref] if base else []
        for stage in ADAPTERS:
            version = self._registry.current(stage)
            if version is not None:
                current[stage] = version.ref  # type: ignore[index]
            known = self._registry.versions(stage)
            refs += [each.ref for each in known if base is None or not misfits(each, base)]
        return Offer(base.path if base else None, current, tuple(refs))

    def folder(self, ref: str) -> Path:
        """Where a version lies, its files found sound.

        Raises:
            UsageError: there is no such version. CheckpointError: it is damaged.
        """
        if ref.split("@")[0] not in ADAPTERS:
            raise UsageError(f"{ref} is no adapter.")
        return self._registry.get(ref).path
