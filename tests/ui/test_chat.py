"""Turns and panes as events arrive, and the one history they share."""

import pytest

from sawyer.types import (
    STAGES,
    DeltaEvent,
    DoneEvent,
    EndEvent,
    ErrorDetail,
    ErrorEvent,
    QueuedEvent,
    TurnEvent,
)
from ui import texts
from ui.chat import Chat
from ui.turn import Status


def done(stage: str) -> DoneEvent:
    return DoneEvent(stage=stage, completion_id=f"c-{stage}", reward=1.0, tokens=2, seconds=0.5, finish_reason="stop")


def answered(chat: Chat, question: str, *stages: str, turn_id: str = "turn-1") -> Chat:
    """A turn in which ``stages`` answered and the others failed."""
    chat = (
        chat.settled_for_next()
        .ask(question, STAGES)
        .apply(TurnEvent(turn_id=turn_id, conversation_id="conversation", stages=list(STAGES)))
    )
    for stage in STAGES:
        if stage in stages:
            chat = chat.apply(DeltaEvent(stage=stage, delta=f"{stage} says"))
            chat = chat.apply(DeltaEvent(stage=stage, delta=f" {question}")).apply(done(stage))
        else:
            chat = chat.apply(ErrorEvent(stage=stage, error=ErrorDetail(message="out of memory")))
    return chat.apply(EndEvent()).settle()


def contents(chat: Chat, question: str = "next", system: str = "") -> list[tuple[str, str]]:
    return [(message.role, message.content) for message in chat.messages(question, system)]


def test_a_turn_goes_from_waiting_to_votable() -> None:
    chat = Chat().ask("hello", STAGES)
    assert chat.busy
    assert {pane.status for pane in chat.turns[0].panes} == {Status.WAITING}
    chat = answered(Chat(), "hello", *STAGES)
    assert not chat.busy
    assert chat.turns[0].votable
    assert [pane.text for pane in chat.turns[0].panes] == [f"{stage} says hello" for stage in STAGES]


@pytest.mark.parametrize(
    ("vote", "kept"), [(None, "rlf"), ("base", "base"), ("sft", "sft"), ("tie", "rlf"), ("bad", "rlf")]
)
def test_the_history_goes_on_from_the_voted_answer_else_the_last_stage(vote: str | None, kept: str) -> None:
    chat = answered(Chat(), "hello", *STAGES)
    chat = chat.vote(vote) if vote else chat
    assert contents(chat) == [("user", "hello"), ("assistant", f"{kept} says hello"), ("user", "next")]
    assert (chat.conversation_id, chat.parent_turn_id) == ("conversation", "turn-1")


def test_without_the_last_stage_the_one_before_it_is_kept() -> None:
    chat = answered(Chat(), "hello", "base", "sft")
    assert contents(chat)[1] == ("assistant", "sft says hello")
    assert chat.turns[0].votable
    assert chat.turns[0].panes[2].error == "out of memory"


def test_the_system_prompt_comes_first_and_only_when_there_is_one() -> None:
    assert contents(Chat(), "q", "  be brief ") == [("system", "be brief"), ("user", "q")]
    assert contents(Chat(), "q", "  ") == [("user", "q")]


def test_a_question_nobody_answered_goes_back_and_leaves_no_trace_in_the_history() -> None:
    chat = answered(answered(Chat(), "one", *STAGES), "two", turn_id="turn-2")
    assert chat.unanswered == "two"
    assert not chat.turns[-1].votable
    assert contents(chat) == [("user", "one"), ("assistant", "rlf says one"), ("user", "next")]
    assert chat.parent_turn_id == "turn-1"
    again = chat.settled_for_next().ask("three", STAGES)
    assert [turn.question for turn in again.turns] == ["one", "three"]
    assert again.unanswered == ""


def test_failure_in_mid_turn_keeps_the_answers_that_had_arrived() -> None:
    chat = Chat().ask("q", STAGES).apply(TurnEvent(turn_id="t", conversation_id="c", stages=list(STAGES)))
    chat = chat.apply(DeltaEvent(stage="base", delta="all of it")).apply(done("base"))
    chat = chat.apply(DeltaEvent(stage="sft", delta="half of")).fail("The line broke.")
    base, sft, rlf = chat.turns[0].panes
    assert (base.status, sft.status, rlf.status) == (Status.DONE, Status.FAILED, Status.FAILED)
    assert (sft.text, sft.error) == ("half of", "The line broke.")
    assert chat.turns[0].votable
    assert chat.unanswered == ""


def test_an_error_without_a_stage_fails_every_open_pane() -> None:
    chat = Chat().ask("q", STAGES).apply(ErrorEvent(error=ErrorDetail(message="engine died")))
    assert {pane.error for pane in chat.turns[0].panes} == {"engine died"}


def test_an_end_before_a_stage_was_done_is_a_failure_of_that_stage() -> None:
    chat = Chat().ask("q", STAGES).apply(TurnEvent(turn_id="t", conversation_id="c", stages=["base", "rlf"]))
    chat = chat.apply(done("base")).apply(EndEvent())
    assert [pane.stage for pane in chat.turns[0].panes] == ["base", "rlf"]
    assert chat.turns[0].panes[1].error == texts.UNFINISHED


