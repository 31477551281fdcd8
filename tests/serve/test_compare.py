"""Comparisons: all panes in one stream, one pane's trouble in that pane alone, and votes that reveal blind panes."""

import pytest
from fastapi.testclient import TestClient

from sawyer.recipe import load_recipe
from sawyer.types import DeltaEvent, DoneEvent, EndEvent, ErrorEvent, TurnEvent, parse_event
from serve.app import create_app
from serve.errors import ApiError
from serve.limits import Unlimited
from serve.lineup import lineup_of
from serve.scorer import BackgroundScorer
from tests.serve.fakes import LengthScorer

HI = [{"role": "user", "content": "hi"}]


def compare(client, **more):
    answer = client.post("/v1/compare", json={"messages": HI, **more})
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("text/event-stream")
    return [parse_event(line[6:]) for line in answer.text.splitlines() if line.startswith("data: ")]


def of_kind(events, kind):
    return [event for event in events if isinstance(event, kind)]


def texts(events):
    joined: dict[str, str] = {}
    for event in of_kind(events, DeltaEvent):
        joined[event.stage] = joined.get(event.stage, "") + event.delta
    return joined


def test_all_stages_answer_in_one_stream(client, engine, store):
    events = compare(client, seed=4, max_tokens=5)
    first, last = events[0], events[-1]
    assert isinstance(first, TurnEvent) and first.stages == ["base", "sft", "rlf"]
    assert isinstance(last, EndEvent)
    assert texts(events) == {stage: f"Hello ({stage}) there." for stage in first.stages}
    done = {event.stage: event for event in of_kind(events, DoneEvent)}
    assert {stage: event.version for stage, event in done.items()} == engine.versions
    turn = store.turn(first.turn_id)
    assert turn.conversation_id == first.conversation_id and turn.messages == HI
    for stored in turn.completions:
        shown = done[stored.stage]
        assert (shown.completion_id, shown.reward, shown.tokens) == (stored.id, stored.reward, stored.tokens)
        assert stored.reward == len(stored.text)
        assert (stored.seed, stored.sampling["max_tokens"]) == (4, 5)


def test_one_engine_request_with_one_seed_for_all_panes(client, engine):
    compare(client)
    assert len(engine.replies) == 1
    assert len({job.sampling.seed for job in engine.jobs}) == 1
    assert engine.jobs[0].sampling.max_tokens == 7, "the recipe's default"


def test_stages_can_be_chosen_and_are_shown_in_order(client):
    assert compare(client, stages=["rlf", "base", "rlf"])[0].stages == ["base", "rlf"]


def test_a_conversation_is_continued(client, store):
    first = compare(client)[0]
    messages = [*HI, {"role": "assistant", "content": "Hello."}, {"role": "user", "content": "and?"}]
    more = {"messages": messages, "conversation_id": first.conversation_id, "parent_turn_id": first.turn_id}
    second = compare(client, **more)[0]
    assert second.conversation_id == first.conversation_id
    assert store.turn(second.turn_id).parent_id == first.turn_id


def test_a_failing_pane_leaves_the_others_alone(client, engine):
    engine.failing["rlf"] = ApiError(503, "The adapter is gone.", code="gone")
    events = compare(client)
    (error,) = of_kind(events, ErrorEvent)
    assert (error.stage, error.error.code) == ("rlf", "gone")
    assert {event.stage for event in of_kind(events, DoneEvent)} == {"base", "sft"}
    assert isinstance(events[-1], EndEvent)


def test_a_blind_comparison_hides_the_stages_until_the_vote(client, engine, store):
    for _ in range(8):
        answer = client.post("/v1/compare", json={"messages": HI, "blind": True})
        events = [parse_event(line[6:]) for line in answer.text.splitlines() if line.startswith("data: ")]
        assert events[0].stages == ["A", "B", "C"]
        assert all(event.version is None for event in of_kind(events, DoneEvent))
        assert '"stage":"rlf"' not in answer.text and "rlf@" not in answer.text
        shown = texts(events)
        vote = client.post("/v1/feedback/votes", json={"turn_id": events[0].turn_id, "choice": "B"}).json()
        assert all(f"({stage})" in shown[pane] for pane, stage in vote["panes"].items())
        assert vote["choice"] == vote["panes"]["B"]
        assert vote["versions"]["B"] == engine.versions[vote["choice"]]
        kept = next(row for row in store.votes() if row.id == vote["vote_id"])
        assert (kept.choice, kept.position) == (vote["choice"], 1)


def test_the_order_of_blind_panes_changes(client, engine):
    orders = set()
    for _ in range(30):
        before = len(engine.jobs)
        compare(client, blind=True)
        orders.add(tuple(job.stage for job in engine.jobs[before:]))
    assert len(orders) > 1


def test_a_blind_vote_must_name_a_pane_and_an_open_one_a_stage(client):
    blind, opened = compare(client, blind=True)[0].turn_id, compare(client)[0].turn_id
    for turn_id, choice in ((blind, "rlf"), (opened, "A")):
        answer = client.post("/v1/feedback/votes", json={"turn_id": turn_id, "choice": choice})
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_choice")


@pytest.mark.parametrize(
    ("asked", "status", "code"),
    [
        ({"stages": ["gpt"]}, 404, "model_not_found"),
        ({"stages": ["rlf@9"]}, 404, "model_not_found"),
        ({"stages": ["base", "sft", "rlf", "rlf@2"]}, 400, "invalid_request"),
        ({"turn_id": "absent"}, 404, "not_found"),
        ({"stages": []}, 400, "invalid_request"),
        ({"conversation_id": "absent"}, 404, "not_found"),
        ({"parent_turn_id": "absent"}, 400, "missing_required_parameter"),
        ({"messages": [{"role": "user", "content": "word " * 70}]}, 400, "context_length_exceeded"),
        ({"top_p": 0}, 400, "invalid_request"),
        ({"unknown": 1}, 400, "invalid_request"),
    ],
)
def test_bad_requests(client, store, asked, status, code):
    answer = client.post("/v1/compare", json={"messages": HI, **asked})
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
    assert store.stats()["turns"] == 0


