"""The page's actions on a scripted API: what each leaves in the chat. No network, no browser."""

import asyncio
from typing import Any

import httpx
import pytest

from sawyer.types import STAGES
from tests.ui.fake_api import REPLIES, FakeApi
from ui import texts
from ui.chat import Chat, Status
from ui.client import ApiClient
from ui.connection import Connection
from ui.handlers import Handlers, Settings, accepted, box_afterwards

LIMITED: tuple[int, dict[str, str], dict[str, Any]] = (429, {"Retry-After": "9"}, {"error": {"message": "slow down"}})


def handlers(fake: FakeApi) -> Handlers:
    fake.pause = 0.0
    return Handlers(ApiClient("http://api.test", httpx.ASGITransport(fake.app())))


def unreachable() -> Handlers:
    def refuse(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused")

    return Handlers(ApiClient("http://api.test", httpx.MockTransport(refuse)))


def ask(actions: Handlers, chat: Chat, question: str, settings: Settings | None = None) -> list[Chat]:
    async def collect() -> list[Chat]:
        answers = actions.ask(chat, question, stages=STAGES, settings=settings or Settings(), visitor="192.0.2.1")
        return [after async for after in answers]

    return asyncio.run(collect())


def test_asking_shows_waiting_panes_at_once_and_ends_with_answers() -> None:
    fake = FakeApi()
    seen = ask(handlers(fake), Chat(), "  How?  ")
    assert seen[0].current is not None
    assert {pane.status for pane in seen[0].current.panes} == {Status.WAITING}
    assert seen[-1].current is not None
    assert [pane.text for pane in seen[-1].current.panes] == [REPLIES[stage][0] for stage in STAGES]
    assert seen[-1].voter, "a visitor who asked has a name to vote with"
    assert fake.asked[0].messages[-1].content == "How?"
    assert fake.forwarded == ["192.0.2.1"]


def test_settings_reach_the_server_and_none_are_left_to_it() -> None:
    fake = FakeApi()
    ask(handlers(fake), Chat(), "q", Settings(max_tokens=7, temperature=0.0, top_p=0.5, seed=3, system="Be brief."))
    ask(handlers(fake), Chat(), "q")
    first, second = fake.asked
    assert (first.max_tokens, first.temperature, first.top_p, first.seed) == (7, 0.0, 0.5, 3)
    assert (first.messages[0].role, first.messages[0].content) == ("system", "Be brief.")
    assert (second.max_tokens, second.temperature, second.top_p, second.seed) == (None, None, None, None)


def test_the_next_question_continues_the_voted_answer() -> None:
    fake = FakeApi()
    actions = handlers(fake)
    chat = asyncio.run(actions.vote(ask(actions, Chat(), "one")[-1], "sft"))
    ask(actions, chat, "two")
    assert [message.content for message in fake.asked[1].messages] == ["one", REPLIES["sft"][0], "two"]
    assert (fake.asked[1].conversation_id, fake.asked[1].parent_turn_id) == ("conversation-1", "turn-1")


@pytest.mark.parametrize("question", ["", "   ", "\n"])
def test_nothing_is_not_a_question(question: str) -> None:
    fake = FakeApi()
    (chat,) = ask(handlers(fake), Chat(), question)
    assert chat.notice == texts.NOTHING_TO_ASK
    assert fake.asked == []


def test_a_setting_the_server_would_refuse_is_named() -> None:
    (chat,) = ask(handlers(FakeApi()), Chat(), "q", Settings(seed=2**63))
    assert "seed" in chat.notice


def test_a_refusal_loses_nothing() -> None:
    chat = ask(handlers(FakeApi(refusal=LIMITED)), Chat(), "precious words")[-1]
    assert chat.turns == ()
    assert "in 9 seconds" in chat.notice
    assert box_afterwards(chat, "") == "precious words"
    assert box_afterwards(chat, "already typing") == "already typing"


def test_a_server_that_is_away_loses_nothing() -> None:
    chat = ask(unreachable(), Chat(), "precious words")[-1]
    assert (chat.notice, chat.unanswered) == (texts.SERVER_AWAY, "precious words")


def test_a_failed_stage_does_not_stop_the_others() -> None:
    chat = ask(handlers(FakeApi(failing={"base": "out of memory"})), Chat(), "q")[-1]
    assert chat.current is not None
    assert [pane.status for pane in chat.current.panes] == [Status.FAILED, Status.DONE, Status.DONE]
    assert chat.current.panes[0].error == "out of memory"


def test_a_stream_that_breaks_says_so_in_the_panes() -> None:
    chat = ask(handlers(FakeApi(breaks_after=4)), Chat(), "q")[-1]
    assert chat.current is not None
    assert {pane.error for pane in chat.current.panes} == {texts.BROKEN_OFF}
    assert chat.unanswered == "q"


def test_the_box_is_emptied_when_the_server_has_the_question_and_not_before() -> None:
    seen = ask(handlers(FakeApi()), Chat(), "q")
    steps = list(zip([Chat(), *seen], seen, strict=False))
    assert [accepted(before, after) for before, after in steps].count(True) == 1
    assert not accepted(*steps[0])
    refused = ask(handlers(FakeApi(refusal=LIMITED)), Chat(), "q")
    assert not any(accepted(before, after) for before, after in zip([Chat(), *refused], refused, strict=False))


def test_stop_ends_the_stream_and_keeps_what_was_written() -> None:
    class Endless(httpx.AsyncByteStream):
        closed = False

        async def __aiter__(self):  # type: ignore[no-untyped-def]
            yield b'data: {"event":"turn","turn_id":"t","conversation_id":"c","stages":["base","sft","rlf"]}\n\n'
            while True:
                yield b'data: {"event":"delta","stage":"rlf","delta":"word "}\n\n'
                await asyncio.sleep(0.01)

        async def aclose(self) -> None:
            self.closed = True

    body = Endless()
    actions = Handlers(ApiClient("http://api.test", httpx.MockTransport(lambda _: httpx.Response(200, stream=body))))

    async def stop_after_a_while() -> Chat:
        chat = Chat()
        async for chat in actions.ask(Chat(), "q", stages=STAGES, settings=Settings()):
            if chat.current is not None and chat.current.panes[2].text:
                actions.stop(chat)
        return chat

    chat = asyncio.run(asyncio.wait_for(stop_after_a_while(), 10))
    assert chat.current is not None
    assert {pane.status for pane in chat.current.panes} == {Status.STOPPED}
    assert chat.current.panes[2].text.startswith("word ")
    assert body.closed, "the server is told to stop by closing the connection"


def test_stop_without_a_stream_does_nothing() -> None:
    handlers(FakeApi()).stop(Chat(voter="me"))


def test_a_vote_carries_turn_voter_and_a_key_of_its_own() -> None:
    fake = FakeApi()
    actions = handlers(fake)
    chat = ask(actions, Chat(), "q")[-1]
    chat = asyncio.run(actions.vote(chat, Handlers.pick(chat, 0)))
    chat = asyncio.run(actions.vote(chat, "tie"))
    assert chat.current is not None
    assert chat.current.vote == "tie"
    (first_key, first), (second_key, second) = fake.votes
    assert (first.turn_id, first.choice, second.choice) == ("turn-1", "base", "tie")
    assert first.voter == second.voter == chat.voter
    assert first_key
    assert first_key != second_key, "a changed mind is a new vote"


def test_a_vote_that_was_not_stored_is_not_thanked_for() -> None:
    fake = FakeApi(vote_refusal=(500, {"error": {"message": "disk full"}}))
    actions = handlers(fake)
    chat = asyncio.run(actions.vote(ask(actions, Chat(), "q")[-1], "rlf"))
    assert chat.current is not None
    assert chat.current.vote is None
    assert "disk full" in chat.notice


def test_a_vote_on_nothing_is_not_sent() -> None:
    fake = FakeApi()
    assert asyncio.run(handlers(fake).vote(Chat(), "tie")) == Chat()
    assert fake.votes == []


@pytest.mark.parametrize(
    ("fake", "ready", "notice"),
    [(FakeApi(), True, ""), (FakeApi(ready=False), False, texts.SERVER_LOADING)],
)
def test_connecting_learns_who_answers(fake: FakeApi, ready: bool, notice: str) -> None:
    connection = asyncio.run(handlers(fake).connect(Connection()))
    assert (connection.ready, connection.notice) == (ready, notice)
    assert connection.stages == STAGES


def test_connecting_to_nobody_keeps_what_was_known() -> None:
    known = asyncio.run(handlers(FakeApi()).connect(Connection()))
    lost = asyncio.run(unreachable().connect(known))
    assert (lost.info, lost.notice) == (known.info, texts.SERVER_AWAY_ON_LOAD)