def test_stopping_keeps_what_was_written() -> None:
    chat = Chat().ask("q", STAGES).apply(TurnEvent(turn_id="t", conversation_id="c", stages=list(STAGES)))
    chat = chat.apply(done("base")).apply(DeltaEvent(stage="sft", delta="so far")).stop()
    assert [pane.status for pane in chat.turns[0].panes] == [Status.DONE, Status.STOPPED, Status.STOPPED]
    assert chat.turns[0].kept is chat.turns[0].panes[1]
    assert not chat.busy


def test_stopping_before_any_text_gives_the_question_back() -> None:
    assert Chat().ask("q", STAGES).stop().unanswered == "q"


def test_a_revised_message_takes_the_place_of_the_last_one() -> None:
    chat = answered(answered(Chat(), "one", *STAGES).vote("sft"), "two", *STAGES, turn_id="turn-2").revise(True)
    again = chat.settled_for_next()
    assert contents(again) == [("user", "one"), ("assistant", "sft says one"), ("user", "next")]
    assert (again.parent_turn_id, again.conversation_id, again.revising) == ("turn-1", "conversation", False)
    first = answered(Chat(), "one", *STAGES).revise(True).settled_for_next()
    assert (first.turns, first.conversation_id, first.parent_turn_id) == ((), None, None)


def test_what_an_answer_should_have_said_is_what_the_conversation_goes_on_from() -> None:
    chat = answered(Chat(), "one", *STAGES).vote("base", edited="better words")
    assert contents(chat)[1] == ("assistant", "better words")
    changed = chat.vote("sft")
    assert contents(changed)[1] == ("assistant", "sft says one")
    assert [pane.edited for pane in changed.turns[0].panes] == ["", "", ""]


def test_a_vote_that_is_taken_back_leaves_nothing_of_itself() -> None:
    before = answered(Chat(), "one", *STAGES)
    assert before.vote("base", comment="why", edited="better").undo() == before


def test_answers_anew_leave_the_others_and_take_the_vote_away() -> None:
    chat = answered(Chat(), "one", *STAGES).vote("rlf").anew(("sft",))
    assert [pane.status for pane in chat.turns[0].panes] == [Status.DONE, Status.WAITING, Status.DONE]
    assert chat.turns[0].vote is None
    same = chat.apply(TurnEvent(turn_id="turn-1", conversation_id="conversation", stages=["sft"]))
    assert same == chat, "the turn is the one that is shown"
    after = chat.apply(DeltaEvent(stage="sft", delta="other")).apply(done("sft")).apply(EndEvent())
    assert [pane.text for pane in after.turns[0].panes] == ["base says one", "other", "rlf says one"]


def test_the_queue_is_told_until_the_first_word() -> None:
    turn = TurnEvent(turn_id="t", conversation_id="c", stages=list(STAGES))
    chat = Chat().ask("q", STAGES).apply(turn).apply(QueuedEvent(ahead=3))
    assert chat.turns[0].ahead == 3
    assert chat.apply(DeltaEvent(stage="base", delta="x")).turns[0].ahead is None


def test_a_revealed_turn_takes_no_other_vote() -> None:
    turn = TurnEvent(turn_id="t", conversation_id="c", stages=["A", "B"])
    chat = Chat().ask("q", STAGES[:2]).apply(turn)
    for pane in "AB":
        chat = chat.apply(DeltaEvent(stage=pane, delta="words")).apply(done(pane))
    assert chat.turns[0].votable and all(pane.hidden for pane in chat.turns[0].panes)
    chat = chat.vote("B").reveal({"A": "sft", "B": "base"}, {"A": "sft@2", "B": None})
    assert [(pane.behind, pane.version) for pane in chat.turns[0].panes] == [("sft", "sft@2"), ("base", None)]
    assert not chat.turns[0].votable and not chat.undo().turns[0].votable


def test_a_copy_holds_the_words_and_nothing_to_vote_with() -> None:
    chat = answered(Chat(id="mine"), "one", *STAGES).vote("sft", comment="mine too").as_copy()
    turn = chat.turns[0]
    assert (chat.id, chat.conversation_id, turn.turn_id, turn.comment, turn.vote) == ("", None, None, "", "sft")
    assert not turn.votable and turn.panes[0].result is not None and turn.panes[0].result.completion_id == ""
    assert contents(chat)[1] == ("assistant", "sft says one")


def test_what_streamed_when_the_page_closed_says_so_when_it_comes_back() -> None:
    turn = TurnEvent(turn_id="t", conversation_id="c", stages=list(STAGES))
    chat = Chat().ask("q", STAGES).apply(turn).apply(DeltaEvent(stage="sft", delta="half")).restored()
    assert not chat.busy and {pane.error for pane in chat.turns[0].panes} == {texts.CUT_OFF}
