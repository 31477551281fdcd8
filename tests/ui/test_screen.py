"""What is shown for which chat, without a browser."""

import re
from dataclasses import replace

import pytest

from sawyer.types import STAGES, DeltaEvent, DoneEvent, QueuedEvent, Sampling, ServerInfo, TurnEvent
from tests.ui.test_chat import answered
from ui import texts
from ui.chat import Chat
from ui.connection import Connection
from ui.mode import ARENA, COMPARE, SUMMARIES, Mode
from ui.panes import pane_html, reward_scale
from ui.screen import Scene, Screen, difference, settings_defaults
from ui.screen import screen as screen_of
from ui.turn import Pane, Status, Turn
from ui.visitor import Visitor

SCRIPT = "<script>alert(1)</script>"


def server(*stages: str, ready: bool = True, examples: tuple[str, ...] = ()) -> Connection:
    info = ServerInfo.model_validate(
        {
            "name": "test",
            "stages": stages,
            "ready": ready,
            "rewards": True,
            "sampling": Sampling(max_tokens=64, temperature=0.5, top_p=0.9),
            "context": 512,
            "max_tokens": 200,
            "examples": examples,
        }
    )
    return Connection(info)


def screen(chat: Chat, connection: Connection, mode: Mode = COMPARE, seen_hint: bool = True) -> Screen:
    return screen_of(Scene(chat, connection, Visitor(voter="me", seen_hint=seen_hint), mode))


def waiting(shown: Screen, text: str) -> bool:
    """The button that says ``text`` is there and cannot be pressed."""
    html = "".join(str(properties.get("value", "")) for properties in shown.values())
    buttons = re.findall(r"<button[^>]*>(?:(?!</button>).)*</button>", html)
    found = [each for each in buttons if text in each]
    assert found, f"no button says {text}"
    return all(" disabled" in each for each in found)


def foot(reward: float | None, scale: float, **more: object) -> str:
    pane = scored(reward)
    assert pane.result is not None
    pane = replace(pane, result=pane.result.model_copy(update=more))
    return pane_html(Turn("q", (pane,), turn_id="t"), 0, scale=scale)


def scored(reward: float | None) -> Pane:
    result = DoneEvent(
        stage="sft", completion_id="c", reward=reward, tokens=7, seconds=1.26, finish_reason="length", version="sft@3"
    )
    return Pane("sft", Status.DONE, "Hello", result, version="sft@3")


def test_before_the_first_question_the_panes_explain_themselves() -> None:
    shown = screen(Chat(), server(*STAGES))
    for slot, stage in enumerate(STAGES):
        assert texts.stage_text(stage).description in shown[f"pane_{slot}"]["value"]
        assert "<button" not in shown[f"pane_{slot}"]["value"]
    assert shown["examples"]["visible"] is True
    assert shown["verdicts"]["visible"] is False
    assert shown["retry"]["active"] is False


def test_two_stages_leave_the_third_pane_away() -> None:
    shown = screen(Chat(), server("base", "rlf"))
    assert [shown[f"pane_{slot}"]["visible"] for slot in range(3)] == [True, True, False]
    assert "RLF" in shown["pane_1"]["value"]


def test_while_answers_stream_one_can_stop_but_not_vote() -> None:
    chat = Chat().ask("q", STAGES).apply(TurnEvent(turn_id="t", conversation_id="c", stages=list(STAGES)))
    shown = screen(chat, server(*STAGES))
    assert (shown["ask"]["visible"], shown["stop"]["visible"]) == (False, True)
    assert waiting(shown, texts.PICK) and waiting(shown, texts.BAD) and waiting(shown, texts.ALL_ANEW)
    assert not shown["new_chat"]["interactive"]
    assert shown["share"]["value"] == ""


def test_only_what_changed_travels_while_streaming() -> None:
    before = Chat().ask("q", STAGES).apply(TurnEvent(turn_id="t", conversation_id="c", stages=list(STAGES)))
    after = before.apply(DeltaEvent(stage="sft", delta="Hi"))
    connection = server(*STAGES)
    assert set(difference(screen(before, connection), screen(after, connection))) == {"pane_1"}


