"""Votes, ratings and counts over a real store."""

import sqlite3

import pytest

from sawyer.errors import StoreError

HI = [{"role": "user", "content": "hi"}]


@pytest.fixture
def turn(client, store):
    meta = None
    for stage in ("base", "sft", "rlf"):
        body = {"model": f"sawyer-{stage}", "messages": HI}
        if meta:
            body["metadata"] = {"turn_id": meta["turn_id"]}
        meta = client.post("/v1/chat/completions", json=body).json()["metadata"]
    return store.turn(meta["turn_id"])


def vote(client, turn, choice="rlf", key=None, **more):
    headers = {"Idempotency-Key": key} if key else {}
    return client.post("/v1/feedback/votes", json={"turn_id": turn.id, "choice": choice, **more}, headers=headers)


def test_a_vote_is_on_the_disk_before_the_answer(client, turn, tmp_path):
    answer = vote(client, turn, voter="ann", comment="kind", ranking=["rlf", "base"], edited="Hello!")
    assert answer.status_code == 201
    with sqlite3.connect(tmp_path / "sawyer.db") as other_connection:
        row = other_connection.execute("select id, choice, voter, comment, edited, position from votes").fetchone()
    assert row == (answer.json()["vote_id"], "rlf", "ann", "kind", "Hello!", 2)
    assert answer.json()["panes"] == {"base": "base", "sft": "sft", "rlf": "rlf"}


def test_the_same_key_stores_one_vote_and_another_request_conflicts(client, turn, store):
    first, again = vote(client, turn, key="k1"), vote(client, turn, key="k1")
    assert (first.status_code, again.status_code) == (201, 201)
    assert first.json()["vote_id"] == again.json()["vote_id"]
    assert (first.json()["created"], again.json()["created"]) == (True, False)
    other = vote(client, turn, choice="base", key="k1")
    assert (other.status_code, other.json()["error"]["code"]) == (409, "idempotency_conflict")
    assert store.stats()["votes_cast"] == 1


@pytest.mark.parametrize("choice", ["tie", "bad"])
def test_verdicts(client, turn, store, choice):
    assert vote(client, turn, choice).status_code == 201
    assert store.votes()[0].choice == choice and store.votes()[0].position is None


def test_a_vote_makes_pairs(client, turn, store):
    vote(client, turn, "sft")
    assert {(row["chosen_stage"], row["rejected_stage"]) for row in store.pairs()} == {("sft", "base"), ("sft", "rlf")}


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"turn_id": "absent", "choice": "rlf"}, 404, "not_found"),
        ({"choice": "rlf"}, 400, "missing_required_parameter"),
        ({"choice": "great"}, 400, "invalid_request"),
        ({"choice": "rlf", "ranking": ["base", "rlf"]}, 400, "invalid_value"),
        ({"choice": "rlf", "ranking": ["rlf", "A"]}, 400, "invalid_choice"),
        ({"choice": "rlf", "position": 7}, 400, "invalid_request"),
        ({"choice": "rlf", "voter": "x" * 500}, 400, "invalid_request"),
        ({"choice": "rlf", "vote": 1}, 400, "invalid_request"),
    ],
)
def test_bad_votes(client, turn, store, body, status, code):
    body = body if code == "missing_required_parameter" else {"turn_id": turn.id, **body}
    answer = client.post("/v1/feedback/votes", json=body)
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
    assert store.stats()["votes_cast"] == 0


def test_a_stage_without_an_answer_cannot_be_chosen(client, store):
    conversation = store.add_conversation()
    empty = store.turn(store.add_turn(conversation, HI))
    assert vote(client, empty).status_code == 404
    assert vote(client, empty, "tie").status_code == 404


def test_a_store_that_cannot_write_is_a_503_and_says_no_paths(client, turn, store, monkeypatch):
    def locked(*_args, **_kwargs):
        raise StoreError("The feedback database /home/someone/sawyer.db is locked")

    monkeypatch.setattr(store, "add_votes", locked)
    answer = vote(client, turn)
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "store_unavailable")
    assert "Retry-After" in answer.headers and "someone" not in answer.text


