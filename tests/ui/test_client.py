"""The client against answers of every shape, over a transport that never touches a network."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest

from sawyer.types import CompareRequest, DeltaEvent, EndEvent, ErrorEvent, Message, TurnEvent, VoteRequest
from ui import texts
from ui.client import ApiClient, Event
from ui.failures import ApiFailure

TURN = {"event": "turn", "turn_id": "t", "conversation_id": "c", "stages": ["base"]}
DELTA = {"event": "delta", "stage": "base", "delta": "Hi"}
END = {"event": "end"}
QUESTION = CompareRequest(messages=[Message(role="user", content="Hello")], blind=False)


def client(answer: Callable[[httpx.Request], httpx.Response]) -> ApiClient:
    return ApiClient("http://api.test/", httpx.MockTransport(answer))


def stream(*events: dict[str, Any] | str) -> bytes:
    texts_of = (event if isinstance(event, str) else json.dumps(event) for event in events)
    return "".join(f"data: {text}\n\n" for text in texts_of).encode()


def test_the_pages_own_key_goes_with_every_request() -> None:
    seen: list[str | None] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request.headers.get("Authorization"))
        return httpx.Response(503)

    transport = httpx.MockTransport(answer)
    for key in ("sk-sawyer-1", None):
        api = ApiClient("http://api.test", transport, key)
        for question in (api.info, api.readiness):
            with pytest.raises(ApiFailure):
                asyncio.run(question())
        assert compare(api)[1] is not None
    assert seen == ["Bearer sk-sawyer-1"] * 3 + [None] * 3


def compare(api: ApiClient, visitor: str | None = None) -> tuple[list[Event], ApiFailure | None]:
    """The events that arrived, and what ended them if not the end."""

    async def collect() -> tuple[list[Event], ApiFailure | None]:
        events: list[Event] = []
        try:
            async for event in api.compare(QUESTION, visitor):
                events.append(event)
        except ApiFailure as failure:
            return events, failure
        return events, None

    return asyncio.run(collect())


def answering(status: int, body: Any, headers: dict[str, str] | None = None) -> ApiClient:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return client(lambda request: httpx.Response(status, content=content, headers=headers))


def test_a_whole_stream_becomes_its_events() -> None:
    events, failure = compare(answering(200, stream(TURN, DELTA, END)))
    assert failure is None
    assert [type(event) for event in events] == [TurnEvent, DeltaEvent, EndEvent]


def test_the_request_says_what_was_asked_and_for_whom() -> None:
    seen: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(200, content=stream(TURN, END))

    compare(client(answer), visitor="192.0.2.7")
    assert seen[0].url == "http://api.test/v1/compare"
    assert seen[0].headers["x-forwarded-for"] == "192.0.2.7"
    assert json.loads(seen[0].content) == QUESTION.model_dump(exclude_none=True)


def test_a_stream_without_end_broke_off_but_keeps_what_had_come() -> None:
    events, failure = compare(answering(200, stream(TURN, DELTA)))
    assert len(events) == 2
    assert str(failure) == texts.BROKEN_OFF


def test_a_connection_lost_in_mid_stream_is_said_to_have_broken_off() -> None:
    async def body() -> AsyncIterator[bytes]:
        yield stream(TURN, DELTA)
        raise httpx.ReadError("reset by peer")

    events, failure = compare(client(lambda request: httpx.Response(200, content=body())))
    assert len(events) == 2
    assert str(failure) == texts.BROKEN_OFF


def test_a_silent_server_is_named_so() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        raise httpx.ReadTimeout("too long")

    assert str(compare(client(answer))[1]) == texts.SILENT


@pytest.mark.parametrize("garbage", ["{", "null", "[1]", '{"event": "delta"}', "<html>"])
def test_garbage_in_the_stream_is_a_plain_sentence(garbage: str) -> None:
    events, failure = compare(answering(200, stream(TURN, garbage, END)))
    assert len(events) == 1
    assert str(failure) == texts.GARBLED


def test_events_of_a_newer_server_and_openai_endings_are_skipped() -> None:
    events, failure = compare(answering(200, stream(TURN, {"event": "queue", "position": 3}, END, "[DONE]")))
    assert failure is None
    assert len(events) == 2


def test_a_bare_openai_error_in_the_stream_fails_all_panes() -> None:
    events, _ = compare(answering(200, stream(TURN, {"error": {"message": "out of memory"}}, END)))
    assert isinstance(events[1], ErrorEvent)
    assert events[1].stage is None
    assert events[1].error.message == "out of memory"


@pytest.mark.parametrize(
    ("status", "body", "headers", "sentence"),
    [
        (400, {"error": {"message": "The prompt is too long."}}, {}, "The prompt is too long."),
        (400, {"error": {"message": "long", "code": "context_length_exceeded"}}, {}, texts.CHAT_TOO_LONG),
        (422, {"detail": [{"msg": "no"}]}, {}, "422 Unprocessable Entity"),
        (404, b"<html><script>alert(1)</script></html>", {}, "404 Not Found"),
        (429, {"error": {"message": "slow down"}}, {"Retry-After": "12"}, "in 12 seconds"),
        (429, b"", {}, texts.IN_A_MOMENT),
        (429, b"", {"Retry-After": "Wed, 21 Oct 2026 07:28:00 GMT"}, texts.IN_A_MOMENT),
        (429, b"", {"Retry-After": "inf"}, texts.IN_A_MOMENT),
        (500, {"error": {"message": "disk full"}}, {}, "The server had a problem: disk full"),
        (503, {"error": {"message": "Still loading."}}, {}, "Still loading."),
        (503, b"upstream", {}, texts.SERVER_LOADING),
        (502, b"", {}, "502 Bad Gateway"),
    ],
)
def test_error_answers_become_sentences(status: int, body: Any, headers: dict[str, str], sentence: str) -> None:
    events, failure = compare(answering(status, body, headers))
    assert events == []
    assert failure is not None
    assert failure.status == status
    assert sentence in str(failure)
    assert "<" not in str(failure)


def test_no_server_at_all() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused")

    assert str(compare(client(answer))[1]) == texts.SERVER_AWAY


def test_a_vote_whose_answer_was_lost_is_repeated_with_the_same_key() -> None:
    keys: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        keys.append(request.headers["idempotency-key"])
        if len(keys) == 1:
            raise httpx.ReadError("reset")
        body = {"vote_id": "v", "turn_id": "t", "choice": "sft", "panes": {}, "created": False}
        return httpx.Response(201, json=body)

    vote = VoteRequest.model_validate({"turn_id": "t", "choice": "sft"})
    stored = asyncio.run(client(answer).vote(vote, key="one-click"))
    assert stored.vote_id == "v"
    assert keys == ["one-click", "one-click"]


def test_a_refused_vote_says_why() -> None:
    vote = VoteRequest.model_validate({"turn_id": "t", "choice": "tie"})
    with pytest.raises(ApiFailure, match="no such turn"):
        asyncio.run(answering(404, {"error": {"message": "no such turn"}}).vote(vote, key="k"))


@pytest.mark.parametrize("body", [b"", b"{}", b"<html>"])
def test_information_of_a_foreign_server_is_garbled(body: bytes) -> None:
    with pytest.raises(ApiFailure, match="does not understand"):
        asyncio.run(answering(200, body).info())


def test_readiness_reads_the_explanation_of_a_503() -> None:
    health = asyncio.run(answering(503, {"status": "failed", "detail": "no weights"}).readiness())
    assert (health.status, health.detail) == ("failed", "no weights")
