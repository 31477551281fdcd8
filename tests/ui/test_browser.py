"""The page in a real browser: ask, stream, vote, and everything that can go wrong on the way."""

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


def test_ask_stream_vote_thanks_and_go_on(visit: Arrive, fake: FakeApi) -> None:
    fake.holds_after = 30
    visitor = visit()
    page = visitor.page
    visitor.ask("How do I boil an egg?")
    page.wait_for_function(ALL_STREAMING)
    assert page.locator("#sw-box textarea").input_value() == ""
    fake.holds_after = None
    visitor.wait_for_answers()
    assert page.locator(".sw-pane .sw-facts").count() == 3
    assert page.locator(".sw-bar").count() == 3
    visitor.press(page.locator(".sw-pick").nth(1), ".sw-thanks")
    assert texts.VOTE_SAVED in page.locator("#sw-verdicts").inner_text()
    assert page.locator(".sw-slot:has(.sw-chosen) h2").inner_text().startswith("SFT")
    key, vote = fake.votes[0]
    assert (vote.turn_id, vote.choice) == ("turn-1", "sft")
    assert key
    visitor.ask_next("And a soft one?")
    page.wait_for_selector(".sw-turn")
    visitor.wait_for_answers()
    assert [message.content for message in fake.asked[1].messages][1] == REPLIES["sft"][0]
    assert visitor.foreign == []
    assert visitor.alarms == []


def test_an_example_is_one_click_and_a_new_chat_starts_over(visit: Arrive, fake: FakeApi) -> None:
    visitor = visit()
    page = visitor.page
    page.locator("#sw-examples button").first.click()
    visitor.wait_for_answers()
    assert fake.asked[0].messages[0].content == texts.EXAMPLES[0]
    visitor.press(page.get_by_role("button", name=texts.BAD), ".sw-thanks")
    assert fake.votes[0][1].choice == "bad"
    visitor.press(page.locator("#sw-new"), ".sw-empty")
    page.wait_for_selector("#sw-examples button")
    visitor.ask_next("Something else")
    visitor.wait_for_answers()
    assert [message.content for message in fake.asked[1].messages] == ["Something else"]
    assert fake.asked[1].conversation_id is None


def test_injected_markup_does_not_run(visit: Arrive, fake: FakeApi) -> None:
    attack = (
        "<script>alert(1)</script><img src=x onerror=alert(2)><svg onload=alert(3)></svg>"
        " [link](javascript:alert(4)) ![p](http://203.0.113.9/leak.png) ${alert(5)} {{alert(6)}} `${alert(7)}`"
    )
    fake.replies = dict.fromkeys(REPLIES, (attack, 0.1))
    fake.failing = {"base": attack}
    visitor = visit()
    page = visitor.page
    visitor.ask(attack)
    visitor.wait_for_answers()
    visitor.ask_next(attack)  # now question and answer also stand in the transcript
    visitor.wait_for_answers()
    page.wait_for_selector(".sw-turn")
    assert page.locator(".sw-current").inner_text().endswith(attack)
    dangerous = ".sw-pane :is(script, img, svg, iframe), .sw-transcript :is(script, img, svg, iframe)"
    assert page.locator(dangerous).count() == 0
    assert page.locator("a[href^='javascript' i]").count() == 0
    assert visitor.alarms == []
    assert visitor.foreign == []


def test_a_failed_pane_says_why_and_the_others_go_on(visit: Arrive, fake: FakeApi) -> None:
    fake.failing = {"sft": "The adapter of this stage is missing."}
    visitor = visit()
    visitor.ask("Hello")
    visitor.wait_for_answers()
    assert "The adapter of this stage is missing." in visitor.page.locator(".sw-failed").inner_text()
    assert visitor.page.locator(".sw-done").count() == 2
    visitor.page.wait_for_function("document.querySelectorAll('.sw-pick:not(:disabled)').length === 2")
    assert visitor.page.locator(".sw-slot:has(.sw-failed) .sw-pick").is_disabled()


def test_a_refused_question_stays_in_the_box(visit: Arrive, fake: FakeApi) -> None:
    fake.refusal = (429, {"Retry-After": "20"}, {"error": {"message": "slow down"}})
    visitor = visit()
    visitor.ask("precious words")
    visitor.page.wait_for_selector(".sw-notice")
    assert "in 20 seconds" in visitor.page.locator(".sw-notice").inner_text()
    visitor.page.wait_for_selector(".sw-empty")
    assert visitor.page.locator("#sw-box textarea").input_value() == "precious words"
    fake.refusal = None
    visitor.page.locator("#sw-box textarea").press("Enter")
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


def test_on_a_phone_the_panes_stack_and_nothing_sticks_out(visit: Arrive, fake: FakeApi) -> None:
    visitor = visit(width=390, height=844)
    visitor.ask("How do I boil an egg?")
    visitor.wait_for_answers()
    boxes = [visitor.page.locator(".sw-slot").nth(slot).bounding_box() for slot in range(3)]
    tops = [box["y"] for box in boxes if box]
    assert tops == sorted(set(tops))
    assert all(box and box["x"] >= 0 and box["x"] + box["width"] <= 390 for box in boxes)
    assert visitor.page.evaluate("document.documentElement.scrollWidth") <= 390


def test_two_visitors_do_not_see_each_other(visit: Arrive, fake: FakeApi) -> None:
    first, second = visit(), visit()
    first.ask("I am the first")
    second.ask("I am the second")
    first.wait_for_answers()
    second.wait_for_answers()
    assert "first" in first.page.locator(".sw-current").inner_text()
    assert "second" in second.page.locator(".sw-current").inner_text()
    first.press(first.page.locator(".sw-pick").first, ".sw-thanks")
    assert second.page.locator(".sw-chosen").count() == 0