def test_after_the_answers_the_page_asks_for_a_vote_and_says_what_happens_without() -> None:
    shown = screen(answered(Chat(), "q", *STAGES), server(*STAGES))
    assert texts.VOTE_PROMPT in shown["verdicts"]["value"]
    assert texts.CONTINUES_UNLESS.format(answer="the RLF answer") in shown["verdicts"]["value"]
    for text in (texts.PICK, texts.TIE, texts.BAD, texts.ALL_ANEW, texts.EDIT_MESSAGE):
        assert not waiting(shown, text)
    assert texts.UNDO not in shown["verdicts"]["value"] and shown["comments"]["visible"] is False


def test_a_vote_is_thanked_for_and_highlighted() -> None:
    shown = screen(answered(Chat(), "q", *STAGES).vote("sft"), server(*STAGES))
    assert texts.VOTE_SAVED in shown["verdicts"]["value"]
    assert texts.CONTINUES.format(answer="the SFT answer") in shown["verdicts"]["value"]
    assert "sw-chosen" in shown["pane_1"]["value"]
    assert "sw-chosen" not in shown["pane_2"]["value"]
    assert texts.PICKED in shown["pane_1"]["value"] and texts.PICKED not in shown["pane_0"]["value"]
    assert texts.UNDO in shown["verdicts"]["value"] and shown["comments"]["visible"] is True


@pytest.mark.parametrize(("verdict", "label"), [("tie", texts.TIED), ("bad", texts.BAD_CHOSEN)])
def test_verdicts_show_that_they_were_given(verdict: str, label: str) -> None:
    shown = screen(answered(Chat(), "q", *STAGES).vote(verdict), server(*STAGES))
    assert label in shown["verdicts"]["value"], verdict
    assert texts.CONTINUES.format(answer="the RLF answer") in shown["verdicts"]["value"]


def test_a_failed_pane_says_why_and_cannot_be_voted_for() -> None:
    shown = screen(answered(Chat(), "q", "sft"), server(*STAGES))
    assert "out of memory" in shown["pane_0"]["value"]
    assert texts.PICK not in shown["pane_0"]["value"] and texts.RETRY in shown["pane_0"]["value"]
    assert not waiting(shown, texts.RETRY) and not waiting({"pane": shown["pane_1"]}, texts.PICK)
    assert waiting(shown, texts.TIE), "there is nothing to tie with"
    assert not waiting(shown, texts.BAD)


def test_a_turn_stopped_too_early_asks_for_no_vote() -> None:
    chat = Chat().ask("q", STAGES).apply(TurnEvent(turn_id="t", conversation_id="c", stages=list(STAGES)))
    shown = screen(chat.apply(DeltaEvent(stage="sft", delta="so far")).stop(), server(*STAGES))
    assert texts.STOPPED_EARLY in shown["verdicts"]["value"]
    assert texts.CONTINUES.format(answer="the SFT answer") in shown["verdicts"]["value"]
    assert waiting(shown, texts.PICK)


def test_answers_have_names_that_read_well_in_a_sentence() -> None:
    assert [texts.answer_of(stage) for stage in ("rlf", "rlf@2", "B")] == [
        "the RLF answer",
        "the RLF 2 answer",
        "answer B",
    ]


def test_a_pasted_article_scrolls_within_itself_and_the_keyboard_reaches_it() -> None:
    short, long = (screen(answered(Chat(), "word " * count, *STAGES), server(*STAGES)) for count in (20, 200))
    assert "sw-long" not in short["transcript"]["value"]
    assert re.search(r'sw-long" tabindex=0', long["transcript"]["value"])


def test_earlier_turns_show_the_answer_they_kept() -> None:
    chat = answered(Chat(), "first", *STAGES).vote("base")
    html = screen(answered(chat, "second", *STAGES), server(*STAGES))["transcript"]["value"]
    assert html.index("first") < html.index("base says first") < html.index("sft says first") < html.index("second")
    assert texts.EARLIER_VOTED in html
    assert "says second" not in html


