"""The administrator's routes over a real store and a real registry."""

import json

import pytest
from fastapi.testclient import TestClient

from sawyer.registry import Registry
from serve.access import Access
from serve.app import create_app
from serve.keys import Keyring
from serve.limits import Unlimited
from tests.sawyer.test_registry import trained


@pytest.fixture
def registry(tmp_path):
    registry = Registry(tmp_path / "registry", "test")
    for number in (1, 2):
        registry.register("rlf", trained(tmp_path / f"run{number}", f"w{number}"), info={"loss": 0.25})
    registry.promote("rlf@1")
    return registry


@pytest.fixture
def admin(engine, store, recipe, registry):
    keyring = Keyring()
    access = Access(keyring)
    app = create_app(engine, store, recipe=recipe, rate_limit=Unlimited(), access=access, registry=registry)
    with TestClient(app, raise_server_exceptions=False) as client:
        client.headers["Authorization"] = f"Bearer {keyring.issue('admin', 'test')}"
        yield client


def cast(store, question, choice="rlf", voter="ada", later=60.0, pane=None, **more):
    """A vote `later` seconds after the answers; its id."""
    turn = store.add_turn(store.add_conversation(), [{"role": "user", "content": question}])
    for place, stage in enumerate(("base", "sft", "rlf")):
        sampling = {"pane": "ABC"[place]} if pane else {}
        text = f"{stage} says: {question} " * 6
        store.add_completion(turn, stage, prompt_text="", text=text, tokens=9, sampling=sampling, reward=0.5)
    newest = store.turn(turn).completions[-1].created
    return store.add_vote(turn, choice, voter, created=newest + later, **more).vote_id


@pytest.fixture
def votes(store):
    """Five votes, oldest first."""
    return [
        cast(store, "How do I boil an egg?", edited="Gently.", name="Ada", comment="Élan!"),
        cast(store, "How do I boil an EGG", later=60.0),
        cast(store, "Why is the sky blue?", "tie", "bob", later=0.0),
        cast(store, "What is the tallest mountain?", "B", "bob", pane=True, ranking=["B", "A"]),
        cast(store, "Tell me a joke", voter=None, consent=False),
    ]


def ids(answer):
    assert answer.status_code == 200, answer.text
    return [item["vote_id"] for item in answer.json()["items"]]


def test_feedback_is_shown_newest_first_with_everything_a_reviewer_needs(admin, votes):
    page = admin.get("/v1/admin/feedback").json()
    assert ([item["vote_id"] for item in page["items"]], page["total"], page["next"]) == (votes[::-1], 5, None)
    first, blind = page["items"][-1], page["items"][1]
    assert (first["name"], first["comment"], first["edited"], first["consent"]) == ("Ada", "Élan!", "Gently.", True)
    assert first["seconds"] == pytest.approx(60.0) and first["messages"][0]["content"] == "How do I boil an egg?"
    assert [answer["stage"] for answer in first["answers"]] == ["base", "sft", "rlf"]
    assert (first["answers"][0]["pane"], first["answers"][0]["reward"], first["blind"]) == (None, 0.5, False)
    assert (blind["blind"], blind["choice"], blind["ranking"]) == (True, "sft", ["B", "A"])
    assert [answer["pane"] for answer in blind["answers"]] == ["A", "B", "C"]
    assert [item["findings"] for item in page["items"]] == [[], [], ["too_fast"], ["duplicate"], []]


@pytest.mark.parametrize(
    ("query", "places"),
    [
        ({"choice": "rlf"}, [4, 1, 0]),
        ({"voter": "bob"}, [3, 2]),
        ({"edited": True}, [0]),
        ({"blind": True}, [3]),
        ({"finding": "duplicate"}, [1]),
        ({"text": "éLAN"}, [0]),
        ({"text": "egg"}, [1, 0]),
        ({"text": "sft SAYS: w"}, [3, 2]),
        ({"text": "ada"}, [0]),
        ({"state": "approved"}, []),
        ({"state": "pending", "blind": False, "choice": "tie"}, [2]),
        ({"since": 1.0, "until": 2.0}, []),
        ({"since": 1.0}, [4, 3, 2, 1, 0]),
    ],
)
def test_filters(admin, votes, query, places):
    assert ids(admin.get("/v1/admin/feedback", params=query)) == [votes[place] for place in places]
    assert admin.get("/v1/admin/feedback", params={**query, "limit": 1}).json()["total"] == len(places)


@pytest.mark.parametrize("query", [{}, {"text": "e"}])
def test_pages_follow_each_other_while_votes_arrive(admin, store, votes, query):
    seen, before = [], None
    for number in range(3):
        page = admin.get(
            "/v1/admin/feedback", params=query | {"limit": 2} | ({"before": before} if before else {})
        ).json()
        seen += [item["vote_id"] for item in page["items"]]
        before = page["next"]
        cast(store, f"A newer one, number {number}", voter=f"v{number}")
    assert seen == votes[::-1] and before is None


def test_wrong_queries_are_refused(admin):
    for query in ({"state": "accepted"}, {"limit": 1000}, {"before": "x"}, {"colour": "red"}, {"text": "x" * 300}):
        assert admin.get("/v1/admin/feedback", params=query).status_code == 400


