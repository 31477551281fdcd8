"""Board and review in a real browser: news by itself, downloads, keys, rounds watched, nothing run, no axe fault."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest
from fastapi import FastAPI

from tests.serve.live import serving
from tests.ui import fake_board
from tests.ui.conftest import PATIENCE, Visit
from tests.ui.fake_admin import EXPORTED, KEY, FakeAdmin, item, refused, running
from tests.ui.fake_api import FakeApi
from ui.app import mount_ui
from ui.board import texts as board_texts
from ui.review import texts
from ui.shell import POLICY

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.browser

ATTACK = "<script>alert(1)</script><img src=x onerror=alert(2)><svg onload=alert(3)></svg>${alert(4)} {{alert(5)}} `"
# Every page in both sizes; the quick run takes one of them each.
WIDE_FIRST = pytest.mark.parametrize(
    "width", [pytest.param(1280, id="desk"), pytest.param(390, id="phone", marks=pytest.mark.slow)]
)
NARROW_FIRST = pytest.mark.parametrize(
    "width", [pytest.param(390, id="phone"), pytest.param(1280, id="desk", marks=pytest.mark.slow)]
)


@pytest.fixture(scope="module")
def office() -> Iterator[tuple[FakeAdmin, str]]:
    """One page on one scripted API with admin routes; ``admin`` resets the script for each test."""
    admin, api = FakeAdmin(), FakeApi().app()
    admin.attach(api)
    with serving(api) as address, serving(mount_ui(FastAPI(), address)) as url:
        yield admin, url


@pytest.fixture
def admin(office: tuple[FakeAdmin, str]) -> FakeAdmin:
    office[0].__dict__.update(FakeAdmin().__dict__)
    return office[0]


@pytest.fixture
def enter(browser: "Browser", office: tuple[FakeAdmin, str], admin: FakeAdmin) -> Iterator[Callable[..., Visit]]:
    """Opens a page as a new visitor: ``enter("board", width=390)``."""
    with ExitStack() as visits:

        def arrive(path: str, width: int = 1280) -> Visit:
            context = browser.new_context(viewport={"width": width, "height": 900}, accept_downloads=True)
            visits.callback(context.close)
            visitor = Visit(context.new_page())
            answer = visitor.page.goto(f"{office[1]}/{path}")
            assert answer is not None and answer.headers["content-security-policy"] == POLICY
            return visitor

        yield arrive


def unlock(page: "Page", key: str = KEY) -> None:
    page.fill("input[name=key]", key)
    page.keyboard.press("Enter")


def narrow(page: "Page", width: int) -> bool:
    """Does nothing stick out?"""
    return page.evaluate("document.documentElement.scrollWidth") <= width


def confirming(page: "Page") -> None:
    """Say yes to the page's own questions. ``Visit`` would count them as alarms and say no."""
    page.evaluate("window.confirm = () => true")


def saved(page: "Page", selector: str) -> bytes:
    with page.expect_download() as download:
        page.click(selector)
    return download.value.path().read_bytes()


@WIDE_FIRST
def test_the_board_shows_news_by_itself_and_hands_out_its_figures(
    enter: Callable[..., Visit], admin: FakeAdmin, width: int
) -> None:
    admin.board = fake_board.nothing()
    visitor = enter("board", width)
    page = visitor.page
    page.wait_for_selector(".bd-empty")
    admin.board = fake_board.board()
    page.wait_for_selector(".bd-grid svg")
    assert page.locator(".bd-grid svg").count() == 7
    assert narrow(page, width) and visitor.faults() == []
    page.click("[data-figure=pairs] summary")
    assert b"RLF against SFT" in saved(page, "[data-figure=pairs] a[download$=svg]")
    assert saved(page, "[data-figure=pairs] a[data-png]").startswith(b"\x89PNG")
    assert saved(page, "[data-figure=pairs] a[download$=csv]").startswith(b"first,second,n")
    page.click("[data-votes=blind]")
    page.wait_for_selector("[data-votes=blind][aria-pressed=true]")
    page.wait_for_selector(".bd-grid svg")
    assert page.locator("[data-figure=pairs] details").get_attribute("open") is not None, "what was open stays open"
    assert admin.boards_asked[-1] == ("stage", True)
    _unseen(page, admin)
    assert visitor.foreign == [] and visitor.alarms == []


def _unseen(page: "Page", admin: FakeAdmin) -> None:
    """A page that nobody looks at asks nothing."""
    page.evaluate("Object.defineProperty(document, 'visibilityState', { get: () => 'hidden', configurable: true })")
    page.evaluate("document.querySelector('.bd').dataset.poll = 1")
    page.wait_for_timeout(600)
    asked = len(admin.boards_asked)
    page.wait_for_timeout(1200)
    assert len(admin.boards_asked) == asked
    page.evaluate("delete document.visibilityState")
    page.wait_for_timeout(1200)
    assert len(admin.boards_asked) > asked


