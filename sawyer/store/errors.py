"""What can go wrong with the store, in words that say what to do about it."""

import sqlite3

from sqlalchemy import URL
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, SQLAlchemyError

from sawyer.errors import StoreError


class NotFound(StoreError):
    """The conversation, turn, answer or vote that was named does not exist."""


class Conflict(StoreError):
    """An idempotency key was used before for a different request."""


class Invalid(StoreError):
    """A value the store cannot accept, whatever its state (an unknown choice, a ranking with repeats)."""


class NotShown(Invalid):
    """A vote's ``param`` (choice, ranking) names what was not on the screen, or several panes of it."""

    def __init__(self, param: str, message: str) -> None:
        super().__init__(message)
        self.param = param


class Clash(StoreError):
    """A concurrent writer got there first and a uniqueness rule was hit; trying again sees its row."""


# Prefix of SQLite's symbolic result code -> what happened and what to do. Longest prefixes are not
# needed: the codes below do not overlap. https://www.sqlite.org/rescode.html
_SQLITE_ADVICE = {
    "SQLITE_BUSY": "is locked: another program has been writing to it for {busy:g} seconds. Close the other"
    " program (a second server, a database browser, a backup) and try again; nothing was changed",
    "SQLITE_LOCKED": "is locked by another connection. Try again; nothing was changed",
    "SQLITE_READONLY": "cannot be written. Make the file and its folder writable for this user, or point"
    " SAWYER_HOME or SAWYER_DB to a place that is",
    "SQLITE_CANTOPEN": "cannot be opened. Check that its folder exists and that this user may write there,"
    " or point SAWYER_HOME or SAWYER_DB elsewhere",
    "SQLITE_FULL": "could not grow: the disk is full. Free some space and try again; everything stored before"
    " is intact, this change was not stored",
    "SQLITE_IOERR": "could not be read or written: the disk reported an error or is full. Free some space or"
    " check the disk, then try again; this change was not stored",
    "SQLITE_NOTADB": "is not an SQLite database. SAWYER left it as it is: move the file away or correct"
    " SAWYER_DB or SAWYER_HOME",
    "SQLITE_CORRUPT": "is damaged. SAWYER left it as it is: stop every program that uses it, copy the file,"
    " then restore a backup or salvage it with `sqlite3 FILE .recover`",
    "SQLITE_PERM": "may not be opened by this user. Correct the file's permissions or SAWYER_DB",
}


# PostgreSQL: serialization_failure, deadlock_detected. https://www.postgresql.org/docs/current/errcodes-appendix.html
_CLASHES = ("40001", "40P01")


def describe(url: URL) -> str:
    """The database in words, never with its password."""
    if url.get_backend_name() == "sqlite":
        return f"The feedback database {url.database}"
    return f"The feedback database {url.render_as_string(hide_password=True)}"


def explain(error: SQLAlchemyError, url: URL, busy_seconds: float) -> StoreError:
    """The one-paragraph StoreError for what SQLAlchemy raised. The driver's own words come last."""
    where = describe(url)
    cause = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
    words = " ".join(str(cause).split())
    if isinstance(error, IntegrityError) or getattr(cause, "sqlstate", None) in _CLASHES:
        return Clash(f"{where} refused a row that contradicts another one ({words}). Try again.")
    if isinstance(error, DataError):
        return Invalid(f"A value does not fit its column ({words}).")
    if isinstance(cause, sqlite3.Error):
        code = getattr(cause, "sqlite_errorname", None) or ""
        for prefix, advice in _SQLITE_ADVICE.items():
            if code.startswith(prefix):
                return StoreError(f"{where} {advice.format(busy=busy_seconds)} ({words}).")
    if isinstance(error, DBAPIError) and error.connection_invalidated:
        return StoreError(f"{where} does not answer ({words}). Nothing was stored; try again later.")
    return StoreError(
        f"{where} failed: {words}. Nothing was stored. Check that the server of SAWYER_DB runs and that this"
        " user may use the database."
    )
