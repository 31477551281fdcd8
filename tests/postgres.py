"""A private PostgreSQL on the loopback, for the tests of a session; they are skipped where it is not installed."""

import itertools
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import psycopg

_numbers = itertools.count()


def programs() -> Path | None:
    """The folder of ``initdb`` and ``pg_ctl``; Debian keeps them off the path."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/pg_ctl"), key=lambda file: int(file.parts[-3]))
    onpath = shutil.which("pg_ctl")
    return found[-1].parent if found else Path(onpath).resolve().parent if onpath else None


@dataclass(frozen=True)
class Cluster:
    """A running one: its address, to which a database's name is added, and its `pg_ctl`."""

    address: str
    control: Callable[..., None]

    def stop(self) -> None:
        """As by pulling the plug."""
        self.control("-m", "immediate", "stop")

    def start(self) -> None:
        self.control("-w", "start")


@contextmanager
def cluster() -> Iterator[Cluster]:
    """Start one in a folder of its own; it is stopped in the end.

    Not in pytest's folders: each session closes them to other users, of which PostgreSQL is one where root runs tests.
    """
    where = programs()
    assert where is not None
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    folder = Path(tempfile.mkdtemp(prefix="sawyer-postgres-"))
    data, as_user = folder / "data", []
    if os.getuid() == 0:  # PostgreSQL refuses to run as root
        user = pwd.getpwnam("postgres")
        os.chown(folder, user.pw_uid, user.pw_gid)
        as_user = ["runuser", "-u", "postgres", "--"]

    def call(program: str, *arguments: str) -> None:
        command = [*as_user, str(where / program), *arguments]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"

    options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories='' -c shared_buffers=16MB"
    call("initdb", "-D", str(data), "-U", "sawyer", "--auth=trust", "-E", "UTF8", "--locale=C", "--no-sync")
    control = partial(call, "pg_ctl", "-D", str(data), "-l", str(folder / "log"), "-o", options)
    server = Cluster(f"postgresql://sawyer@127.0.0.1:{port}", control)
    server.start()
    try:
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)


def new_database(address: str) -> str:
    """The URL of an empty database in the cluster."""
    name = f"test_{next(_numbers)}"
    with psycopg.connect(f"{address}/postgres", autocommit=True) as connection:
        connection.execute(f"create database {name}")
    return f"{address}/{name}"
