"""Versions of the trained stages, and which of them are current.

Layout under the registry folder, one subfolder per recipe:

    nano/sft/3/            the files of sft@3, with manifest.json written last (hashes of all files)
    nano/state.json        per stage the trail of promoted numbers; the last is current

A version never changes once its folder has its name. What is current changes by replacing `state.json`, so
readers see the old choice or the new one. Weights shipped with the package are version 0 of their stage.
"""

import json
import os
import re
import shutil
import time
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sawyer.errors import CheckpointError, UsageError
from sawyer.home import Home
from sawyer.promotions import Promotions, Trails
from sawyer.recipe import Recipe
from sawyer.runs import MANIFEST, check_sealed, write_json
from sawyer.stage_version import (
    ADAPTERS,
    CURE,
    STAGES,
    Version,
    checked_stage,
    fits,
    misfits,
    parse_reference,
    read_version,
    require_fit,
)
from sawyer.weights import check_weights, copy_folder, flush

_ABANDONED = 24 * 3600  # seconds after which a half-copied folder belongs to no living process


class Registry:
    """The versions of one recipe. Safe to use from several processes.

    Args:
        root: the registry folder (`Home.registry`); created when something is registered.
        recipe_name: name of the recipe.
        shipped: folder with base/, sft/, rlf/, reward/ that stand in as version 0.
    """

    def __init__(self, root: Path, recipe_name: str, shipped: Path | None = None):
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", recipe_name):
            raise UsageError(f"{recipe_name!r} cannot name a registry folder: use letters, digits, '.', '_', '-'.")
        self.folder = Path(root) / recipe_name
        self.recipe_name = recipe_name
        self.shipped = shipped
        self.promotions = Promotions(self.folder)
        # Files found sound, by path, size and time: hashing gigabytes once per process is enough.
        self._sound: set[tuple[str, int, int]] = set()

    @classmethod
    def of(cls, recipe: Recipe, home: Home) -> "Registry":
        """The registry of a recipe in a home; `recipe.shipped` is relative to this package."""
        shipped = None if recipe.shipped is None else Path(__file__).parent / recipe.shipped
        return cls(home.registry, recipe.name, shipped)

    # Reading

    def versions(self, stage: str | None = None) -> list[Version]:
        """All usable versions, oldest first, shipped ones (0) included; `damaged` tells about the others."""
        return self._sorted_out((checked_stage(stage),) if stage else STAGES)[0]

    def damaged(self) -> list[str]:
        """One paragraph for each version folder that cannot be used."""
        return self._sorted_out(STAGES)[1]

    def _sorted_out(self, stages: tuple[str, ...]) -> tuple[list[Version], list[str]]:
        trails = self.promotions.load()
        usable, damaged = [], []
        for stage in stages:
            for number in self._numbers(stage):
                try:
                    usable.append(self._read(stage, number, trails))
                except CheckpointError as error:
                    damaged.append(str(error))
        return usable, damaged

    def current(self, stage: str) -> Version | None:
        """The promoted version, else the shipped one, else None. CheckpointError: it is damaged."""
        number = self._current(checked_stage(stage), self.promotions.load())
        return None if number is None else self.get(f"{stage}@{number}")

    def get(self, reference: str) -> Version:
        """The version `stage@number`, or the current one of `stage`, its files checked against their hashes.

        Raises:
            UsageError: there is no such version. CheckpointError: it is incomplete or was altered.
        """
        stage, number = parse_reference(reference)
        trails = self.promotions.load()
        if number is None:
            number = self._current(stage, trails)
        if number is None or number not in self._numbers(stage):
            known = ", ".join(f"{stage}@{n}" for n in self._numbers(stage)) or "none"
            raise UsageError(f"Recipe {self.recipe_name} has no version {reference}. There are: {known}.")
        version = self._read(stage, number, trails)
        self._verify(version)
        return version

    # Writing

    def register(self, stage: str, source_dir: Path, *, info: dict[str, Any]) -> Version:
        """Copy a trained folder in as the stage's next version; it is whole on the disk when this returns.

        The same files with the same `info` as the newest version are that version, so a pipeline that was
        killed may repeat this step. A manifest in the source is checked, and its own keys are kept.

        Raises:
            CheckpointError: the source is incomplete, corrupt or holds pickle files, or cannot be copied.
        """
        checked_stage(stage)
        source = Path(source_dir)
        check_weights(source)
        kept = check_sealed(source) if (source / MANIFEST).exists() else {}
        beside = self.folder / stage / f".new-{os.getpid()}-{uuid.uuid4().hex[:8]}"
        try:
            beside.mkdir(parents=True)
            files = copy_folder(source, beside, leave_out=MANIFEST)
            with self.promotions.locked():
                number = self._place(stage, beside, kept | {"stage": stage, "info": info, "files": files})
        except OSError as error:
            raise CheckpointError(
                f"{source} could not be stored in the registry {self.folder}: {error.strerror or error}. No"
                " version was added; free some space or mend the folder's permissions and try again."
            ) from error
        finally:
            shutil.rmtree(beside, ignore_errors=True)
        return self._read(stage, number, self.promotions.load())

    def promote(self, *references: str) -> None:
        """Make these versions current, all at once or none.

        A new base drops the adapters made for another one: each goes back to its newest promoted version
        that fits, or to none.

        Raises:
            UsageError: a reference without a number, an unknown one, or two of one stage.
            CheckpointError: one is damaged, or an adapter was made for another base than will be current.
        """
        chosen = {}
        for reference in references:
            stage, number = parse_reference(reference)
            if number is None or stage in chosen:
                raise UsageError(f"Promote names each stage once, as stage@number; given: {' '.join(references)}.")
            chosen[stage] = self.get(reference)
        with self.promotions.locked():
            trails = self._full_trails()
            base = chosen.get("base") or self._at(trails, "base")
            for stage in ADAPTERS:
                if stage in chosen:
                    require_fit(chosen[stage], base)
            if "base" in chosen and chosen["base"].number != self._current("base", trails):
                self._settle(trails, chosen["base"], [stage for stage in ADAPTERS if stage not in chosen])
            for stage, version in chosen.items():
                _extend(trails, stage, version.number)
            self.promotions.save(trails, "promote", list(references))

    def rollback(self, stage: str) -> Version:
        """Make the version current that was current before, and return it. Again: the one before that.

        Rolling back a base takes the adapters back to those that fit it. An adapter skips versions made
        for another base.

        Raises:
            UsageError: there is nothing to go back to. CheckpointError: that version is damaged.
        """
        checked_stage(stage)
        with self.promotions.locked():
            trails = self._full_trails()
            now = self._current(stage, trails)
            base = self._at(trails, "base") if stage in ADAPTERS else None
            trail = trails[stage][:-1]
            while trail and not self._worth(stage, trail[-1], now, base):
                trail.pop()
            if not trail:
                raise UsageError(
                    f"Stage {stage} of recipe {self.recipe_name} has no earlier version to go back to"
                    f" (current: {'none' if now is None else f'{stage}@{now}'}). Promote one by its number."
                )
            version = self.get(f"{stage}@{trail[-1]}")
            trails[stage] = trail
            if stage == "base":
                self._settle(trails, version, list(ADAPTERS))
            self.promotions.save(trails, "rollback", [version.ref])
        return self.get(version.ref)

    # Inside

    def _place(self, stage: str, beside: Path, manifest: dict[str, Any]) -> int:
        """Give a copied folder its number and name, or return the newest version's if it is the same."""
        taken = self._numbers(stage)
        self._sweep(stage)
        if taken and taken[-1] > 0:
            try:
                newest = self._read(stage, taken[-1], {})
                self._verify(newest)
                stored = json.loads((newest.path / MANIFEST).read_text(encoding="utf-8"))
                # Through JSON once, as the stored one went: tuples are lists there.
                if all(stored[key] == json.loads(json.dumps(manifest[key])) for key in ("files", "info")):
                    return taken[-1]
            except CheckpointError:
                pass  # the newest is damaged: this one gets the next number
        used = [number for number in self.promotions.load().get(stage, []) if number is not None]
        number = max([0, *taken, *used]) + 1
        created = datetime.now(UTC).isoformat()
        write_json(beside / MANIFEST, manifest | {"number": number, "created": created})
        for folder in (beside, *(f for f in beside.rglob("*") if f.is_dir())):
            flush(folder)
        beside.rename(self._path(stage, number))
        flush(self.folder / stage)
        return number

    def _sweep(self, stage: str) -> None:
        for folder in (self.folder / stage).glob(".new-*"):  # what killed processes left half-copied
            if time.time() - folder.stat().st_mtime > _ABANDONED:
                shutil.rmtree(folder, ignore_errors=True)

    def _path(self, stage: str, number: int) -> Path:
        if number == 0 and self.shipped is not None:
            return self.shipped / stage
        return self.folder / stage / str(number)

    def _numbers(self, stage: str) -> list[int]:
        folder = self.folder / stage
        names = [f.name for f in folder.iterdir()] if folder.is_dir() else []
        numbers = {int(name) for name in names if re.fullmatch(r"[1-9]\d{0,8}", name)}
        if self.shipped is not None and (self.shipped / stage).is_dir():
            numbers.add(0)
        return sorted(numbers)

    def _read(self, stage: str, number: int, trails: Trails) -> Version:
        """The version as its manifest describes it; all files must exist, their content is not read."""
        current = self._current(stage, trails) == number
        return read_version(self._path(stage, number), stage, number, current)

    def _verify(self, version: Version) -> None:
        """Compare the files with their hashes, once per process as long as size and time stay the same."""
        files = [file for file in sorted(version.path.rglob("*")) if file.is_file()]
        marks = {(str(file), (stat := file.stat()).st_mtime_ns, stat.st_size) for file in files}
        if marks <= self._sound:
            return
        try:
            check_weights(version.path)
            if (version.path / MANIFEST).exists():  # shipped folders may come without one
                check_sealed(version.path)
        except CheckpointError as error:
            raise CheckpointError(f"Version {version.ref} cannot be used. {error} {CURE}") from error
        self._sound |= marks

    def _current(self, stage: str, trails: Trails) -> int | None:
        shipped = 0 in self._numbers(stage)
        if not trails.get(stage):
            return 0 if shipped else None
        number = trails[stage][-1]
        return None if number == 0 and not shipped else number

    def _full_trails(self) -> Trails:
        """The trails with every stage in them: a shipped version is where a trail begins."""
        trails = self.promotions.load()
        for stage in STAGES:
            if not trails.get(stage):
                trails[stage] = [0] if 0 in self._numbers(stage) else []
        return trails

    def _at(self, trails: Trails, stage: str) -> Version | None:
        number = self._current(stage, trails)
        return None if number is None else self._read(stage, number, trails)

    def _settle(self, trails: Trails, base: Version, stages: list[str]) -> None:
        """Take each stage back to its newest promoted version that was made for this base, else to none."""
        for stage in stages:
            promoted = [n for n in reversed(trails[stage]) if n is not None]
            fitting = [n for n in promoted if fits(self._read(stage, n, trails), base)]
            _extend(trails, stage, next(iter(fitting), None))

    def _worth(self, stage: str, number: int | None, now: int | None, base: Version | None) -> bool:
        """Whether a rollback may stop at this entry of a trail."""
        if number is None or number == now:
            return False
        return base is None or not misfits(self._read(stage, number, {}), base)


def _extend(trails: Trails, stage: str, number: int | None) -> None:
    if (trails[stage] or [None])[-1] != number:
        trails[stage].append(number)