def test_reviews_decide_what_counts(admin, store, votes):
    body = {"vote_ids": votes[:2], "state": "rejected", "note": "spam"}
    answer = admin.post("/v1/admin/reviews", json=body)
    assert (answer.status_code, answer.json()) == (201, {"reviewed": 2, "state": "rejected"})
    assert [vote.id for vote in store.votes()] == votes[2:]
    shown = admin.get("/v1/admin/feedback", params={"state": "rejected"}).json()["items"]
    assert [(item["vote_id"], item["note"], len(item["reviewer"])) for item in shown] == [
        (votes[1], "spam", 8),
        (votes[0], "spam", 8),
    ]
    assert admin.post("/v1/admin/reviews", json=body | {"vote_ids": ["nope"]}).status_code == 404
    assert admin.post("/v1/admin/reviews", json=body | {"state": "accepted"}).status_code == 400


def test_redaction(admin, store, votes):
    item = admin.get("/v1/admin/feedback").json()["items"][-1]
    body = {"conversation_id": item["conversation_id"], "text": "EGG"}
    assert admin.post("/v1/admin/redact", json=body).json()["places"] == 19  # the question, six times in each answer
    assert (
        admin.get("/v1/admin/feedback").json()["items"][-1]["messages"][0]["content"] == "How do I boil an [redacted]?"
    )
    assert admin.post("/v1/admin/redact", json=body | {"conversation_id": "nope"}).status_code == 404
    assert admin.post("/v1/admin/redact", json=body | {"text": "x"}).status_code == 400


def test_voters_most_suspicious_first(admin, votes):
    voters = admin.get("/v1/admin/voters").json()["voters"]
    assert [(each["voter"], each["votes"], each["findings"]) for each in voters] == [
        ("ada", 2, ["duplicate"]),
        ("bob", 2, ["too_fast"]),
        (None, 1, []),
    ]


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_export_is_what_the_filter_shows(admin, votes, tmp_path, kind):
    from datasets import load_dataset

    query = {"form": "preference", "format": kind, "voter": "ada"}
    answer = admin.get("/v1/admin/export", params=query)
    assert answer.status_code == 200 and f'filename="sawyer-preference.{kind}"' in answer.headers["Content-Disposition"]
    file = tmp_path / f"out.{kind}"
    file.write_bytes(answer.content)
    reader = "json" if kind == "jsonl" else "parquet"
    rows = load_dataset(reader, data_files=str(file), split="train", cache_dir=str(tmp_path / "cache"))
    assert (
        rows.column_names == ["prompt", "chosen", "rejected"] and len(rows) == 3
    )  # one of two near-duplicate votes, one edit
    assert "Gently." in json.dumps(rows["chosen"][:])
    nothing = admin.get("/v1/admin/export", params=query | {"state": "approved"})
    assert nothing.status_code == 404 and "nothing to export" in nothing.json()["error"]["message"]
    assert admin.get("/v1/admin/export", params=query | {"form": "dpo"}).status_code == 400


def test_versions_promote_and_roll_back(admin):
    state = admin.get("/v1/admin/versions").json()
    assert [(each["ref"], each["current"], each["about"]) for each in state["versions"]] == [
        ("rlf@1", True, "loss 0.25"),
        ("rlf@2", False, "loss 0.25"),
    ]
    assert state["current"] == {"rlf": "rlf@1"}
    promoted = admin.post("/v1/admin/promote", json={"refs": ["rlf@2"]}).json()
    assert promoted["current"] == {"rlf": "rlf@2"} and promoted["history"][0]["action"] == "promote"
    assert admin.post("/v1/admin/rollback", json={"stage": "rlf"}).json()["current"] == {"rlf": "rlf@1"}
    nothing = admin.post("/v1/admin/rollback", json={"stage": "rlf"})
    assert nothing.status_code == 400 and "no earlier version" in nothing.json()["error"]["message"]


def test_refused_promotions_say_why_and_name_no_folders(admin, registry, tmp_path):
    unknown = admin.post("/v1/admin/promote", json={"refs": ["rlf@9"]})
    assert unknown.status_code == 400 and "There are: rlf@1, rlf@2" in unknown.json()["error"]["message"]
    (registry.get("rlf@2").path / "adapter_model.safetensors").write_bytes(b"damaged")
    damaged = admin.post("/v1/admin/promote", json={"refs": ["rlf@2"]})
    assert (damaged.status_code, damaged.json()["error"]["code"]) == (409, "promotion_refused")
    assert "cannot be used" in damaged.json()["error"]["message"] and str(tmp_path) not in damaged.text
    assert registry.current("rlf").ref == "rlf@1"


def test_without_a_registry_that_is_said(engine, store, recipe):
    keyring = Keyring()
    app = create_app(engine, store, recipe=recipe, access=Access(keyring))
    with TestClient(app) as client:
        headers = {"Authorization": f"Bearer {keyring.issue('admin', 'test')}"}
        assert client.get("/v1/admin/versions", headers=headers).json()["error"]["code"] == "no_registry"
