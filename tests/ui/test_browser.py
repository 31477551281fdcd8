"""The pages in a real browser: ask, stream, vote, take back, write anew, and everything that can go wrong meanwhile."""

import time
from collections.abc import Callable

import pytest

from tests.ui.conftest import PATIENCE, Visit
from tests.ui.fake_api import REPLIES, FakeApi
from ui import texts

pytestmark = pytest.mark.browser

Arrive = Callable[..., Visit]
ALL_STREAMING = """() => [...document.querySelectorAll('.sw-streaming .sw-reply')]
    .filter(reply => reply.innerText.trim().length > 5).length === 3"""
COUNT_HANDS = """() => {
    window.hands = [];
    for (const kind of ["click", "keydown"]) {
        window.addEventListener(kind, (event) => event.isTrusted && window.hands.push(kind), true);
    }
}"""
READY = '[data-ready="true"]'


def test_a_newcomer_votes_in_three_steps_with_the_keys_and_takes_it_back(visit: Arrive, fake: FakeApi) -> None:
    fake.holds_after = 30
    visitor = visit()
    page = visitor.page
    page.wait_for_function("document.querySelectorAll('.sw-hint li').length === 3")
    page.evaluate(COUNT_HANDS)
    page.locator(".sw-chip").first.click()  # one: an example
    page.wait_for_function(ALL_STREAMING)
    fake.holds_after = None
    page.wait_for_selector(READY)  # two: wait
    page.keyboard.press("2")  # three: vote
    page.wait_for_selector(".sw-thanks")
    assert page.locator(".sw-bar").count() == 3
    assert page.locator("#sw-panes .block:has(.sw-chosen) h2").inner_text().startswith("SFT")
    key, vote = fake.votes[0]
    assert (vote.turn_id, vote.choice, vote.position, vote.consent) == ("turn-1", "sft", 1, True)
    assert key
    assert page.evaluate("window.hands") == ["click", "keydown"], "nothing else was needed for a vote"
    page.keyboard.press("u")
    page.wait_for_selector(READY)
    assert fake.undone[0].voter == vote.voter
    page.keyboard.press("b")
    page.wait_for_selector(".sw-thanks")
    assert fake.votes[1][1].choice == "bad"
    visitor.press(page.locator("#sw-slot-2 .sw-pick"), "#sw-slot-2 .sw-chosen")
    page.locator("#sw-slot-2").get_by_role("button", name=texts.THUMBS[True].format(pane="RLF")).click()
    page.wait_for_selector("#sw-slot-2 [data-do=up][aria-pressed=true]")
    assert fake.ratings[0].up is True
    visitor.ask_next("And 1 soft, but tasty?")  # keys typed into the box are no votes
    page.wait_for_selector(".sw-turn")
    visitor.wait_for_answers()
    assert [message.content for message in fake.asked[1].messages][1] == REPLIES["rlf"][0]
    assert len(fake.votes) == 3
    assert visitor.foreign == []
    assert visitor.alarms == []


def test_the_arena_is_blind_until_the_vote(visit: Arrive, fake: FakeApi) -> None:
    visitor = visit("/arena")
    page = visitor.page
    visitor.ask("Who are you?")
    visitor.wait_for_answers()
    assert [name.strip() for name in page.locator("#sw-panes h2").all_inner_texts()] == [
        "Answer A",
        "Answer B",
        "Answer C",
    ]
    assert page.locator(".sw-bar").count() == 0
    assert fake.asked[0].blind is True
    visitor.press(page.locator("#sw-slot-1 .sw-pick"), ".sw-thanks")
    assert [name.split()[0] for name in page.locator("#sw-panes h2").all_inner_texts()] == ["RLF", "SFT", "Base"]
    assert "sft@1" in page.locator("#sw-slot-1 .sw-version").inner_text()
    assert page.locator(".sw-bar").count() == 3
    assert (fake.votes[0][1].choice, fake.votes[0][1].position) == ("B", 1)
    assert page.locator("#sw-slot-0 .sw-pick").is_disabled()


