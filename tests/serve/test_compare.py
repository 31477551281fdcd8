"""Comparisons: all panes in one stream, one pane's trouble in that pane alone, and votes that reveal blind panes."""

import pytest

from sawyer.types import DeltaEvent, DoneEvent, EndEvent, ErrorEvent, TurnEvent, parse_event
from serve.errors import ApiError

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
