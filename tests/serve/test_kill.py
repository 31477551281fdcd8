"""A server killed while people vote: every vote that was answered 201 is in the store."""

import random
import signal
import sqlite3
import threading
import time
from pathlib import Path

import httpx
import psycopg
import pytest

from tests.serve.server_process import running

ASK = {"model": "sawyer-rlf", "messages": [{"role": "user", "content": "hi"}]}
VOTERS = 8
FEWEST = 20


def vote_on(address: str, turns: list[str], answered: list[str], seed: int) -> None:
    """Vote until the server is gone, and note each vote it has answered for."""
    draw = random.Random(seed)
    with httpx.Client(base_url=address, timeout=10) as client:
        for number in range(100_000):
            body = {"turn_id": draw.choice(turns), "choice": draw.choice(("rlf", "tie", "bad")), "voter": f"v{seed}"}
            try:
                answer = client.post("/v1/feedback/votes", json=body, headers={"Idempotency-Key": f"{seed} {number}"})
            except httpx.TransportError:
                return
            assert answer.status_code == 201, answer.text
            answered.append(answer.json()["vote_id"])


def kill_under_votes(home: Path, seconds: float, *options: str) -> list[str]:
    """The votes that a server answered for before it was killed."""
    with running(home, "--delay", "0", *options) as (address, process):
        turns = [httpx.post(f"{address}/v1/chat/completions", json=ASK).json()["metadata"]["turn_id"] for _ in range(5)]
        answered: list[str] = []
        voters = [threading.Thread(target=vote_on, args=(address, turns, answered, seed)) for seed in range(VOTERS)]
        for voter in voters:
            voter.start()
        patience = time.monotonic() + 60  # on busy cores the first votes take their time
        while len(answered) <= FEWEST and time.monotonic() < patience:
            time.sleep(0.01)
        time.sleep(seconds)
        process.send_signal(signal.SIGKILL)
        for voter in voters:
            voter.join(30)
    return answered


def check(answered: list[str], kept: set[str]) -> None:
    assert len(answered) > FEWEST
    assert set(answered) <= kept
    # Each voter may have had one vote under way whose answer never came.
    assert len(kept) - len(answered) <= VOTERS


SECONDS = [0.3, pytest.param(5.3, marks=pytest.mark.slow)]


@pytest.mark.parametrize("seconds", SECONDS)
def test_no_vote_that_was_answered_is_lost(tmp_path, monkeypatch, seconds):
    monkeypatch.setenv("SAWYER_RATE_LIMIT", "off")
    answered = kill_under_votes(tmp_path, seconds)
    with sqlite3.connect(tmp_path / "sawyer.db") as database:
        kept = {row[0] for row in database.execute("select id from votes")}
        assert database.execute("pragma integrity_check").fetchone() == ("ok",)
    check(answered, kept)


@pytest.mark.parametrize("seconds", SECONDS)
def test_nor_with_postgresql(tmp_path, monkeypatch, postgres, seconds):
    monkeypatch.setenv("SAWYER_RATE_LIMIT", "off")
    answered = kill_under_votes(tmp_path, seconds, "--database", postgres)
    with psycopg.connect(postgres) as database:
        kept = {row[0] for row in database.execute("select id from votes")}
    check(answered, kept)
