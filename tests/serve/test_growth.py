"""What a server remembers of requests that are over: nothing that grows with their number."""

import gc
import time
import uuid

import pytest
from fastapi.testclient import TestClient

from serve import limits, scorer
from serve.app import create_app
from serve.limits import ClientLimits, Unlimited
from serve.scorer import BackgroundScorer

ROUNDS = 25
HI = [{"role": "user", "content": "hi"}]


class Constant:
    """A scorer that remembers nothing."""

    def score(self, prompts, responses):
        return [1.0 for _ in responses]


@pytest.fixture
def client(engine, store, recipe):
    app = create_app(engine, store, recipe=recipe, scorer=BackgroundScorer(Constant), rate_limit=Unlimited())
    with TestClient(app, raise_server_exceptions=False) as opened:
        yield opened


def one_round(client) -> None:
    """Every kind of request, each with an id, a path or a name of its own where a request can have one."""
    own = uuid.uuid4().hex
    headers = {"X-Request-ID": own, "X-Forwarded-For": f"10.0.0.{uuid.uuid4().int % 250}"}
    turn = client.post("/v1/compare", json={"messages": HI}, headers=headers).text
    turn_id = turn.split('"turn_id":"')[1].split('"')[0]
    vote = {"turn_id": turn_id, "choice": "rlf", "voter": own}
    assert client.post("/v1/feedback/votes", json=vote, headers={"Idempotency-Key": own}).status_code == 201
    asked = {"model": "sawyer-rlf", "messages": HI, "n": 2}
    assert client.post("/v1/chat/completions", json=asked, headers=headers).status_code == 200
    client.post("/v1/chat/completions", json=asked | {"model": own}, headers=headers)
    client.post("/v1/completions", json={"model": "sawyer-base", "prompt": own})
    for path in (f"/v1/{own}", f"/{own}", f"/v1/models/{own}", "/metrics", "/v1/feedback/stats", "/readyz"):
        client.get(path)
    client.request(own[:6].upper().translate(str.maketrans("0123456789", "ABCDEFGHIJ")), "/v1/models")


def held(client, engine) -> int:
    """Objects alive that the collector knows, without what the fake writes down."""
    engine.jobs.clear()
    engine.replies.clear()
    client.get("/healthz")
    gc.collect()
    return len(gc.get_objects())


def test_nothing_is_kept_of_requests_that_are_over(client, engine, monkeypatch):
    monkeypatch.setattr(scorer, "_tidy", lambda: None)  # imports torch, which a server with a reward model has
    for _ in range(ROUNDS):
        one_round(client)
    before, labels = held(client, engine), client.get("/metrics").text.count("\n")
    for _ in range(2 * ROUNDS):
        one_round(client)
    grown = held(client, engine) - before
    # Of some fifteen requests each; caches that end, such as that of parsed addresses, fill up meanwhile.
    assert grown < 16 * ROUNDS, f"{grown} objects more after {2 * ROUNDS} rounds"
    assert client.get("/metrics").text.count("\n") <= labels


def test_clients_who_ask_nothing_any_more_are_forgotten(monkeypatch):
    monkeypatch.setattr(limits, "FORGET_EVERY", 100)
    limit = ClientLimits()
    for number in range(500):
        limit.wait(f"client {number}", "GET", "/v1/models")
    assert len(limit._storage.events) == 500
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + 120)
    for _ in range(100):
        limit.wait("somebody", "GET", "/v1/models")
        time.sleep(0.005)  # the storage empties the lists on a thread of its own
    assert len(limit._storage.events) < 250


@pytest.mark.anyio
async def test_memory_is_given_back_while_there_is_something_to_score(monkeypatch):
    tidied: list[bool] = []
    monkeypatch.setattr(scorer, "_tidy", lambda: tidied.append(True))
    monkeypatch.setattr(scorer, "TIDY_SECONDS", 0.0)
    rewards = BackgroundScorer(Constant)
    assert await rewards.score(HI, "four") is not None
    rewards.close()
    assert tidied