def test_text_from_anybody_is_text() -> None:
    chat = answered(answered(Chat(), SCRIPT, *STAGES), SCRIPT, *STAGES).noting(SCRIPT)
    chat = chat.ask("q", STAGES).apply(TurnEvent(turn_id="t", conversation_id="c", stages=[SCRIPT])).noting(SCRIPT)
    shown = screen(chat.fail(SCRIPT), server(*STAGES))
    for name, properties in shown.items():
        assert "<script" not in str(properties.get("value", "")), name


@pytest.mark.parametrize(
    ("rewards", "scale"),
    [([], 2), ([None], 2), ([0.4, -1.9], 2), ([2.5], 5), ([-7.0, 1.0], 10), ([99.0], 100), ([4000.0], 100)],
)
def test_reward_bars_share_one_scale(rewards: list[float | None], scale: float) -> None:
    assert reward_scale(scored(reward) for reward in rewards) == scale


@pytest.mark.parametrize(
    ("reward", "expected"),
    [
        (2.5, "left:50.0%;width:25.0%"),
        (-5.0, "left:0.0%;width:50.0%"),
        (-2.5, "left:25.0%;width:25.0%"),
        (400.0, "left:50.0%;width:50.0%"),
    ],
)
def test_a_bar_starts_at_zero_and_stays_on_its_track(reward: float, expected: str) -> None:
    assert expected in foot(reward, 5.0)


def test_the_foot_names_tokens_seconds_reward_version_and_the_cut() -> None:
    html = foot(-1.5, 2.0)
    for piece in ("7 tokens", "1.3 s", texts.CUT_SHORT, "\N{MINUS SIGN}1.50", "sft@3"):
        assert piece in html
    assert texts.NO_REWARD in foot(None, 2.0)


def test_settings_take_the_server_s_values() -> None:
    defaults = settings_defaults(server(*STAGES))
    assert defaults["max_tokens"] == {"value": 64, "maximum": 200}
    assert defaults["temperature"] == {"value": 0.5}
    assert settings_defaults(Connection()) == {}
    info = server(*STAGES).info
    assert info is not None
    short = settings_defaults(Connection(info.model_copy(update={"max_tokens": 40})))
    assert short["max_tokens"] == {"value": 40, "maximum": 40}


def test_examples_of_the_server_replace_the_page_s_own() -> None:
    shown = screen(Chat(), server(*STAGES, examples=("One?", "Two?")))
    assert "Two?" in shown["examples"]["value"] and texts.EXAMPLES[0] not in shown["examples"]["value"]
    early = screen(Chat(), Connection())
    assert texts.EXAMPLES[0] in early["examples"]["value"] and waiting(early, texts.EXAMPLES[0])


def test_a_server_that_is_not_ready_is_said_and_asked_again() -> None:
    shown = screen(Chat(), Connection(None, texts.SERVER_AWAY_ON_LOAD))
    assert texts.SERVER_AWAY_ON_LOAD in shown["notice"]["value"]
    assert shown["retry"]["active"] is True


def test_parts_of_a_reward_stand_below_it_and_in_its_tooltip() -> None:
    html = foot(1.0, 2.0, parts={"acceptability": 1.25, "neutral": -0.5})
    assert "acceptability +1.25; neutral \N{MINUS SIGN}0.50" in html
    assert "<li><span>neutral</span><b>\N{MINUS SIGN}0.50</b></li>" in html


def test_a_blind_pane_keeps_its_stage_and_reward_to_itself_until_the_vote() -> None:
    turn = TurnEvent(turn_id="t", conversation_id="c", stages=["A", "B", "C"])
    chat = Chat().ask("q", STAGES).apply(turn)
    for pane in "ABC":
        result = DoneEvent(stage=pane, completion_id=pane, reward=1.75, tokens=2, seconds=0.5, finish_reason="stop")
        chat = chat.apply(DeltaEvent(stage=pane, delta="words")).apply(result)
    before = str(screen(chat, server(*STAGES), ARENA))
    assert "Answer B" in before and "1.75" not in before and "RLF" not in before and "sw-version" not in before
    voted = chat.vote("B").reveal({"A": "sft", "B": "rlf", "C": "base"}, {"A": "sft@1", "B": "rlf@2", "C": None})
    after = screen(voted, server(*STAGES), ARENA)
    for piece in ("RLF", "rlf@2", "+1.75", texts.WAS.format(pane="B")):
        assert piece in after["pane_1"]["value"]
    assert waiting({"pane": after["pane_0"]}, texts.PICK)
    assert texts.REVEALED in screen(voted.undo(), server(*STAGES), ARENA)["verdicts"]["value"]