def test_ratings(client, turn, store):
    body = {"completion_id": turn.completions[0].id, "up": True, "voter": "ann"}
    first = client.post("/v1/feedback/ratings", json=body, headers={"Idempotency-Key": "r"})
    again = client.post("/v1/feedback/ratings", json=body, headers={"Idempotency-Key": "r"})
    assert (first.status_code, again.status_code) == (201, 201)
    assert first.json()["rating_id"] == again.json()["rating_id"] and not again.json()["created"]
    assert client.post("/v1/feedback/ratings", json=body | {"completion_id": "absent"}).status_code == 404
    assert store.stats()["ratings"] == {"up": 1, "down": 0}


def test_names_consent_and_undo(client, turn, store):
    vote(client, turn, voter="ann", name="Ann", consent=False)
    assert (store.votes()[0].name, store.votes()[0].consent) == ("Ann", False)
    body = {"turn_id": turn.id, "voter": "ann"}
    undone = [client.post("/v1/feedback/undo", json=body, headers={"Idempotency-Key": "u"}) for _ in range(2)]
    assert [answer.status_code for answer in undone] == [201, 201] and store.votes() == []
    assert [answer.json()["created"] for answer in undone] == [True, False]
    assert client.post("/v1/feedback/undo", json=body).status_code == 404
    assert len(store.votes(newest_only=False)) == 2


def test_a_thumb_is_taken_back(client, turn, store):
    body = {"completion_id": turn.completions[0].id, "up": True, "voter": "ann"}
    client.post("/v1/feedback/ratings", json=body)
    answer = client.post("/v1/feedback/ratings", json=body | {"up": None})
    assert (answer.status_code, answer.json()["up"]) == (201, None)
    assert store.stats()["ratings"] == {"up": 0, "down": 0}


def test_votes_name_versions_and_letters(client, store):
    def asked(*panes):
        turn = store.add_turn(store.add_conversation(), HI)
        for number, pane in enumerate(panes, 2):
            store.add_completion(turn, "rlf", prompt_text="", text=f"v{number}", tokens=1,
                                 adapter_version=f"rlf@{number}", sampling={"pane": pane})  # fmt: skip
        return store.turn(turn)

    open_turn, blind = asked("rlf@2", "rlf@3"), asked("B", "A")
    answer = vote(client, open_turn, "rlf@3", ranking=["rlf@3", "rlf@2"])
    assert (answer.status_code, answer.json()["choice"]) == (201, "rlf")
    assert answer.json()["versions"] == {"rlf@2": "rlf@2", "rlf@3": "rlf@3"}
    answer = vote(client, blind, "A")
    assert answer.json()["panes"] == {"A": "rlf", "B": "rlf"}
    assert answer.json()["versions"] == {"A": "rlf@3", "B": "rlf@2"}
    assert [(v.position, len(v.shown)) for v in store.votes()] == [(1, 2), (0, 2)]
    for turn, choice, reason in (
        (open_turn, "rlf", "several panes"),
        (open_turn, "A", "not shown"),
        (blind, "rlf@3", "not shown"),
    ):
        refused = vote(client, turn, choice)
        assert (refused.status_code, refused.json()["error"]["code"]) == (400, "invalid_choice")
        assert reason in refused.json()["error"]["message"]


def test_stats(client, turn):
    vote(client, turn, voter="ann")
    vote(client, turn, "base", voter="bob")
    stats = client.get("/v1/feedback/stats").json()
    assert (stats["conversations"], stats["turns"], stats["completions"], stats["votes"]) == (1, 1, 3, 2)
    assert stats["choices"]["rlf"] == stats["choices"]["base"] == 1
    assert set(stats["mean_reward"]) == {"base", "sft", "rlf"}