@NARROW_FIRST
def test_a_reviewer_gets_in_decides_by_key_and_exports(
    enter: Callable[..., Visit], admin: FakeAdmin, width: int
) -> None:
    visitor = enter("review", width)
    page = visitor.page
    page.wait_for_selector(".rv-door")
    assert texts.DOOR_COMMAND in page.locator(".rv-door").inner_text() and visitor.faults() == []
    unlock(page, "sk-wrong")
    page.wait_for_selector(".sw-notice")
    assert page.locator(".rv-item").count() == 0
    unlock(page)
    page.wait_for_selector(".rv-item")
    assert narrow(page, width) and visitor.faults() == []
    page.keyboard.press("j")
    page.keyboard.press("a")
    page.keyboard.press("x")
    page.keyboard.press("j")
    page.keyboard.press("x")
    assert page.locator(".rv-count").inner_text() == "2"
    page.keyboard.press("r")
    page.wait_for_function("document.querySelectorAll('.rv-item[data-state=rejected]').length === 2")
    assert [(one.state, one.vote_ids) for one in admin.reviews] == [
        ("approved", ["vote-1"]),
        ("rejected", ["vote-2", "vote-3"]),
    ]
    page.fill("[data-field=text] input", "story")
    page.select_option("select[name=state]", "")
    page.click(".rv-filter button")
    page.wait_for_function("document.querySelectorAll('.rv-item').length === 2")
    assert saved(page, ".rv-export button") == EXPORTED.encode()
    page.reload()
    page.wait_for_selector(".rv-item")  # the tab still knows the key
    page.click("[data-act=leave]")
    page.wait_for_selector(".rv-door")
    page.reload()
    page.wait_for_selector(".rv-door")
    assert KEY not in page.content() and visitor.foreign == [] and visitor.alarms == []


@NARROW_FIRST
def test_a_round_is_watched_while_the_server_comes_and_goes_and_a_refusal_is_told(
    enter: Callable[..., Visit], admin: FakeAdmin, width: int
) -> None:
    visitor = enter("review", width)
    page = visitor.page
    unlock(page)
    page.wait_for_selector(".rv-item")
    for tab in ("voters", "versions", "rounds"):
        page.click(f"button[data-tab={tab}]")
        page.wait_for_selector(f".rv-part[data-tab={tab}] .bd-card")
        assert narrow(page, width) and visitor.faults() == [], tab
    confirming(page)
    page.click(".rv-start button[type=submit]")
    page.wait_for_selector("progress")
    assert visitor.faults() == []
    admin.gone = True
    page.wait_for_selector(".sw-notice")
    assert page.locator("progress").count() == 1, "what came last stays"
    admin.gone = False
    admin.rounds[4] = running(4, 0.9)
    page.wait_for_selector("progress[value='0.900']")
    assert page.locator(".sw-notice").count() == 0
    admin.rounds[4] = refused().model_copy(update={"number": 4, "log": [ATTACK], "reasons": [ATTACK]})
    page.wait_for_selector(".rv-reasons")
    admin.promotion_refused = f"The adapter does not fit. {ATTACK}"
    confirming(page)
    page.click("[data-act=promote]")
    page.wait_for_selector(".sw-notice")
    assert "The adapter does not fit." in page.locator(".sw-notice").inner_text()
    assert narrow(page, width) and visitor.faults() == []
    assert visitor.alarms == [] and visitor.foreign == []


def test_what_voters_wrote_does_not_run(enter: Callable[..., Visit], admin: FakeAdmin) -> None:
    hostile = item(1, name=ATTACK, comment=ATTACK, edited=ATTACK)
    answers = [one.model_copy(update={"text": ATTACK}) for one in hostile.answers]
    messages = [one.model_copy(update={"content": ATTACK}) for one in hostile.messages]
    admin.items = [hostile.model_copy(update={"answers": answers, "messages": messages})]
    reasons: dict[str, Any] = {"reasons": [ATTACK], "candidate": ATTACK}
    admin.board = fake_board.board(rounds=[fake_board.rounds()[0].model_copy(update=reasons)])
    review, board = enter("review"), enter("board")
    unlock(review.page)
    review.page.wait_for_selector(".rv-item")
    board.page.wait_for_selector(".bd-rounds")
    assert board_texts.ROUNDS in board.page.locator(".bd-rounds").inner_text()
    for visitor, part in ((review, ".rv"), (board, ".bd-rounds")):
        assert ATTACK[:20] in visitor.page.locator(part).inner_text(timeout=PATIENCE)
        assert visitor.page.locator(f"{part} :is(script, img, iframe, svg)").count() == 0
        assert visitor.alarms == [] and visitor.foreign == []
