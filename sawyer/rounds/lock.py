"""The lock that makes two rounds of a recipe at once impossible, on one machine.

It is the system's (flock), so that a killed round leaves none behind, and it belongs to an open file: a server that
starts a round takes it, hands the file to the new process and closes its own, and at no moment is it free.
"""

import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sawyer.errors import CheckpointError, UsageError

_PATIENCE = 1.0  # seconds: whoever asks who holds the lock has it for an instant


@dataclass(frozen=True)
class Holder:
    """Who has the lock: the process and the round's number, where it has said so."""

    pid: int | None = None
    number: int | None = None


class RoundRunning(UsageError):
    """Another round of the recipe runs."""


class RoundLock:
    """The lock of one recipe's rounds.

    Args:
        folder: of the recipe's rounds.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.path = folder, folder / ".lock"

    @contextmanager
    def held(self) -> Iterator[int]:
        """Hold the lock inside; gives the number of the open file.

        Raises:
            RoundRunning: another process (or thread) has it. CheckpointError: the folder cannot be written.
        """
        file = self._open()
        try:
            self._take(file)
            os.ftruncate(file, 0)
            yield file
        finally:
            os.close(file)

    @contextmanager
    def adopted(self, file: int) -> Iterator[int]:
        """Inside, hold the lock that another process took and handed over as an open file."""
        try:
            same = os.path.samestat(os.fstat(file), self.path.stat())
            os.set_inheritable(file, False)  # helper processes must not keep it alive
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # ours already, or nobody's
        except OSError as error:
            raise UsageError(f"The lock handed over as file {file} cannot be used: {error.strerror}.") from error
        if not same:
            raise UsageError(f"The file {file} handed over is not the lock {self.path}.")
        try:
            yield file
        finally:
            os.close(file)

    def sign(self, file: int, pid: int, number: int) -> None:
        """Write down who holds the lock, for others to read."""
        os.pwrite(file, json.dumps({"pid": pid, "number": number}).encode().ljust(80), 0)

    def holder(self) -> Holder | None:
        """Who holds the lock; None: nobody."""
        try:
            file = os.open(self.path, os.O_RDWR)
        except OSError:
            return None
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return None
        except BlockingIOError:
            return _signature(os.pread(file, 200, 0))
        finally:
            os.close(file)

    def _open(self) -> int:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            return os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise CheckpointError(
                f"The folder of the rounds {self.folder} cannot be written: {error.strerror or error}. Free some space "
                "or mend its permissions."
            ) from error

    def _take(self, file: int) -> None:
        end = time.monotonic() + _PATIENCE
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError as error:
                if time.monotonic() < end:
                    time.sleep(0.02)
                    continue
                raise RoundRunning(running(self.folder.name, _signature(os.pread(file, 200, 0)))) from error


def running(recipe: str, holder: Holder) -> str:
    """Why no round can be started, in a sentence."""
    which = "A round" if holder.number is None else f"Round {holder.number}"
    where = "" if holder.pid is None else f" (process {holder.pid})"
    return f"{which} of {recipe} is running{where}, and only one can at a time: wait for it, or stop it first."


def _signature(text: bytes) -> Holder:
    try:
        found = json.loads(text)
        return Holder(int(found["pid"]), int(found["number"]))
    except (ValueError, KeyError, TypeError):
        return Holder()
