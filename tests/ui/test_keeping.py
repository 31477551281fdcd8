"""What the browser keeps and what travels in a link: past chats, shared chats, who the visitor is."""

import base64
import json
import zlib
from dataclasses import replace
from typing import Any

import pytest

from sawyer.types import STAGES, DeltaEvent, TurnEvent
from tests.ui.test_chat import answered
from ui import history, share, texts
from ui.arrival import arrive
from ui.chat import Chat
from ui.menus import past_html, share_html
from ui.presses import Press
from ui.visitor import MAX_NAME, Visitor

SCRIPT = "<script>alert(1)</script>"


def conversation(question: str = "one", chat_id: str = "first") -> Chat:
    return answered(Chat(id=chat_id), question, *STAGES).vote("sft", comment="why", edited="better")


def test_a_chat_comes_back_as_it_was() -> None:
    chat = answered(conversation(), "two", *STAGES, turn_id="turn-2")
    stored = json.loads(json.dumps(history.keep([], chat, "arena", 5.0)))
    assert history.find(stored, "first") == chat
    assert [(saved["title"], saved["page"], saved["when"]) for saved in stored] == [("one", "arena", 5)]
    assert history.held_on(stored, "") == [] and history.held_on(stored, "arena") == stored


def test_the_newest_twenty_are_kept_each_once_and_can_be_deleted() -> None:
    chats: Any = []
    for number in range(25):
        chats = history.keep(chats, conversation(str(number), f"chat-{number}"), "", number)
    chats = history.keep(chats, conversation("again", "chat-20"), "", 99)
    assert len(chats) == history.KEPT and chats[0]["id"] == "chat-20"
    assert len({saved["id"] for saved in chats}) == history.KEPT
    assert history.find(history.remove(chats, "chat-20"), "chat-20") is None


def test_the_browser_is_told_what_changed_and_not_the_whole_list() -> None:
    one = history.keep([], conversation("1", "chat-1"), "", 1)
    two = history.keep(one, conversation("2", "chat-2"), "", 2)
    assert history.change(one, two) == {"put": [two[0]], "forget": []}
    assert history.change(two, history.remove(two, "chat-1")) == {"put": [], "forget": ["chat-1"]}
    assert history.change("broken", one) == {"put": one, "forget": []}
    full: Any = []
    for number in range(history.KEPT):
        full = history.keep(full, conversation(str(number), f"chat-{number}"), "", number)
    newest = history.keep(full, conversation("x", "chat-x"), "", 99)
    assert history.change(full, newest) == {"put": [newest[0]], "forget": []}, "the browser counts for itself"


def test_a_chat_too_long_for_a_browser_is_not_kept() -> None:
    assert history.keep([], conversation("x" * history.MAX_CHARACTERS), "", 0) == []


@pytest.mark.parametrize(
    "broken",
    [
        None,
        "text",
        {"id": "first"},
        [1, None],
        [{"id": "first", "title": "t", "page": "", "when": 1, "chat": {"turns": 5}}],
    ],
)
def test_a_memory_that_cannot_be_read_is_no_chat(broken: Any) -> None:
    assert history.find(broken, "first") is None
    assert arrive("http://x/", "first", broken) == Chat()
    past_html(broken, "")


def test_a_link_holds_the_conversation_as_a_copy() -> None:
    opened = arrive("http://127.0.0.1:1/#" + share.fragment(conversation()), "other", [])
    assert opened.id and replace(opened, id="") == conversation().as_copy()
    assert opened.turns[0].panes[1].edited == "better" and opened.turns[0].turn_id is None


def test_this_tab_s_own_chat_comes_back_after_a_reload() -> None:
    turn = TurnEvent(turn_id="t", conversation_id="c", stages=list(STAGES))
    cut = Chat(id="cut").ask("q", STAGES).apply(turn).apply(DeltaEvent(stage="sft", delta="half"))
    chats = history.keep(history.keep([], conversation(), "", 1), cut, "", 2)
    assert arrive("http://x/", "first", chats) == conversation()
    assert {pane.error for pane in arrive("http://x/", "cut", chats).turns[0].panes} == {texts.CUT_OFF}
    assert arrive("http://x/", "", chats) == Chat()


@pytest.mark.parametrize(
    "part",
    [
        "",
        "chat=",
        "chat=!!!",
        "chat=" + "A" * 50,
        "other=1",
        "chat=" + base64.urlsafe_b64encode(zlib.compress(b"[" * 100_000)).decode(),
        "chat=" + base64.urlsafe_b64encode(zlib.compress(b'{"turns": [{"question": 1}]}')).decode(),
        "chat=" + base64.urlsafe_b64encode(zlib.compress(b" " * (share.MAX_BYTES + 1))).decode(),
    ],
)
def test_a_link_that_holds_no_chat_opens_an_empty_page(part: str) -> None:
    assert share.from_fragment(part) is None
    assert arrive("http://x/#" + part, "", []) == Chat()


def test_downloads_hold_what_was_said_and_a_blind_pane_s_reward_is_not_among_it() -> None:
    chat = conversation()
    assert "### SFT (your choice)\n\nbetter" in share.markdown(chat) and "> one" in share.markdown(chat)
    answers = json.loads(share.as_json(chat))["conversation"][0]["answers"]
    assert [(a["stage"], a["text"], a["edited"], a["reward"]) for a in answers][1] == (
        "sft",
        "sft says one",
        "better",
        1.0,
    )
    pane = replace(chat.turns[0].panes[0], stage="A")
    blind = replace(chat, turns=(replace(chat.turns[0], panes=(pane,), vote=None),))
    assert json.loads(share.as_json(blind))["conversation"][0]["answers"][0]["reward"] is None
    assert share.data_url("ä", "text/markdown").startswith("data:text/markdown;charset=utf-8;base64,")


def test_menus_show_text_as_text() -> None:
    chat = conversation(SCRIPT, SCRIPT)
    assert "<script" not in past_html(history.keep([], chat, "", 1), "") + share_html(chat)
    assert share_html(Chat()) == "" and past_html([], "") == ""


def test_a_visitor_is_somebody_and_stays_the_same() -> None:
    new = Visitor.read(None)
    assert new.voter and new.consent and not new.seen_hint
    assert Visitor.read(new.called(" Ada ").dump()) == replace(new, name="Ada")
    assert Visitor.read({"voter": ["x"]}).voter != "x" and Visitor.read("nonsense").voter
    assert len(new.called("x" * 99).name) == MAX_NAME


@pytest.mark.parametrize("data", [None, "x", {"slot": "many"}, {"do": 5, "slot": []}])
def test_what_is_no_button_s_data_presses_nothing(data: Any) -> None:
    assert Press.read(data) == Press()


def test_a_press_names_its_pane_and_one_beyond_the_last_none() -> None:
    chat = conversation()
    assert Press.read({"do": "vote", "slot": "1", "via": "act"}).panes(chat) == ("sft",)
    assert Press.read({"do": "anew", "slot": "7"}).pane(chat) is None
    assert Press.read({"do": "example", "slot": "-1"}).example(("a",)) == ""
