"""How a round's process tells the world what it does: record, progress, log. Every file is replaced or appended to."""

import contextlib
import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sawyer.progress import watched
from sawyer.rounds.book import RoundBook
from sawyer.rounds.record import LOG, PROGRESS, RoundRecord, save_record

_EVERY = 1.0  # seconds between two notes of progress


class Diary:
    """The writing side of one round.

    Args:
        record: as it was begun, or as it was left.
    """

    def __init__(self, book: RoundBook, record: RoundRecord) -> None:
        self.book, self.folder = book, book.folder(record.number)
        self.record = record
        self._noted = 0.0

    def update(self, **changes: Any) -> None:
        """Change the record and write it."""
        self.record = self.record.model_copy(update=changes)
        save_record(self.folder, self.record)

    def say(self, text: str) -> None:
        """A line for the log and for whoever looks on. A log that cannot be written stops nothing."""
        line = f"{time.strftime('%H:%M:%S')} {' '.join(text.split())}"
        with contextlib.suppress(OSError), (self.folder / LOG).open("a", encoding="utf-8") as stream:
            stream.write(line + "\n")
        print(f"round {self.record.number}: {line}", file=sys.stderr, flush=True)

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Inside, the step runs; an exception leaves it failed."""
        self._set(name, state="running", detail="", seconds=None)
        self.say(f"{name} begins")
        begun = time.monotonic()
        try:
            with watched(self._progress):
                yield
        except Exception:
            self._set(name, state="failed", seconds=round(time.monotonic() - begun, 1))
            raise
        seconds = round(time.monotonic() - begun, 1)
        self._set(name, state="done", seconds=seconds)
        self.say(f"{name} done in {seconds:g} s")

    def done_before(self, name: str) -> None:
        """The step was finished by an earlier process."""
        self._set(name, state="done")

    def detail(self, name: str, text: str) -> None:
        """What a step says of itself."""
        self._set(name, detail=text)
        self.say(f"{name}: {text}")

    def end(self, state: str, reasons: list[str]) -> None:
        """The round is over."""
        self.update(state=state, reasons=reasons, ended=round(time.time(), 3))
        self.say(f"{state}{': ' if reasons else ''}{' '.join(reasons)}")

    def _set(self, name: str, **changes: Any) -> None:
        self.record = self.record.with_step(name, **changes)
        self.update(step=name)

    def _progress(self, what: str, done: int, total: int) -> None:
        now = time.monotonic()
        if done < total and now - self._noted < _EVERY:
            return
        self._noted = now
        file = self.folder / PROGRESS
        note = {"step": self.record.step, "what": what, "done": done, "total": total}
        with contextlib.suppress(OSError):  # not flushed to the disk: a lost note is no loss
            beside = file.with_suffix(".tmp")
            beside.write_text(json.dumps(note), encoding="utf-8")
            beside.replace(file)