def test_a_refused_turn_stops_the_rows_it_began(client, engine):
    assert client.post("/v1/compare", json={"messages": HI, "conversation_id": "absent"}).status_code == 404
    assert engine.replies[0].cancelled


def test_before_the_model_is_loaded(client, engine):
    engine.state, engine.versions = ("loading", "soon"), {}
    answer = client.post("/v1/compare", json={"messages": HI})
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "not_ready")
    assert "Retry-After" in answer.headers


def test_a_store_that_fails_for_one_pane_is_told_in_that_pane(client, store, monkeypatch):
    from sawyer.errors import StoreError

    real = store.add_completion

    def fails_for_sft(turn_id, stage, **fields):
        if stage == "sft":
            raise StoreError("full")
        return real(turn_id, stage, **fields)

    monkeypatch.setattr(store, "add_completion", fails_for_sft)
    events = compare(client)
    assert [event.stage for event in of_kind(events, ErrorEvent)] == ["sft"]
    assert {event.stage for event in of_kind(events, DoneEvent)} == {"base", "rlf"}


def test_versions_of_one_stage_stand_side_by_side_under_their_own_names(client, engine, store):
    events = compare(client, stages=["rlf", "sft@1", "rlf@2"])
    assert events[0].stages == ["sft@1", "rlf@2", "rlf"]
    assert [job.version for job in engine.jobs] == ["sft@1", "rlf@2", None]
    done = {event.stage: event for event in of_kind(events, DoneEvent)}
    assert {pane: event.version for pane, event in done.items()} == {"sft@1": "sft@1", "rlf@2": "rlf@2", "rlf": "rlf@3"}
    stored = store.turn(events[0].turn_id).completions
    assert {row.sampling["pane"]: (row.stage, row.adapter_version) for row in stored} == {
        "sft@1": ("sft", "sft@1"),
        "rlf@2": ("rlf", "rlf@2"),
        "rlf": ("rlf", "rlf@3"),
    }


def test_one_pane_or_all_can_be_answered_anew(client, engine, store):
    engine.failing["rlf"] = ApiError(503, "The adapter is gone.", code="gone")
    turn = compare(client)[0]
    engine.failing.clear()
    retried = compare(client, turn_id=turn.turn_id, stages=["rlf"])
    assert (retried[0].turn_id, retried[0].stages) == (turn.turn_id, ["rlf"])
    assert retried[0].conversation_id == turn.conversation_id
    again = compare(client, turn_id=turn.turn_id)
    assert again[0].stages == ["base", "sft", "rlf"]
    assert len(store.turn(turn.turn_id).completions) == 6
    seeds = {row.seed for row in store.turn(turn.turn_id).completions}
    assert len(seeds) == 3, "an answer anew is another draw"


def test_a_blind_turn_answered_anew_stays_blind_and_keeps_its_panes(client, engine, store):
    engine.failing["sft"] = ApiError(503, "The adapter is gone.", code="gone")
    events = compare(client, blind=True)
    turn, failed = events[0], of_kind(events, ErrorEvent)[0].stage
    behind = dict(zip("ABC", (job.stage for job in engine.jobs), strict=True))
    assert behind[failed] == "sft"
    engine.failing.clear()
    for stages in ([failed], None):
        again = compare(client, turn_id=turn.turn_id, stages=stages)
        assert again[0].stages == (stages or ["A", "B", "C"])
        assert all(event.version is None for event in of_kind(again, DoneEvent))
        assert all(f"({behind[pane]})" in text for pane, text in texts(again).items())
    refused = client.post("/v1/compare", json={"messages": HI, "turn_id": turn.turn_id, "stages": ["rlf"]})
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "invalid_choice")


def test_panes_of_a_blind_turn_are_known_to_another_process_by_its_answers(client, engine, store, recipe):
    turn_id = compare(client, blind=True)[0].turn_id
    before = {row.sampling["pane"]: row.stage for row in store.turn(turn_id).completions}
    engine.versions = {**engine.versions, "rlf": "rlf@2"}  # rolled back meanwhile
    lineup = lineup_of(store.turn(turn_id), engine, None)
    assert lineup.blind and {place.pane: place.stage for place in lineup.places} == before
    assert {place.stage: place.version for place in lineup.places} == {"base": None, "sft": None, "rlf": "rlf@3"}


def test_another_question_is_no_answer_anew(client):
    turn_id = compare(client)[0].turn_id
    other = {"messages": [{"role": "user", "content": "bye"}], "turn_id": turn_id}
    answer = client.post("/v1/compare", json=other)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "turn_mismatch")


def test_the_page_learns_versions_kind_and_parts(client, app):
    info = client.get("/v1/info").json()
    assert info["refs"][-1] == "rlf@3" and (info["kind"], info["parts"], info["template"]) == ("chat", {}, "{text}")


def test_a_t5_s_page_learns_how_to_put_a_text_and_what_it_is_rewarded_for(engine, store):
    recipe = load_recipe("tiny-t5-neutral")
    scorer = BackgroundScorer(LengthScorer)
    with TestClient(create_app(engine, store, recipe=recipe, scorer=scorer, rate_limit=Unlimited())) as client:
        info = client.get("/v1/info").json()
    assert (info["kind"], info["template"]) == ("summary", "Summarize: {text}")
    assert info["parts"] == {"acceptability": 1.0, "neutral": 0.5}
    assert len(info["examples"]) == 3