def test_messages_and_answers_are_written_anew(visit: Arrive, fake: FakeApi) -> None:
    visitor = visit()
    page = visitor.page
    visitor.ask("Firts question")
    visitor.wait_for_answers()
    visitor.press(page.locator("[data-do=revise]"), ".sw-revising")
    page.wait_for_function("document.querySelector('#sw-box textarea').value === 'Firts question'")
    visitor.ask_until("First question", "() => !document.querySelector('.sw-revising')")
    visitor.wait_for_answers()
    assert page.locator(".sw-question").count() == 1
    assert [message.content for message in fake.asked[1].messages] == ["First question"]
    visitor.press(page.locator("#sw-slot-1 [data-do=anew]"), "#sw-slot-1 :text('Once more')")
    page.wait_for_selector(READY)
    assert (fake.asked[2].turn_id, fake.asked[2].stages) == ("turn-2", ["sft"])
    assert page.locator("#sw-panes :text('Once more')").count() == 1
    visitor.press(page.locator("#sw-slot-0 [data-do=edit]"), "#sw-editor textarea")
    page.locator("#sw-editor textarea").fill("What it **should** have said")
    visitor.press(page.get_by_role("button", name=texts.SAVE, exact=True), ".sw-edited")
    assert page.locator("#sw-slot-0 .sw-edited strong").inner_text() == "should"
    assert (fake.votes[0][1].choice, fake.votes[0][1].edited) == ("base", "What it **should** have said")
    page.locator("#sw-comments textarea").fill("It rambled.")
    visitor.press(page.get_by_role("button", name=texts.SEND, exact=True), ":text('It rambled.')")
    assert (fake.votes[1][1].comment, fake.votes[1][1].edited) == ("It rambled.", "What it **should** have said")


def test_injected_markup_does_not_run(visit: Arrive, fake: FakeApi) -> None:
    attack = (
        "<script>alert(1)</script><img src=x onerror=alert(2)><svg onload=alert(3)></svg>"
        " [link](javascript:alert(4)) ![p](http://203.0.113.9/leak.png) ${alert(5)} {{alert(6)}} `${alert(7)}`"
    )
    fake.replies = dict.fromkeys(REPLIES, (attack, 0.1))
    fake.failing = {"base": attack}
    visitor = visit()
    page = visitor.page
    page.locator("#sw-voter input:not([type=checkbox])").fill(attack[:60])
    page.locator("#sw-voter input:not([type=checkbox])").blur()
    visitor.ask(attack)
    visitor.wait_for_answers()
    visitor.press(page.locator("#sw-slot-1 .sw-pick"), ".sw-thanks")
    assert fake.votes[0][1].name == attack[:60].strip()
    page.locator("#sw-comments textarea").fill(attack)
    visitor.press(page.get_by_role("button", name=texts.SEND, exact=True), f":text('{texts.COMMENT_SAVED}')")
    page.locator("#sw-past summary").click()
    page.wait_for_selector(".sw-past")
    visitor.ask_next(attack)  # now question and answer also stand in the transcript
    visitor.wait_for_answers()
    page.wait_for_selector(".sw-turn")
    assert page.locator(".sw-current").inner_text().endswith(attack)
    assert (
        page.locator(":is(.sw-reply, .sw-transcript p, .sw-panel, #sw-comments) :is(script, img, iframe)").count() == 0
    )
    assert page.locator(".sw-reply svg, .sw-question svg").count() == 0
    assert page.locator("a[href^='javascript' i]").count() == 0
    assert visitor.alarms == []
    assert visitor.foreign == []


