"""The closed loop with nothing left out: people vote, a round is begun over HTTP, stopped there and gone on with by the
command, trains for real, is promoted, and a server that runs beside it all answers with the new version.

The model is `tiny`, the people are simulated: benchmarks/loop.py has the same in five rounds and three towns.
"""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from benchmarks.loop import PEOPLE, TINY, Town, sawyer
from sawyer.evaluation.stats import compare
from sawyer.home import Home
from sawyer.recipe import load_recipe, save_resolved
from sawyer.rounds import RoundBook
from sawyer.simulated import crowd, hold_votes
from sawyer.store import FeedbackStore
from serve.keys import KeyFile
from tests.serve.server_process import ROOT, free_port

# Twice the votes of a round of the benchmark, of people who are surer of themselves, and a gate content with less: here
# the round must end in a promotion. That it does without is what benchmarks/loop.py measures.
VOTES, NOISE = 600, 0.1
SETTINGS = [*TINY, "ppo.steps=40", "round.gate.level=0.8"]
PATIENCE = 1200  # seconds for a step on a busy machine; an idle one takes a tenth

pytestmark = [pytest.mark.slow, pytest.mark.long, pytest.mark.timeout(5400)]


@contextmanager
def served(recipe: Path, home: Home, key: str) -> Iterator[httpx.Client]:
    """`sawyer serve`, once it can answer."""
    port = free_port()
    command = [sys.executable, "-m", "sawyer.cli.app", "serve", str(recipe), "--port", str(port)]
    with (home.root / "server.log").open("w") as log:
        process = subprocess.Popen([*command, "--home", str(home.root)], cwd=ROOT, stderr=log)
    headers = {"Authorization": f"Bearer {key}"}
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", headers=headers, timeout=120) as client:

            def ready() -> bool:
                assert process.poll() is None, (home.root / "server.log").read_text()
                try:
                    return client.get("/readyz").status_code == 200
                except httpx.TransportError:
                    return False

            until(ready)
            yield client
    finally:
        process.terminate()
        process.wait(60)


def until(there: Callable[[], Any]) -> Any:
    """What ``there`` says once that is something."""
    end = time.monotonic() + PATIENCE
    while not (found := there()):
        assert time.monotonic() < end, f"not within {PATIENCE} seconds"
        time.sleep(0.2)
    return found


def models_of(client: httpx.Client) -> dict[str, str]:
    """What /v1/models shows: each name and the version behind it."""
    return {each["id"]: each["root"] for each in client.get("/v1/models").json()["data"]}


def said(client: httpx.Client, model: str) -> str:
    asked = [{"role": "user", "content": "How do I make tea?"}]
    body = {"model": model, "messages": asked, "max_tokens": 12, "temperature": 0}
    answer = client.post("/v1/chat/completions", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()["choices"][0]["message"]["content"]


@pytest.fixture
def town(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Town:
    """A trained tiny model in a home of its own, and the prompts that its people are asked."""
    monkeypatch.setenv("SAWYER_RATE_LIMIT", "off")
    home = Home(tmp_path / "town")
    sawyer(["pipeline", "tiny", "--home", str(home.root), "--set", "threads=1"])
    return Town("honest", "tiny", SETTINGS, home.ensure(), VOTES)


def test_votes_become_the_version_that_is_served(town: Town, tmp_path: Path) -> None:
    home, recipe = town.home, tmp_path / "tiny.yaml"
    save_resolved(load_recipe("tiny", SETTINGS), recipe)
    _, key = KeyFile(home.root).add("admin")
    liked = [town.utility()]
    with served(recipe, home, key) as client:
        before, first = models_of(client), said(client, "sawyer-rlf")
        with FeedbackStore.open(home.db_url) as store:
            assert hold_votes(store, town.recipe, home, crowd(PEOPLE, noise=NOISE), town.asked[:VOTES], seed=1) > 400

        stop_and_go_on(client, recipe, home)
        liked.append(town.utility())

        assert before["sawyer-rlf"] == "sawyer-rlf@1"
        until(lambda: models_of(client)["sawyer-rlf"] == "sawyer-rlf@2")
        assert said(client, "sawyer-rlf@1") == first and said(client, "sawyer-rlf") != first

        sawyer(["models", "rollback", "tiny", "rlf", "--home", str(home.root)])
        until(lambda: models_of(client)["sawyer-rlf"] == "sawyer-rlf@1")
        assert said(client, "sawyer-rlf") == first
    found = compare(*liked)
    assert found.difference.low > 0, f"what people secretly like did not rise: {found.difference}"


def stop_and_go_on(client: httpx.Client, recipe: Path, home: Home) -> None:
    """A round begun over HTTP, stopped there while it trains, and brought to its end by the command."""

    def round_now() -> dict[str, Any]:
        return client.get("/v1/admin/rounds/1").json()

    assert client.post("/v1/admin/rounds", json={}).status_code == 202
    until(lambda: round_now()["step"] == "reward")
    assert client.post("/v1/admin/rounds", json={}).status_code == 409
    holder = RoundBook(home, "tiny").lock.holder()
    assert holder is not None and holder.pid is not None
    assert client.post("/v1/admin/rounds/1/stop").status_code == 200
    until(lambda: round_now()["state"] == "interrupted" and not Path(f"/proc/{holder.pid}").exists())
    assert client.get("/v1/admin/rounds").json()["can_start"] is None

    sawyer(["round", str(recipe), "--resume", "--home", str(home.root)])
    found = round_now()
    assert found["state"] == "promoted", found["reasons"]
    assert [step["state"] for step in found["steps"]] == ["done"] * 7
