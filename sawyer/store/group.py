"""Group commit for SQLite: writes that wait for the disk at the same time share one transaction and one fsync.

Whoever gets the turn first does the work of all who wait, commits, and only then does anybody return: what was told to
be stored is on the disk. PostgreSQL does the same by itself for connections that commit at once.
"""

import contextlib
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from sawyer.errors import StoreError
from sawyer.store.database import Database
from sawyer.store.errors import describe

Result = TypeVar("Result")
Work = Callable[[Connection], Any]


@dataclass(eq=False)
class _Job:
    """One caller's write, and what came of it."""

    work: Work
    result: Any = None
    error: BaseException | None = None
    done: bool = False


class GroupWriter:
    """Runs writes of many threads together. A write either raises before it changes anything, or is stored whole."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._turn = threading.Lock()
        self._waiting: deque[_Job] = deque()

    def write(self, work: Callable[[Connection], Result]) -> Result:
        """What ``work`` returns, once it is on the disk.

        Args:
            work: changes the database in its last step, so that an error of its own leaves nothing behind.

        Raises:
            StoreError: the database cannot do it; none of the group is stored. Whatever ``work`` raises itself.
        """
        if not self._database.is_sqlite:
            with self._database.write() as connection:
                return work(connection)
        job = _Job(work)
        self._waiting.append(job)
        if not self._turn.acquire(timeout=self._database.busy_seconds):
            self._give_up(job)
            self._turn.acquire()  # somebody is storing it just now, and waits for the database no longer than that
        try:
            if not job.done:
                self._lead()
        finally:
            self._turn.release()
        if job.error is not None:
            raise job.error
        return job.result

    def _give_up(self, job: _Job) -> None:
        """StoreError, unless somebody has taken the job up already."""
        with contextlib.suppress(ValueError):
            self._waiting.remove(job)
            raise StoreError(
                f"{describe(self._database.engine.url)} is busy: other writes of this process took longer than"
                f" {self._database.busy_seconds:g} seconds. Nothing was changed; try again."
            )

    def _lead(self) -> None:
        """Do all that waits in one transaction."""
        jobs = [self._waiting.popleft() for _ in range(len(self._waiting))]
        try:
            with self._database.write() as connection:
                for job in jobs:
                    try:
                        job.result = job.work(connection)
                    except SQLAlchemyError:
                        raise  # the database failed, perhaps in the middle of a statement: none of it is kept
                    except Exception as error:
                        job.error = error
        except BaseException as error:
            for job in jobs:
                job.error = job.error or error
            if not isinstance(error, StoreError):
                raise
        finally:
            for job in jobs:
                job.done = True