def test_a_failed_pane_says_why_and_is_tried_again_alone(visit: Arrive, fake: FakeApi) -> None:
    fake.failing = {"sft": "The adapter of this stage is missing."}
    fake.ahead = 3
    fake.holds_after = 0
    visitor = visit()
    page = visitor.page
    visitor.ask("Hello")
    page.wait_for_selector(f":text('{texts.replies_ahead(3)}')")
    fake.holds_after = None
    visitor.wait_for_answers()
    assert "The adapter of this stage is missing." in page.locator(".sw-failed").inner_text()
    assert page.locator(".sw-pick:not(:disabled)").count() == 2
    fake.failing = {}
    visitor.press(page.locator("#sw-slot-1").get_by_role("button", name=texts.RETRY), "#sw-slot-1 .sw-done")
    page.wait_for_function("document.querySelectorAll('.sw-pick:not(:disabled)').length === 3")
    assert fake.asked[1].stages == ["sft"]


def test_a_refused_question_stays_in_the_box(visit: Arrive, fake: FakeApi) -> None:
    fake.refusal = (429, {"Retry-After": "20"}, {"error": {"message": "slow down"}})
    visitor = visit()
    visitor.ask("precious words")
    visitor.page.wait_for_selector(".sw-notice")
    assert "in 20 seconds" in visitor.page.locator(".sw-notice").inner_text()
    visitor.page.wait_for_selector(".sw-empty")
    assert visitor.page.locator("#sw-box textarea").input_value() == "precious words"
    fake.refusal = None
    visitor.ask_next("precious words")
    visitor.wait_for_answers()
    assert visitor.page.locator(".sw-notice").count() == 0


def test_stop_keeps_what_was_written_and_hangs_up(visit: Arrive, fake: FakeApi) -> None:
    fake.holds_after = 30
    visitor = visit()
    page = visitor.page
    visitor.ask("Hello")
    page.wait_for_function(ALL_STREAMING)
    page.get_by_role("button", name=texts.STOP, exact=True).click()
    visitor.wait_for_answers()
    assert page.locator(".sw-stopped").count() == 3
    page.get_by_role("button", name=texts.ASK, exact=True).wait_for()
    deadline = time.monotonic() + PATIENCE / 1000
    while not fake.hung_up and time.monotonic() < deadline:
        page.wait_for_timeout(100)
    assert fake.hung_up == 1


def test_a_stream_that_breaks_leaves_a_sentence_and_the_question(visit: Arrive, fake: FakeApi) -> None:
    fake.breaks_after = 5
    visitor = visit()
    visitor.ask("Hello again")
    visitor.wait_for_answers()
    assert texts.BROKEN_OFF in visitor.page.locator(".sw-failed").first.inner_text()
    visitor.page.wait_for_function("document.querySelector('#sw-box textarea').value === 'Hello again'")


def test_a_loading_server_is_announced_and_its_readiness_noticed(visit: Arrive, fake: FakeApi) -> None:
    fake.ready = False
    visitor = visit()
    visitor.page.wait_for_selector(".sw-notice")
    assert texts.SERVER_LOADING in visitor.page.locator(".sw-notice").inner_text()
    fake.ready = True
    visitor.page.wait_for_selector(".sw-notice", state="detached")
    visitor.page.wait_for_selector(".sw-chip:not(:disabled)")


