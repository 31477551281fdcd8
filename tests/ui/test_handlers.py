"""The page's actions on a scripted API: what each leaves in the chat. No network, no browser."""

import asyncio
from dataclasses import replace
from typing import Any

import httpx
import pytest

from sawyer.types import STAGES
from tests.ui.fake_api import REPLIES, FakeApi
from ui import texts
from ui.chat import Chat
from ui.client import ApiClient
from ui.connection import Connection
from ui.handlers import Caller, Handlers, Settings, accepted, box_afterwards
from ui.mode import ARENA, COMPARE, SUMMARIES, Mode
from ui.turn import Status
from ui.visitor import Visitor

ME = Caller(Visitor(voter="me", name="Ada"), "192.0.2.1")
LIMITED: tuple[int, dict[str, str], dict[str, Any]] = (429, {"Retry-After": "9"}, {"error": {"message": "slow down"}})


def handlers(fake: FakeApi) -> Handlers:
    fake.pause = 0.0
    return Handlers(ApiClient("http://api.test", httpx.ASGITransport(fake.app())))


def unreachable() -> Handlers:
    def refuse(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused")

    return Handlers(ApiClient("http://api.test", httpx.MockTransport(refuse)))


def ask(
    actions: Handlers, chat: Chat, question: str, settings: Settings | None = None, mode: Mode = COMPARE
) -> list[Chat]:
    async def collect() -> list[Chat]:
        connection = await actions.connect(Connection())
        given = settings or Settings()
        answers = actions.ask(chat, question, connection=connection, mode=mode, settings=given, caller=ME)
        return [after async for after in answers]

    return asyncio.run(collect())


def anew(actions: Handlers, chat: Chat, *panes: str) -> list[Chat]:
    async def collect() -> list[Chat]:
        return [after async for after in actions.anew(chat, panes, settings=Settings(seed=7), caller=ME)]

    return asyncio.run(collect())


def test_asking_shows_waiting_panes_at_once_and_ends_with_answers() -> None:
    fake = FakeApi()
    seen = ask(handlers(fake), Chat(), "  How?  ")
    assert seen[0].current is not None
    assert {pane.status for pane in seen[0].current.panes} == {Status.WAITING}
    assert seen[-1].current is not None
    assert [pane.text for pane in seen[-1].current.panes] == [REPLIES[stage][0] for stage in STAGES]
    assert seen[0].id and seen[0].id == seen[-1].id
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
    chat = asyncio.run(actions.vote(ask(actions, Chat(), "one")[-1], "sft", ME))
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
    answered = ask(handlers(FakeApi()), Chat(), "words")[-1]
    assert box_afterwards(answered, "words") == "" and box_afterwards(answered, "more") == "more"


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
        given = {"connection": Connection(), "mode": COMPARE, "settings": Settings(), "caller": ME}
        async for chat in actions.ask(Chat(), "q", **given):
            if chat.current is not None and chat.current.panes[2].text:
                actions.stop(chat)
        return chat

    chat = asyncio.run(asyncio.wait_for(stop_after_a_while(), 10))
    assert chat.current is not None
    assert {pane.status for pane in chat.current.panes} == {Status.STOPPED}
    assert chat.current.panes[2].text.startswith("word ")
    assert body.closed, "the server is told to stop by closing the connection"


def test_stop_without_a_stream_does_nothing() -> None:
    handlers(FakeApi()).stop(Chat(id="one"))


def test_a_vote_carries_turn_voter_and_a_key_of_its_own() -> None:
    fake = FakeApi()
    actions = handlers(fake)
    chat = ask(actions, Chat(), "q")[-1]
    chat = asyncio.run(actions.vote(chat, "base", ME))
    chat = asyncio.run(actions.vote(chat, "tie", ME))
    assert chat.current is not None
    assert chat.current.vote == "tie"
    (first_key, first), (second_key, second) = fake.votes
    assert (first.turn_id, first.choice, second.choice) == ("turn-1", "base", "tie")
    assert first.voter == second.voter == "me"
    assert (first.name, first.consent, first.position, second.position) == ("Ada", True, 0, None)
    assert first_key
    assert first_key != second_key, "a changed mind is a new vote"


def test_a_vote_that_was_not_stored_is_not_thanked_for() -> None:
    fake = FakeApi(vote_refusal=(500, {"error": {"message": "disk full"}}))
    actions = handlers(fake)
    chat = asyncio.run(actions.vote(ask(actions, Chat(), "q")[-1], "rlf", ME))
    assert chat.current is not None
    assert chat.current.vote is None
    assert "disk full" in chat.notice


def test_a_vote_on_nothing_is_not_sent() -> None:
    fake = FakeApi()
    actions = handlers(fake)
    assert asyncio.run(actions.vote(Chat(), "tie", ME)) == Chat()
    chat = ask(actions, Chat(), "q")[-1]
    assert asyncio.run(actions.vote(chat, "A", ME)) == chat, "a pane that is not there"
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


def test_a_blind_vote_reveals_the_panes_and_says_where_the_chosen_one_stood() -> None:
    fake = FakeApi()
    actions = handlers(fake)
    chat = ask(actions, Chat(), "q", mode=ARENA)[-1]
    assert fake.asked[0].blind and chat.turns[0].panes[0].hidden
    chat = asyncio.run(actions.vote(chat, "B", ME))
    assert [pane.behind for pane in chat.turns[0].panes] == ["rlf", "sft", "base"]
    assert (fake.votes[0][1].choice, fake.votes[0][1].position) == ("B", 1)
    again = asyncio.run(actions.vote(chat, "A", ME))
    assert again == chat and len(fake.votes) == 1, "the names are out"


def test_undo_takes_the_vote_back_on_the_server_first() -> None:
    fake = FakeApi()
    actions = handlers(fake)
    chat = asyncio.run(actions.undo(asyncio.run(actions.vote(ask(actions, Chat(), "q")[-1], "rlf", ME)), ME))
    assert (fake.undone[0].turn_id, fake.undone[0].voter) == ("turn-1", "me")
    assert chat.turns[0].vote is None and chat.turns[0].votable
    assert asyncio.run(actions.undo(chat, ME)) == chat and len(fake.undone) == 1


def test_a_thumb_is_given_turned_and_taken_back() -> None:
    fake = FakeApi()
    actions = handlers(fake)
    chat = ask(actions, Chat(), "q")[-1]
    for up, expected in ((True, True), (False, False), (False, None)):
        chat = asyncio.run(actions.thumb(chat, "sft", up, ME))
        assert chat.turns[0].panes[1].thumb is expected
    assert [rating.up for rating in fake.ratings] == [True, False, None]
    assert {rating.completion_id for rating in fake.ratings} == {"completion-turn-1-sft"}


def test_an_answer_written_anew_is_a_vote_with_better_words_and_a_comment_keeps_them() -> None:
    fake = FakeApi()
    actions = handlers(fake)
    chat = ask(actions, Chat(), "q")[-1].edit("sft")
    assert asyncio.run(actions.save_edit(chat, REPLIES["sft"][0], ME)).notice == texts.EDIT_SAME
    chat = asyncio.run(actions.save_edit(chat, "  Eight minutes. ", ME))
    chat = asyncio.run(actions.comment(chat, " shorter ", ME))
    assert [(vote.choice, vote.edited, vote.comment) for _, vote in fake.votes] == [
        ("sft", "Eight minutes.", None),
        ("sft", "Eight minutes.", "shorter"),
    ]
    assert (chat.turns[0].vote, chat.turns[0].comment, chat.editing) == ("sft", "shorter", "")
    ask(actions, chat, "next")
    assert fake.asked[1].messages[1].content == "Eight minutes."


def test_one_pane_or_all_answer_anew_to_the_same_messages_with_another_draw() -> None:
    fake = FakeApi()
    actions = handlers(fake)
    chat = ask(actions, Chat(), "q", Settings(seed=7, system="Be brief."))[-1]
    chat = anew(actions, chat, "sft")[-1]
    assert [pane.text.startswith("Once more") for pane in chat.turns[0].panes] == [False, True, False]
    chat = anew(actions, chat)[-1]
    assert all(pane.text.startswith("Once more") for pane in chat.turns[0].panes)
    first, one, everything = fake.asked
    assert one.messages == everything.messages == first.messages and one.messages[0].content == "Be brief."
    assert (one.turn_id, one.stages, one.seed, everything.stages) == ("turn-1", ["sft"], None, list(STAGES))


def test_a_refused_answer_anew_leaves_the_old_one() -> None:
    fake = FakeApi()
    actions = handlers(fake)
    before = asyncio.run(actions.vote(ask(actions, Chat(), "q")[-1], "rlf", ME))
    fake.refusal = LIMITED
    after = anew(actions, before, "sft")[-1]
    assert after.turns == before.turns and "in 9 seconds" in after.notice


def test_a_revised_message_replaces_the_last_turn_and_stays_if_it_is_refused() -> None:
    fake = FakeApi()
    actions = handlers(fake)
    chat = ask(actions, ask(actions, Chat(), "one")[-1], "two")[-1].revise(True)
    fake.refusal = LIMITED
    refused = ask(actions, chat, "two, better")[-1]
    assert (refused.turns, refused.revising, refused.unanswered) == (chat.turns, True, "two, better")
    fake.refusal = None
    after = ask(actions, refused, "two, better")[-1]
    assert [turn.question for turn in after.turns] == ["one", "two, better"]
    assert (after.id, fake.asked[2].parent_turn_id) == (chat.id, "turn-1")


def test_chosen_versions_are_asked_for_by_name() -> None:
    fake = FakeApi(refs=["rlf@1", "rlf@2"])
    actions = handlers(fake)

    async def collect() -> list[Chat]:
        connection = replace(await actions.connect(Connection()), wanted=("rlf@1", "rlf@2", "rlf@9"))
        given = {"mode": COMPARE, "settings": Settings(), "caller": ME}
        return [after async for after in actions.ask(Chat(), "q", connection=connection, **given)]

    chat = asyncio.run(collect())[-1]
    assert fake.asked[0].stages == ["rlf@1", "rlf@2"], "what the server no longer has is left out"
    assert [pane.version for pane in chat.turns[0].panes] == ["rlf@1", "rlf@2"]


def test_articles_go_out_as_the_model_was_trained_and_each_stands_for_itself() -> None:
    fake = FakeApi(kind="summary", parts={"acceptability": 1.5, "neutral": -0.5})
    actions = handlers(fake)
    first = ask(actions, Chat(), "An article.", mode=SUMMARIES)[-1]
    second = ask(actions, first, "Another.", mode=SUMMARIES)[-1]
    assert [each.messages[-1].content for each in fake.asked] == ["Summarize: An article.", "Summarize: Another."]
    assert len(fake.asked[1].messages) == 1 and fake.asked[1].conversation_id is None
    assert len(second.turns) == 1 and second.id != first.id and second.turns[0].question == "Another."
    assert second.turns[0].panes[0].result is not None
    assert second.turns[0].panes[0].result.parts == {"acceptability": 1.5, "neutral": -0.5}
    anew(actions, second, "rlf")
    assert fake.asked[2].messages == fake.asked[1].messages