def test_before_the_first_question_blind_panes_have_letters_and_chosen_ones_their_names() -> None:
    assert "Answer C" in screen(Chat(), server(*STAGES), ARENA)["pane_2"]["value"]
    chosen = replace(server(*STAGES), wanted=("base", "rlf"))
    assert [screen(Chat(), chosen)[f"pane_{slot}"]["visible"] for slot in range(3)] == [True, True, False]


def test_those_who_wait_are_told_how_many_come_first() -> None:
    chat = Chat().ask("q", STAGES).apply(TurnEvent(turn_id="t", conversation_id="c", stages=list(STAGES)))
    shown = screen(chat.apply(QueuedEvent(ahead=4)), server(*STAGES))
    assert texts.replies_ahead(4) in shown["pane_2"]["value"] and "4 replies" in texts.replies_ahead(4)


def test_the_hint_shows_until_it_is_seen_and_only_before_the_first_question() -> None:
    assert screen(Chat(), server(*STAGES), seen_hint=False)["hint"]["visible"] is True
    assert screen(Chat(), server(*STAGES))["hint"]["visible"] is False
    assert screen(answered(Chat(), "q", *STAGES), server(*STAGES), seen_hint=False)["hint"]["visible"] is False


def test_a_page_for_summaries_says_when_its_server_only_chats() -> None:
    shown = screen(Chat(), server(*STAGES), SUMMARIES)
    assert texts.SUMMARIES_COMMANDS[0] in shown["notice"]["value"] and shown["examples"]["visible"] is False
    info = server("base", "rlf").info
    assert info is not None
    summary = Connection(info.model_copy(update={"kind": "summary"}))
    assert screen(Chat(), summary)["ask"]["value"] == texts.SUMMARISE, "and its front page is that page"


def test_a_page_for_summaries_speaks_of_summaries_and_continues_nothing() -> None:
    shown = screen(answered(Chat(), "q", "base", "rlf"), server("base", "rlf"), SUMMARIES)["verdicts"]["value"]
    assert texts.SUMMARIES_PROMPT in shown and texts.KEYS.format(numbers="1 3") in shown and "continues" not in shown
    voted = screen(answered(Chat(), "q", "base", "rlf").vote("rlf"), server("base", "rlf"), SUMMARIES)
    assert texts.VOTE_SAVED in voted["verdicts"]["value"] and "continues" not in voted["verdicts"]["value"]
    hint = screen(Chat(), server("base", "rlf"), SUMMARIES, seen_hint=False)["hint"]["value"]
    assert texts.SUMMARIES_HINT[0] in hint and texts.HINT[1] not in hint


def test_answers_that_are_the_same_are_said_to_be() -> None:
    chat = answered(Chat(), "q", *STAGES)
    assert chat.current is not None and texts.SAME_WORDS not in screen(chat, server(*STAGES))["verdicts"]["value"]
    alike = replace(
        chat, turns=(replace(chat.current, panes=tuple(replace(p, text="Yes") for p in chat.current.panes)),)
    )
    assert texts.SAME_WORDS in screen(alike, server(*STAGES))["verdicts"]["value"]


def test_an_answer_being_written_anew_has_its_editor_and_a_stored_one_stands_in_its_pane() -> None:
    chat = answered(Chat(), "q", *STAGES)
    assert screen(chat.edit("sft"), server(*STAGES))["editor"]["visible"] is True
    shown = screen(chat.vote("sft", edited="**Better**", comment="<b>why</b>"), server(*STAGES))
    assert texts.YOUR_VERSION in shown["pane_1"]["value"] and "<strong>Better</strong>" in shown["pane_1"]["value"]
    assert "&lt;b&gt;why" in shown["comment_saved"]["value"]
    assert texts.EDIT_SAVED in shown["verdicts"]["value"]
