"""`sawyer demo` and `sawyer chat` as a newcomer meets them: the shipped nano model, a question, a vote that stays."""

import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

ROOT = Path(__file__).resolve().parents[1]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "120"}


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path, subprocess.Popen]]:
    """A running demo: its address, its home and its process."""
    home = tmp_path_factory.mktemp("home")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-m", "sawyer.cli.app", "demo", "--port", str(port), "--home", str(home)],
        cwd=ROOT, env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    address = f"http://127.0.0.1:{port}"
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        assert process.poll() is None, process.stderr.read()
        try:
            if httpx.get(f"{address}/readyz", timeout=5).status_code == 200:
                break
        except httpx.TransportError:
            pass
        time.sleep(0.3)
    else:
        process.kill()
        pytest.fail("the demo was not ready within two minutes")
    yield address, home, process
    process.send_signal(signal.SIGKILL)
    process.wait()


def compare(address: str, question: str) -> list[dict]:
    body = {"messages": [{"role": "user", "content": question}], "max_tokens": 24, "seed": 1}
    with httpx.stream("POST", f"{address}/v1/compare", json=body, timeout=60) as answer:
        assert answer.status_code == 200
        return [json.loads(line[5:]) for line in answer.iter_lines() if line.startswith("data:")]


def test_a_question_fills_three_panes_and_a_vote_lands_in_the_database(demo):
    address, home, _ = demo
    events = compare(address, "Who are you?")
    turn = next(event["turn_id"] for event in events if "turn_id" in event)
    done = {event["stage"]: event for event in events if event.get("done")}
    assert set(done) == {"base", "sft", "rlf"}
    assert all(event["tokens"] > 0 and event["reward"] is not None for event in done.values())
    vote = httpx.post(f"{address}/v1/feedback/votes", json={"turn_id": turn, "choice": "rlf"}, timeout=30)
    assert vote.status_code == 201
    with sqlite3.connect(home / "sawyer.db") as database:
        assert database.execute("select choice from votes").fetchall() == [("rlf",)]
        assert database.execute("select count(*) from completions").fetchone() == (3,)


def test_the_page_is_served_beside_the_api(demo):
    address, *_ = demo
    assert "SAWYER" in httpx.get(address, timeout=30).text


def test_a_vote_outlives_a_killed_server(demo):
    """Last use of this server: the answer 201 means that the vote is on the disk."""
    address, home, process = demo
    turn = next(event["turn_id"] for event in compare(address, "Hello!") if "turn_id" in event)
    assert httpx.post(f"{address}/v1/feedback/votes", json={"turn_id": turn, "choice": "sft"}).status_code == 201
    process.send_signal(signal.SIGKILL)
    process.wait()
    with sqlite3.connect(home / "sawyer.db") as database:
        assert ("sft",) in database.execute("select choice from votes").fetchall()


def test_chat_in_the_terminal_keeps_votes(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "sawyer.cli.app", "chat", "nano", "--home", str(tmp_path)],
        cwd=ROOT, env=ENVIRONMENT, input="Hello!\n3\nWho are you?\nt\n", capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert all(name in done.stdout for name in ("BASE", "SFT", "RLF"))
    with sqlite3.connect(tmp_path / "sawyer.db") as database:
        assert [row[0] for row in database.execute("select choice from votes order by seq")] == ["rlf", "tie"]
