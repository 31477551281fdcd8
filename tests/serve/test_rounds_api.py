"""Rounds over HTTP: a book with real records, and a starter that records what it was asked."""

import os

import pytest
from fastapi.testclient import TestClient

from sawyer.home import Home
from sawyer.rounds import Diary, RoundBook
from sawyer.types import GateCondition, RoundDetail, RoundList, RoundSummary, StartRound
from serve.access import Access
from serve.app import create_app
from serve.keys import KeyFile, Keyring
from serve.limits import Unlimited


class FakeStarter:
    """Begins a round and holds its lock, as the process would, until it is let go."""

    def __init__(self, book, recipe) -> None:
        self.book, self.recipe = book, recipe
        self.asked: list[StartRound] = []
        self.held = None

    def __call__(self, asked: StartRound) -> RoundSummary:
        self.asked.append(asked)
        held = self.book.lock.held()
        file = held.__enter__()
        self.held = held
        record = self.book.create(self.recipe, asked.method, dry_run=asked.dry_run)
        self.book.lock.sign(file, os.getpid(), record.number)
        return RoundSummary.model_validate(record.model_dump())

    def let_go(self) -> None:
        if self.held is not None:
            self.held.__exit__(None, None, None)
            self.held = None


@pytest.fixture
def book(tmp_path, recipe):
    return RoundBook(Home(tmp_path / "home").ensure(), recipe.name)


@pytest.fixture
def starter(book, recipe):
    made = FakeStarter(book, recipe)
    yield made
    made.let_go()


@pytest.fixture
def admin(engine, store, recipe, book, starter, tmp_path):
    file = KeyFile(tmp_path)
    _, key = file.add("admin")
    app = create_app(
        engine,
        store,
        recipe=recipe,
        rate_limit=Unlimited(),
        access=Access(Keyring(file)),
        rounds=book,
        start_round=starter,
    )
    with TestClient(app, raise_server_exceptions=False, headers={"Authorization": f"Bearer {key}"}) as client:
        yield client


def test_starting_watching_and_a_second_one_refused(admin, book, starter) -> None:
    empty = RoundList.model_validate(admin.get("/v1/admin/rounds").json())
    assert empty.rounds == [] and empty.can_start is None
    answer = admin.post("/v1/admin/rounds", json={"method": "dpo", "dry_run": True})
    assert answer.status_code == 202
    begun = RoundSummary.model_validate(answer.json())
    assert (begun.number, begun.state, begun.method) == (1, "running", "dpo")
    assert starter.asked == [StartRound(method="dpo", dry_run=True)]

    refused = admin.post("/v1/admin/rounds", json={})
    assert refused.status_code == 409 and "Round 1 of test is running" in refused.json()["error"]["message"]
    assert "Round 1" in admin.get("/v1/admin/rounds").json()["can_start"]
    starter.let_go()
    assert RoundList.model_validate(admin.get("/v1/admin/rounds").json()).rounds[0].state == "interrupted"


def test_a_refused_round_says_why(admin, book, recipe) -> None:
    with book.lock.held():
        record = book.create(recipe, "ppo", dry_run=False)
        diary = Diary(book, record)
        condition = GateCondition(name="KL", measured="20 nats", allowed="at most 15", met=False)
        diary.update(conditions=[condition], figures={"kl": 20.0})
        diary.end("refused", ["KL: 20 nats; allowed: at most 15."])
    found = RoundDetail.model_validate(admin.get("/v1/admin/rounds/1").json())
    assert (found.state, found.reasons) == ("refused", ["KL: 20 nats; allowed: at most 15."])
    assert found.conditions == [condition] and found.figures == {"kl": 20.0} and found.log


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "text"),
    [
        ("GET", "/v1/admin/rounds/7", None, 404, "There is no round 7"),
        ("GET", "/v1/admin/rounds/x", None, 400, "number"),
        ("POST", "/v1/admin/rounds/7/stop", None, 404, "There is no round 7"),
        ("POST", "/v1/admin/rounds", {"method": "magic"}, 400, "method"),
        ("POST", "/v1/admin/rounds", {"methode": "ppo"}, 400, "methode"),
    ],
)
def test_wrong_requests_are_explained(admin, method, path, body, status, text) -> None:
    answer = admin.request(method, path, json=body)
    assert answer.status_code == status and text in answer.json()["error"]["message"]


def test_stopping_one_that_does_not_run_is_refused(admin, book, recipe) -> None:
    with book.lock.held():
        book.create(recipe, "ppo", dry_run=False)
    answer = admin.post("/v1/admin/rounds/1/stop")
    assert answer.status_code == 409 and "it is interrupted" in answer.json()["error"]["message"]


def test_rounds_take_an_admin_and_a_server_that_can(engine, store, recipe, book) -> None:
    app = create_app(engine, store, recipe=recipe, rate_limit=Unlimited(), rounds=book)
    with TestClient(app) as client:
        assert client.get("/v1/admin/rounds").status_code == 401
