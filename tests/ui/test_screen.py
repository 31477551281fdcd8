"""What is shown for which chat, without a browser."""

import pytest

from sawyer.types import STAGES, DeltaEvent, DoneEvent, Sampling, ServerInfo, TurnEvent
from tests.ui.test_chat import answered
from ui import texts
from ui.chat import Chat, Pane, Status
from ui.connection import Connection
from ui.panes import pane_html, reward_scale
from ui.screen import difference, screen, settings_defaults

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


def scored(reward: float | None) -> Pane:
    result = DoneEvent(
        stage="sft", completion_id="c", reward=reward, tokens=7, seconds=1.26, finish_reason="length", version="sft@3"
    )
    return Pane("sft", Status.DONE, "Hello", result)


def test_before_the_first_question_the_panes_explain_themselves() -> None:
    shown = screen(Chat(), server(*STAGES))
    for slot, stage in enumerate(STAGES):
        assert texts.stage_text(stage).description in shown[f"reply_{slot}"]["value"]
        assert shown[f"pick_{slot}"]["visible"] is False
    assert shown["examples"]["visible"] is True
    assert shown["verdicts"]["visible"] is False
    assert shown["retry"]["active"] is False


def test_two_stages_leave_the_third_pane_away() -> None:
    shown = screen(Chat(), server("base", "rlf"))
    assert [shown[f"pane_{slot}"]["visible"] for slot in range(3)] == [True, True, False]
    assert "RLF" in shown["reply_1"]["value"]


def test_while_answers_stream_one_can_stop_but_not_vote() -> None:
    chat = Chat().ask("q", STAGES).apply(TurnEvent(turn_id="t", conversation_id="c", stages=list(STAGES)))
    shown = screen(chat, server(*STAGES))
    assert (shown["ask"]["visible"], shown["stop"]["visible"]) == (False, True)
    assert not shown["pick_0"]["interactive"]
    assert not shown["bad"]["interactive"]
    assert not shown["new_chat"]["interactive"]


def test_only_what_changed_travels_while_streaming() -> None:
    before = Chat().ask("q", STAGES).apply(TurnEvent(turn_id="t", conversation_id="c", stages=list(STAGES)))
    after = before.apply(DeltaEvent(stage="sft", delta="Hi"))
    connection = server(*STAGES)
    assert set(difference(screen(before, connection), screen(after, connection))) == {"reply_1"}


def test_after_the_answers_the_page_asks_for_a_vote_and_says_what_happens_without() -> None:
    shown = screen(answered(Chat(), "q", *STAGES), server(*STAGES))
    assert texts.VOTE_PROMPT in shown["status"]["value"]
    assert texts.CONTINUES_UNLESS.format(stage="RLF") in shown["status"]["value"]
    assert all(shown[name]["interactive"] for name in ("pick_0", "pick_1", "pick_2", "tie", "bad"))


def test_a_vote_is_thanked_for_and_highlighted() -> None:
    shown = screen(answered(Chat(), "q", *STAGES).vote("sft"), server(*STAGES))
    assert texts.VOTE_SAVED in shown["status"]["value"]
    assert texts.CONTINUES.format(stage="SFT") in shown["status"]["value"]
    assert "sw-chosen" in shown["reply_1"]["value"]
    assert "sw-chosen" not in shown["reply_2"]["value"]
    assert shown["pick_1"] == {"visible": True, "value": texts.PICKED, "variant": "primary", "interactive": True}


@pytest.mark.parametrize(("verdict", "label"), [("tie", texts.TIED), ("bad", texts.BAD_CHOSEN)])
def test_verdicts_show_that_they_were_given(verdict: str, label: str) -> None:
    shown = screen(answered(Chat(), "q", *STAGES).vote(verdict), server(*STAGES))
    assert shown[verdict]["value"] == label
    assert texts.CONTINUES.format(stage="RLF") in shown["status"]["value"]


def test_a_failed_pane_says_why_and_cannot_be_voted_for() -> None:
    shown = screen(answered(Chat(), "q", "sft"), server(*STAGES))
    assert "out of memory" in shown["reply_0"]["value"]
    assert not shown["pick_0"]["interactive"]
    assert shown["pick_1"]["interactive"]
    assert not shown["tie"]["interactive"], "there is nothing to tie with"
    assert shown["bad"]["interactive"]


def test_a_turn_stopped_too_early_asks_for_no_vote() -> None:
    chat = Chat().ask("q", STAGES).apply(TurnEvent(turn_id="t", conversation_id="c", stages=list(STAGES)))
    shown = screen(chat.apply(DeltaEvent(stage="sft", delta="so far")).stop(), server(*STAGES))
    assert texts.STOPPED_EARLY in shown["status"]["value"]
    assert texts.CONTINUES.format(stage="SFT") in shown["status"]["value"]
    assert not shown["pick_1"]["interactive"]


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
    assert expected in pane_html(scored(reward), chosen=False, scale=5.0)


def test_the_foot_names_tokens_seconds_reward_version_and_the_cut() -> None:
    html = pane_html(scored(-1.5), chosen=False, scale=2.0)
    for piece in ("7 tokens", "1.3 s", texts.CUT_SHORT, "\N{MINUS SIGN}1.50", "sft@3"):
        assert piece in html
    assert texts.NO_REWARD in pane_html(scored(None), chosen=False, scale=2.0)


def test_settings_take_the_server_s_values() -> None:
    defaults = settings_defaults(server(*STAGES))
    assert defaults["max_tokens"] == {"value": 64, "maximum": 200}
    assert defaults["temperature"] == {"value": 0.5}
    assert settings_defaults(Connection()) == {}


def test_examples_of_the_server_replace_the_page_s_own() -> None:
    shown = screen(Chat(), server(*STAGES, examples=("One?", "Two?")))
    assert shown["example_1"] == {"visible": True, "value": "Two?"}
    assert shown["example_2"]["visible"] is False
    assert screen(Chat(), Connection())["example_0"]["value"] == texts.EXAMPLES[0]


def test_a_server_that_is_not_ready_is_said_and_asked_again() -> None:
    shown = screen(Chat(), Connection(None, texts.SERVER_AWAY_ON_LOAD))
    assert texts.SERVER_AWAY_ON_LOAD in shown["notice"]["value"]
    assert shown["retry"]["active"] is True
