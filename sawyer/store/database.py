"""One database: opening it, bringing its schema up to date, and transactions with readable errors."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from alembic.operations import Operations
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, create_engine, event, inspect, make_url, text
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, OperationalError, SQLAlchemyError
from sqlalchemy.pool import ConnectionPoolEntry

from sawyer.errors import StoreError
from sawyer.store.errors import Invalid, describe, explain
from sawyer.store.schema import FOLD, metadata

# Alembic's default name, alembic_version, would collide with another program's in a shared PostgreSQL.
VERSION_TABLE = "sawyer_schema"
MIGRATIONS = Path(__file__).parent / "migrations"
_ADVISORY_LOCK = 0x5341575945520001  # "SAWYER", 1: one process migrates a PostgreSQL at a time
_APPLICATION_ID = 0x53415759  # "SAWY" in the file's header, for file(1)
_WRITE = "sawyer_write"


class Database:
    """An open feedback database whose schema is current. Safe to share between threads.

    `read` and `write` are transactions; whatever the database raises inside comes out as a StoreError.
    On SQLite every commit is on the disk (WAL, synchronous=FULL) before `write` returns.
    """

    def __init__(self, engine: Engine, busy_seconds: float):
        self.engine = engine
        self.busy_seconds = busy_seconds
        self.is_sqlite = engine.dialect.name == "sqlite"
        self._writer = engine.execution_options(**{_WRITE: True})
        # SQLite lets one connection write. Waiting here is fair and instant; its own waiting polls.
        self._turnstile = threading.Lock()

    @classmethod
    def open(cls, url: str, busy_seconds: float) -> "Database":
        """Connect, refuse what is not ours, migrate to the newest schema.

        Raises:
            StoreError: the URL is wrong, or the database cannot be opened, is read-only, full, locked for
                longer than `busy_seconds`, damaged, another program's, or of a newer SAWYER.
        """
        database = cls(_engine(url, busy_seconds), busy_seconds)
        try:
            with database.read() as connection:
                database._refuse_foreign(connection)
            if database.is_sqlite:
                database._switch_to_wal()
            with database.write() as connection:
                database._migrate(connection)
        except BaseException:
            database.close()
            raise
        return database

    def close(self) -> None:
        self.engine.dispose()

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A read transaction: one consistent snapshot on SQLite."""
        with self._explained(), self.engine.begin() as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A write transaction that holds the write lock from its start, so what it read stays true."""
        with self._explained(), self._alone(), self._writer.begin() as connection:
            yield connection

    def scrub(self) -> None:
        """Make sure that what was deleted or overwritten is gone from the file as well, not only from the tables.

        SQLite overwrites freed pages (secure_delete), but old ones wait in the write-ahead log until it is emptied,
        which readers may hold up; then the next checkpoint does it. PostgreSQL's vacuum runs by itself.
        """
        if self.is_sqlite:
            with self._explained(), self._alone(), self.engine.connect() as connection:
                raw = connection.connection.driver_connection
                assert raw is not None
                raw.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()

    @contextmanager
    def _alone(self) -> Iterator[None]:
        if not self.is_sqlite:
            yield
            return
        if not self._turnstile.acquire(timeout=self.busy_seconds):
            raise StoreError(
                f"{describe(self.engine.url)} is busy: other writes of this process took longer than"
                f" {self.busy_seconds:g} seconds. Nothing was changed; try again."
            )
        try:
            yield
        finally:
            self._turnstile.release()

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except SQLAlchemyError as error:
            raise explain(error, self.engine.url, self.busy_seconds) from error
        except OverflowError as error:  # a Python int beyond 64 bits, on its way into a column
            raise Invalid("A number is too large to be stored: at most 64 bits, signed.") from error

    def _switch_to_wal(self) -> None:
        # SQLite does not call its busy handler for this switch, so two first starts at once could
        # fail each other; the mode is a property of the file and needs setting only once.
        deadline = time.monotonic() + self.busy_seconds
        while True:
            with self._explained(), self.engine.connect() as connection:
                raw = connection.connection.driver_connection
                assert raw is not None
                try:
                    raw.execute("PRAGMA journal_mode=WAL").fetchone()
                    return
                except raw.OperationalError as error:
                    busy = str(error.sqlite_errorname).startswith("SQLITE_BUSY")
                    if not busy or time.monotonic() > deadline:
                        raise OperationalError("PRAGMA journal_mode=WAL", None, error) from error
            time.sleep(0.02)

    def _refuse_foreign(self, connection: Connection) -> None:
        present = set(inspect(connection).get_table_names())
        if VERSION_TABLE in present or not present:
            return
        # A PostgreSQL schema may be shared as long as no name is taken; an SQLite file may not.
        taken = present if self.is_sqlite else present & set(metadata.tables)
        if taken:
            raise StoreError(
                f"{describe(self.engine.url)} belongs to another program (it has tables"
                f" {', '.join(sorted(taken)[:5])} but no {VERSION_TABLE}). SAWYER left it as it is: name"
                " another database in SAWYER_DB or another folder in SAWYER_HOME."
            )

    def _migrate(self, connection: Connection) -> None:
        if self.is_sqlite:
            # Proves that the file can be written, which BEGIN IMMEDIATE alone does not.
            connection.exec_driver_sql(f"PRAGMA application_id={_APPLICATION_ID}")
        else:
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _ADVISORY_LOCK})
        self._refuse_foreign(connection)
        scripts = ScriptDirectory(str(MIGRATIONS))
        known = {script.revision for script in scripts.walk_revisions()}

        # Alembic calls this with the revision found; _upgrade_revs is what its own `upgrade` command uses.
        def steps(found: Any, context: MigrationContext) -> Any:
            return scripts._upgrade_revs("head", found)

        options = {"version_table": VERSION_TABLE, "transactional_ddl": True, "fn": steps}
        context = MigrationContext.configure(connection, opts=options)
        found = context.get_current_revision()
        if found is not None and found not in known:
            raise StoreError(
                f"{describe(self.engine.url)} was written by a newer SAWYER (schema {found}; this one knows"
                f" up to {scripts.get_current_head()}). Upgrade SAWYER or name another SAWYER_DB."
            )
        if found == scripts.get_current_head():
            return
        with Operations.context(context):
            context.run_migrations()


# When a server is taken to be gone that says nothing (a cable, a firewall): else TCP waits a quarter of an hour.
_GONE = {
    "connect_timeout": 5,
    "keepalives_idle": 5,
    "keepalives_interval": 3,
    "keepalives_count": 3,
    "tcp_user_timeout": 15_000,  # milliseconds
}


def _engine(url: str, busy_seconds: float) -> Engine:
    try:
        parsed = make_url(url)
        backend = parsed.get_backend_name()
    except ArgumentError as error:
        # The text itself is not repeated: it may hold a password.
        raise StoreError(
            "SAWYER_DB is not a database URL. Allowed: sqlite:///folder/sawyer.db or"
            " postgresql://user:password@host/database."
        ) from error
    if backend not in ("sqlite", "postgresql"):
        raise StoreError(
            f"SAWYER_DB names a {backend} database. Allowed: sqlite:///folder/sawyer.db or"
            " postgresql://user:password@host/database."
        )
    if backend == "sqlite" and parsed.database in (None, "", ":memory:"):
        raise StoreError("SAWYER_DB must name a file, for example sqlite:///folder/sawyer.db, so votes last.")
    try:
        if backend == "sqlite":
            engine = create_engine(
                parsed, connect_args={"timeout": busy_seconds}, pool_timeout=busy_seconds, max_overflow=32
            )
            event.listen(engine, "connect", _set_up_sqlite)
            event.listen(engine, "begin", _begin_sqlite)
            return engine
        arguments = {"options": f"-c lock_timeout={int(busy_seconds * 1000)}"} | _GONE
        return create_engine(parsed, connect_args=arguments, pool_pre_ping=True, max_overflow=32)
    except (ModuleNotFoundError, NoSuchModuleError) as error:
        raise StoreError(
            f"SAWYER_DB names a {parsed.drivername} database, whose driver is not installed ({error})."
            " Install it, for example: pip install 'psycopg[binary]'."
        ) from error


def _set_up_sqlite(raw: Any, _entry: ConnectionPoolEntry) -> None:
    raw.isolation_level = None  # the driver must not open transactions of its own; _begin_sqlite does
    raw.create_function(FOLD, 1, _folded, deterministic=True)
    raw.execute("PRAGMA foreign_keys=ON")
    raw.execute("PRAGMA synchronous=FULL")  # in WAL mode: fsync at each commit
    raw.execute("PRAGMA secure_delete=ON")  # who asks to be forgotten is not left in the file's free pages
    raw.execute("PRAGMA fullfsync=ON")  # macOS: plain fsync does not reach the medium; no effect elsewhere


def _folded(text: str | None) -> str | None:
    """SQLite's own lower() knows ASCII alone."""
    return None if text is None else text.casefold()


def _begin_sqlite(connection: Connection) -> None:
    # IMMEDIATE takes the write lock now: a transaction that reads first and writes later would
    # otherwise fail half-way, with no waiting, when another writer came between.
    writing = connection.get_execution_options().get(_WRITE, False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writing else "BEGIN")
