"""The database is gone for a while: votes are answered 503 with a time to come back, none is lost, none is doubled, and
the server goes on by itself when it is back.
"""

import resource
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import psycopg
import pytest

from tests.postgres import cluster, new_database, programs
from tests.serve.server_process import running

ASK = {"model": "sawyer-rlf", "messages": [{"role": "user", "content": "hi"}]}
VOTERS = 6
AWAY = [4.0, pytest.param(60.0, marks=[pytest.mark.slow, pytest.mark.long])]


class Voter(threading.Thread):
    """Sends votes, each under a key of its own, again and again until it is answered for."""

    def __init__(self, address: str, turn: str, number: int, stop: threading.Event) -> None:
        super().__init__(daemon=True)
        self.address, self.turn, self.number, self.stop = address, turn, number, stop
        self.answered: dict[str, str] = {}
        self.refused: list[httpx.Response] = []
        self.other: list[str] = []

    def run(self) -> None:
        with httpx.Client(base_url=self.address, timeout=30) as client:
            while not self.stop.is_set():
                self._vote(client, f"{self.number} {len(self.answered)}")
                time.sleep(0.02)

    def _vote(self, client: httpx.Client, key: str) -> None:
        body = {"turn_id": self.turn, "choice": "rlf", "voter": key}
        while True:  # also after the end: a vote that was begun is brought home
            answer = client.post("/v1/feedback/votes", json=body, headers={"Idempotency-Key": key})
            if answer.status_code == 201:
                self.answered[key] = answer.json()["vote_id"]
                return
            if answer.status_code != 503:
                self.other.append(answer.text)
                return
            self.refused.append(answer)
            time.sleep(0.2)  # sooner than the server asks for: the more tries, the harder the test


def vote_through(home: Path, away: Callable[[int, float], None], seconds: float, *options: str) -> list[Voter]:
    """Let people vote before, while and after the database is away (``away`` gets the server's process id)."""
    with running(home, "--delay", "0", "--busy-seconds", "1", *options) as (address, process):
        turn = httpx.post(f"{address}/v1/chat/completions", json=ASK).json()["metadata"]["turn_id"]
        stop = threading.Event()
        voters = [Voter(address, turn, number, stop) for number in range(VOTERS)]
        for voter in voters:
            voter.start()
        more_votes(voters, "the server does not take votes")
        away(process.pid, seconds)
        more_votes(voters, "the server does not recover by itself")
        stop.set()
        for voter in voters:
            voter.join(30)
        assert process.poll() is None
    return voters


def more_votes(voters: list[Voter], fault: str) -> None:
    """Wait until some more votes are answered for."""
    patience, before = time.monotonic() + 60, sum(len(voter.answered) for voter in voters)
    while sum(len(voter.answered) for voter in voters) < before + 2 * VOTERS:
        assert time.monotonic() < patience, fault
        time.sleep(0.05)


def check(voters: list[Voter], rows: list[tuple[str, str]]) -> None:
    """``rows`` are (id, idempotency key) of the store's votes."""
    answered = {key: vote_id for voter in voters for key, vote_id in voter.answered.items()}
    assert [text for voter in voters for text in voter.other] == []
    assert set(Counter(key for _, key in rows).values()) == {1}, "doubled"
    assert {key: vote_id for vote_id, key in rows} == answered, "lost, or stored without a word"
    refused = [answer for voter in voters for answer in voter.refused]
    assert refused
    assert {answer.json()["error"]["code"] for answer in refused} == {"store_unavailable"}
    assert all(int(answer.headers["Retry-After"]) >= 1 for answer in refused)


def kept_in(home: Path) -> list[tuple[str, str]]:
    with sqlite3.connect(home / "sawyer.db") as database:
        assert database.execute("pragma integrity_check").fetchone() == ("ok",)
        return database.execute("select id, idempotency_key from votes").fetchall()


@pytest.fixture(autouse=True)
def unlimited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAWYER_RATE_LIMIT", "off")


@pytest.mark.parametrize("seconds", AWAY)
def test_another_program_locks_the_file(tmp_path: Path, seconds: float) -> None:
    def locked(_: int, seconds: float) -> None:
        other = sqlite3.connect(tmp_path / "sawyer.db", isolation_level=None)
        other.execute("begin immediate")
        time.sleep(seconds)
        other.execute("rollback")
        other.close()

    check(vote_through(tmp_path, locked, seconds), kept_in(tmp_path))


@pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="needs prlimit, which Linux has")
@pytest.mark.parametrize("seconds", AWAY)
def test_the_disk_takes_no_more(tmp_path: Path, seconds: float) -> None:
    def full(process: int, seconds: float) -> None:
        before = resource.prlimit(process, resource.RLIMIT_FSIZE)
        resource.prlimit(process, resource.RLIMIT_FSIZE, (4096, before[1]))  # no file of its grows, as on a full disk
        time.sleep(seconds)
        resource.prlimit(process, resource.RLIMIT_FSIZE, before)

    check(vote_through(tmp_path, full, seconds), kept_in(tmp_path))


@contextmanager
def shut(folder: Path) -> Iterator[None]:
    """Nothing in the folder can be opened for writing, nothing new be made in it."""
    files = [folder, *folder.iterdir()]
    modes = [file.stat().st_mode for file in files]
    for file, mode in zip(files, modes, strict=True):
        file.chmod(mode & ~0o222)
    yield
    for file, mode in zip(files, modes, strict=True):
        file.chmod(mode)


@pytest.mark.parametrize("seconds", AWAY)
def test_a_folder_that_becomes_read_only(tmp_path: Path, seconds: float) -> None:
    """Files that are open already are written on, which is as good: whatever was answered for is there, once."""

    def read_only(_: int, seconds: float) -> None:
        with shut(tmp_path):
            time.sleep(seconds)

    voters = vote_through(tmp_path, read_only, seconds)
    rows = kept_in(tmp_path)
    assert {key: vote_id for voter in voters for key, vote_id in voter.answered.items()} == {k: v for v, k in rows}
    assert len(rows) == len({key for _, key in rows})
    assert [text for voter in voters for text in voter.other] == []


@pytest.mark.skipif(programs() is None, reason="PostgreSQL is not installed")
@pytest.mark.parametrize("seconds", AWAY)
def test_postgresql_crashes_and_comes_back(tmp_path: Path, seconds: float) -> None:
    with cluster() as server:
        url = new_database(server.address)

        def crashed(_: int, seconds: float) -> None:
            server.stop()
            time.sleep(seconds)
            server.start()

        voters = vote_through(tmp_path, crashed, seconds, "--database", url)
        with psycopg.connect(url) as database:
            rows = database.execute("select id, idempotency_key from votes").fetchall()
    check(voters, rows)
