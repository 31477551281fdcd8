"""All rounds of a recipe: reading them, beginning one, and knowing whether one runs.

Layout under ``rounds/<recipe>/<number>/``: ``round.json`` (the record), ``recipe.yaml`` (resolved), ``log.txt``,
``progress.json`` (of the running step), and a folder for each step, its ``manifest.json`` written last.
"""

import os
import re
import signal
import time
from pathlib import Path

from sawyer.errors import CheckpointError, UsageError
from sawyer.home import Home
from sawyer.recipe import Recipe, save_resolved
from sawyer.rounds.lock import RoundLock, running
from sawyer.rounds.record import RoundRecord, detail_of, load_record, new_record, save_record, summary_of
from sawyer.types.rounds import RoundDetail, RoundList, RoundSummary

_STOPPING = 5.0  # seconds until it is no longer waited for


class RoundBook:
    """The rounds of one recipe in a home. Cheap to make; safe to use from several processes."""

    def __init__(self, home: Home, recipe_name: str) -> None:
        self.home, self.recipe_name = home, recipe_name
        self.root = home.rounds / recipe_name
        self.lock = RoundLock(self.root)

    def folder(self, number: int) -> Path:
        """Where a round lies."""
        return self.root / str(number)

    def numbers(self) -> list[int]:
        """Of all rounds, oldest first."""
        names = [each.name for each in self.root.iterdir()] if self.root.is_dir() else []
        return sorted(int(name) for name in names if re.fullmatch(r"[1-9]\d{0,8}", name))

    def record(self, number: int) -> RoundRecord:
        """A round's record; one whose process is gone is ``interrupted``.

        Raises:
            UsageError: there is no such round. CheckpointError: its record is damaged.
        """
        if number not in self.numbers():
            known = ", ".join(map(str, self.numbers())) or "none"
            raise UsageError(f"Recipe {self.recipe_name} has no round {number}; there are: {known}.")
        record = load_record(self.folder(number))
        holder = self.lock.holder() if record.state == "running" else None
        if record.state == "running" and (holder is None or holder.number not in (None, number)):
            # It may have ended between the two looks.
            record = load_record(self.folder(number))
            if record.state == "running":
                return record.model_copy(update={"state": "interrupted"})
        return record

    def detail(self, number: int) -> RoundDetail:
        """Everything about a round. Raises as ``record``."""
        return detail_of(self.record(number), self.folder(number))

    def summaries(self) -> list[RoundSummary]:
        """All rounds, newest first; a damaged one says so."""
        found = []
        for number in reversed(self.numbers()):
            try:
                found.append(summary_of(self.record(number)))
            except CheckpointError as error:
                created = self.folder(number).stat().st_mtime
                told = {"number": number, "recipe": self.recipe_name, "created": created, "reasons": [str(error)]}
                found.append(RoundSummary(method="?", state="failed", **told))  # type: ignore[arg-type]
        return found

    def listing(self) -> RoundList:
        """All rounds, and whether another can be started."""
        holder = self.lock.holder()
        return RoundList(
            rounds=self.summaries(), can_start=None if holder is None else running(self.recipe_name, holder)
        )

    def votes_seen(self) -> int:
        """Votes that counted when the newest round took its snapshot; 0 before the first."""
        for number in reversed(self.numbers()):
            try:
                cast = load_record(self.folder(number)).cast
            except CheckpointError:
                continue
            if cast:
                return cast
        return 0

    def unfinished(self) -> RoundRecord | None:
        """The newest round, if it was interrupted or failed; only it can be resumed."""
        numbers = self.numbers()
        record = self.record(numbers[-1]) if numbers else None
        return record if record is not None and not record.ended_well else None

    def create(self, recipe: Recipe, method: str, *, dry_run: bool) -> RoundRecord:
        """Begin the next round. Only while holding the lock.

        Raises:
            CheckpointError: its folder cannot be written.
        """
        number = max([0, *self.numbers()]) + 1
        record = new_record(number, recipe.name, method, round(time.time(), 3), dry_run)
        beside = self.root / f".new-{os.getpid()}"
        try:
            beside.mkdir(parents=True, exist_ok=True)
            save_resolved(recipe, beside / "recipe.yaml")
            save_record(beside, record)
            beside.rename(self.folder(number))
        except OSError as error:
            raise CheckpointError(
                f"Round {number} cannot be begun in {self.root}: {error.strerror or error}. Free some space or mend "
                "the folder's permissions."
            ) from error
        return record

    def stop(self, number: int) -> RoundSummary:
        """End a running round's process, and wait a moment for that. What it has finished is kept; it can be resumed.

        Raises:
            UsageError: there is no such round, or it does not run.
        """
        record, holder = self.record(number), self.lock.holder()
        if record.state != "running" or holder is None or holder.number != number or holder.pid is None:
            raise UsageError(f"Round {number} of {self.recipe_name} does not run: it is {record.state}.")
        os.kill(holder.pid, signal.SIGTERM)
        end = time.monotonic() + _STOPPING
        while self.lock.holder() == holder and time.monotonic() < end:
            time.sleep(0.05)
        return summary_of(self.record(number))


def every_round(home: Home) -> list[RoundSummary]:
    """The rounds of all recipes in a home, newest first."""
    names = [folder.name for folder in home.rounds.iterdir() if folder.is_dir()] if home.rounds.is_dir() else []
    found = [summary for name in names for summary in RoundBook(home, name).summaries()]
    return sorted(found, key=lambda summary: summary.created, reverse=True)