def test_chats_are_kept_shared_and_deleted_and_two_visitors_do_not_see_each_other(visit: Arrive, fake: FakeApi) -> None:
    first, second = visit(), visit()
    page = first.page
    page.locator("[data-do=seen]").click()
    page.wait_for_selector(".sw-hint", state="detached")
    first.ask("I am the first")
    second.ask("I am the second")
    first.wait_for_answers()
    second.wait_for_answers()
    first.press(page.locator(".sw-pick").first, ".sw-thanks")
    assert second.page.locator(".sw-chosen").count() == 0
    assert "second" in second.page.locator(".sw-current").inner_text()
    page.reload()
    page.wait_for_selector("#sw-slot-0 .sw-chosen")
    assert "I am the first" in page.locator(".sw-current").inner_text()
    page.locator("#sw-share summary").click()
    page.locator("[data-link]").click()
    link = page.locator("#sw-share input").input_value()
    first.press(page.locator("#sw-new"), ".sw-empty")
    assert page.locator(".sw-hint").count() == 0
    page.locator("#sw-past summary").click()
    first.press(page.locator(".sw-past"), ".sw-thanks")
    page.locator("#sw-past summary").click()
    page.locator("[data-do=forget]").click()
    page.wait_for_selector("#sw-past summary", state="detached")

    second.page.goto("about:blank")  # from page to page the fragment alone would not load anything
    second.open(link)
    second.page.wait_for_selector(f":text('{texts.COPIED}')")
    assert "I am the first" in second.page.locator(".sw-current").inner_text()
    assert second.page.locator(".sw-pick:not(:disabled)").count() == 0
    assert second.page.evaluate("location.hash") == ""
    second.ask_next("Go on")
    second.wait_for_answers()
    sent = fake.asked[-1]
    assert [message.content for message in sent.messages] == ["I am the first", REPLIES["base"][0], "Go on"]
    assert (sent.conversation_id, sent.turn_id) == (None, None)
    assert first.alarms == second.alarms == []


def test_two_tabs_of_one_browser_keep_both_their_chats(visit: Arrive, fake: FakeApi) -> None:
    first = visit()
    second = first.another_tab()
    fake.holds_after = 6
    first.ask("I am the first tab")
    first.page.wait_for_selector(".sw-streaming")
    fake.holds_after = None
    second.ask("I am the second tab")
    for tab in (first, second):
        tab.wait_for_answers()
    chats = "document.querySelectorAll('#sw-past li').length"
    for tab in (first, second):  # also the one that did nothing when the other was done
        tab.page.wait_for_function(f"{chats} === 2")
    first.press(first.page.locator(".sw-pick").first, ".sw-thanks")
    second.page.locator("#sw-past summary").click()
    second.page.locator("[data-do=forget]").last.click()
    for tab in (first, second):
        tab.page.wait_for_function(f"{chats} === 1")
    third = first.another_tab()
    third.page.wait_for_function(f"{chats} === 1")
    assert first.alarms == second.alarms == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_pages_fit_a_phone_and_axe_finds_no_serious_fault(visit: Arrive, fake: FakeApi, scheme: str) -> None:
    visitor = visit(width=390, height=844, scheme=scheme)
    page = visitor.page
    assert visitor.faults() == []
    visitor.ask("How do I boil an egg?")
    visitor.wait_for_answers()
    boxes = [page.locator(f"#sw-slot-{slot}").bounding_box() for slot in range(3)]
    tops = [box["y"] for box in boxes if box]
    assert tops == sorted(set(tops))
    assert all(box and box["x"] >= 0 and box["x"] + box["width"] <= 390 for box in boxes)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    visitor.press(page.locator(".sw-pick").last, ".sw-thanks")
    visitor.press(page.locator("#sw-slot-2 [data-do=edit]"), "#sw-editor textarea")
    page.locator("#sw-settings button").first.click()
    page.locator("#sw-past summary").click()
    assert visitor.faults() == []


def test_articles_are_summarised_and_the_audience_is_invited(visit: Arrive, fake: FakeApi) -> None:
    fake.kind, fake.parts = "summary", {"acceptability": 1.5, "neutral": -0.5}
    fake.replies = {stage: REPLIES[stage] for stage in ("base", "rlf")}
    visitor = visit("/summaries")
    page = visitor.page
    page.locator(".sw-chip").first.click()
    visitor.wait_for_answers(2)
    assert fake.asked[0].messages[0].content == f"Summarize: {texts.EXAMPLES[0]}"
    assert "acceptability" in page.locator("#sw-slot-1 .sw-parts").inner_text()
    assert not page.locator(".sw-invitation").is_visible()
    page.locator("[data-presenter]").click()
    page.wait_for_selector(".sw-invitation svg")
    assert "/summaries" in page.locator(".sw-invitation strong").inner_text()
    assert visitor.faults() == []
    page.locator("[data-presenter]").click()
