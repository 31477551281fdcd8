"""The board over HTTP: from votes cast to figures, for many viewers at once."""

import asyncio
import threading

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

import serve.board_api
from sawyer.errors import StoreError
from sawyer.types import Board, BoardQuery, RoundSummary
from serve.board_api import KEPT, WAITING, Boards, make_router
from serve.errors import ApiError
from serve.metrics import Metrics
from serve.recorder import Recorder
from serve.scorer import NoScorer
from serve.service import Service

HI = [{"role": "user", "content": "hi"}]


@pytest.fixture
def turn(store):
    return ask(store)


def ask(store):
    turn = store.add_turn(store.add_conversation(), HI)
    for stage in ("base", "sft", "rlf"):
        fields = {"prompt_text": "hi", "text": stage, "tokens": 3, "finish_reason": "stop"}
        store.add_completion(turn, stage, adapter_version=f"{stage}@2", **fields)
    return turn


def test_votes_are_on_the_board(client, store, monkeypatch):
    monkeypatch.setattr(serve.board_api, "FRESH_SECONDS", 0.0)
    monkeypatch.setattr(serve.board_api, "SHARE", 1e9)
    turns = [ask(store), ask(store)]
    assert client.get("/v1/feedback/board").json()["votes"] == 0
    for turn, choice in zip(turns, ("rlf", "tie"), strict=True):
        assert client.post("/v1/feedback/votes", json={"turn_id": turn, "choice": choice}).status_code == 201
    board = Board.model_validate(client.get("/v1/feedback/board").json())
    assert (board.votes, board.voters, board.choices["rlf"], board.choices["tie"]) == (2, 2, 1, 1)
    assert [(pair.first, pair.second, pair.n) for pair in board.pairs][-1] == ("sft", "rlf", 2)
    versions = client.get("/v1/feedback/board", params={"by": "version", "blind": "false"}).json()
    assert versions["contestants"] == ["base@2", "sft@2", "rlf@2"] and versions["by"] == "version"
    assert versions["blind"] is False and versions["votes"] == 2
    assert client.get("/v1/feedback/board", params={"since": 4e9}).json()["votes"] == 0


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ({"by": "model"}, "by: input should be 'stage' or 'version' (given 'model')"),
        ({"blind": "perhaps"}, "blind: "),
        ({"since": "yesterday"}, "since: "),
        ({"since": "nan"}, "since: "),
        ({"since": 20, "until": 10}, "since (20.0) must be before until (10.0); swap them"),
        ({"stage": "rlf"}, "stage: "),
    ],
)
def test_bad_queries_are_refused_in_words(client, query, words):
    answer = client.get("/v1/feedback/board", params=query)
    assert answer.status_code == 400 and words in answer.json()["error"]["message"], answer.text


def test_a_store_that_cannot_be_read_is_a_503(client, store, monkeypatch):
    def locked():
        raise StoreError("The feedback database /home/someone/sawyer.db is locked")

    monkeypatch.setattr(store, "revision", locked)
    answer = client.get("/v1/feedback/board")
    assert answer.status_code == 503 and "someone" not in answer.text


class Counting:
    """A store that counts how often it is looked at, and can be made to wait."""

    def __init__(self, store):
        self._store, self.looks, self.go_on = store, 0, threading.Event()
        self.go_on.set()

    def revision(self):
        self.looks += 1
        assert self.go_on.wait(10)
        return self._store.revision()

    def __getattr__(self, name):
        return getattr(self._store, name)


def test_many_viewers_cost_one_look(store, turn):
    counting = Counting(store)
    store.add_vote(turn, "rlf")

    async def watch():
        boards = Boards(counting)
        counting.go_on.clear()
        viewers = [asyncio.ensure_future(boards.get(BoardQuery())) for _ in range(WAITING)]
        await asyncio.sleep(0.05)
        with pytest.raises(ApiError, match="requests wait for a board already") as refused:
            await boards.get(BoardQuery())
        counting.go_on.set()
        return refused.value.status, await asyncio.gather(*viewers, boards_later(boards, viewers))

    async def boards_later(boards, viewers):
        await viewers[-1]
        return await boards.get(BoardQuery())

    status, found = asyncio.run(watch())
    assert status == 429 and counting.looks == 1 and len({id(board) for board in found}) == 1


def test_an_unchanged_store_gives_the_same_board_and_old_queries_are_forgotten(store, turn, monkeypatch):
    monkeypatch.setattr(serve.board_api, "FRESH_SECONDS", 0.0)
    monkeypatch.setattr(serve.board_api, "SHARE", 1e9)
    store.add_vote(turn, "rlf", voter="ada")

    async def watch():
        boards = Boards(store)
        first = await boards.get(BoardQuery())
        assert await boards.get(BoardQuery()) is first
        store.undo_vote(turn, "ada")
        second = await boards.get(BoardQuery())
        assert (first.votes, second.votes) == (1, 0)
        for at in range(1, KEPT + 1):
            await boards.get(BoardQuery(since=at))
        assert await boards.get(BoardQuery()) is not second

    asyncio.run(watch())


def test_rounds_are_read_anew_each_time(engine, store, recipe):
    summaries, metrics = [], Metrics()
    recorder = Recorder(store, NoScorer(), metrics, recipe.name)
    service = Service(engine, recorder, NoScorer(), metrics, recipe, started=0)
    alone = FastAPI()
    alone.include_router(make_router(service, lambda: summaries))
    with TestClient(alone) as asked:
        assert asked.get("/v1/feedback/board").json()["rounds"] == []
        summaries.append(RoundSummary(number=1, recipe="nano", method="ppo", state="promoted", created=1.0))
        assert asked.get("/v1/feedback/board").json()["rounds"][0]["state"] == "promoted"
