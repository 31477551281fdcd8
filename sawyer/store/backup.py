"""A copy of the feedback database while it is in use, and back again."""

import contextlib
import os
import shlex
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import make_url

from sawyer.errors import StoreError, UsageError
from sawyer.store.database import VERSION_TABLE
from sawyer.store.store import FeedbackStore


def backup(url: str, out: Path, *, overwrite: bool = False) -> int:
    """Copy the database at `url` to the file `out`, consistent although others write; the number of its votes.

    Raises:
        UsageError: it is no SQLite database, is not there, or `out` exists. StoreError: it cannot be read or written.
    """
    database = _file_of(url, f"pg_dump --format=custom --file={shlex.quote(str(out))} {_hidden(url)}")
    if not database.exists():
        raise UsageError(f"There is no database {database} to back up.")
    if out.exists() and not overwrite:
        raise UsageError(f"{out} exists already. Name another file, or add --overwrite to replace it.")
    temporary = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    try:
        _copy(database, temporary)
        count = _checked(temporary)
        with open(temporary, "rb") as written:
            os.fsync(written.fileno())
        os.replace(temporary, out)
    except (OSError, sqlite3.Error) as error:
        raise StoreError(f"{database} could not be backed up to {out}: {error}. Nothing was left there.") from error
    finally:
        _remove(temporary)
    return count


def restore(url: str, source: Path) -> Path | None:
    """Put a backup in the place of the database at `url`, upgrading it to this SAWYER's schema.

    What was there before is kept beside it, and the path of that copy returned. Stop servers first: what they are told
    meanwhile would go into the old contents.

    Raises:
        UsageError: it is no SQLite database, or there is no such backup. StoreError: the backup is damaged or not
            SAWYER's, or the database cannot be written; it is then as it was.
    """
    database = _file_of(url, f"pg_restore --clean --if-exists --dbname={_hidden(url)} {shlex.quote(str(source))}")
    if not source.is_file():
        raise UsageError(f"There is no backup {source}.")
    try:
        _checked(source)
        kept = None
        if database.exists():
            kept = database.with_name(f"{database.name}.before-{time.strftime('%Y%m%d-%H%M%S')}")
            _copy(database, kept)
        database.parent.mkdir(parents=True, exist_ok=True)
        _copy(source, database)
    except (OSError, sqlite3.Error) as error:
        raise StoreError(f"{source} could not be restored to {database}: {error}.") from error
    FeedbackStore.open(url).close()
    return kept


def _file_of(url: str, instead: str) -> Path:
    parsed = make_url(url)
    if parsed.get_backend_name() != "sqlite" or not parsed.database:
        raise UsageError(f"This command copies SQLite files; PostgreSQL has its own: {instead}")
    return Path(parsed.database)


def _hidden(url: str) -> str:
    return shlex.quote(make_url(url).set(drivername="postgresql").render_as_string(hide_password=True))


def _copy(source: Path, target: Path) -> None:
    """SQLite's online backup: a consistent copy, replacing what the target held in one transaction."""
    with _opened(source) as reading, contextlib.closing(sqlite3.connect(target, timeout=30)) as writing:
        reading.backup(writing)


def _checked(file: Path) -> int:
    """The number of votes in a sound database of SAWYER's."""
    with _opened(file) as connection:
        (state,) = connection.execute("PRAGMA integrity_check(1)").fetchone()
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if state != "ok" or not {VERSION_TABLE, "votes"} <= tables:
            reason = state if state != "ok" else "it is not a database of SAWYER's"
            raise sqlite3.DatabaseError(f"{file} cannot be used: {reason}")
        return connection.execute("SELECT count(*) FROM votes").fetchone()[0]


@contextmanager
def _opened(file: Path) -> Iterator[sqlite3.Connection]:
    if not file.exists():
        raise FileNotFoundError(f"{file} is not there")
    with contextlib.closing(sqlite3.connect(file, timeout=30)) as connection:
        yield connection


def _remove(temporary: Path) -> None:
    for suffix in ("", "-wal", "-shm", "-journal"):
        with contextlib.suppress(OSError):
            temporary.with_name(temporary.name + suffix).unlink()
