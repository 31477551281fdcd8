"""A headless Chromium, a scripted API and the page on it, for the tests marked ``browser``."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest
from fastapi import FastAPI

from tests.serve.live import serving
from tests.ui.fake_api import FakeApi
from ui.app import mount_ui
from ui.screenshots import ARGUMENTS, BROWSERS, find_browser

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Locator, Page

PATIENCE = 120_000  # milliseconds; a machine that trains beside the tests draws slowly


@pytest.fixture(scope="module")  # Playwright keeps an event loop running, in which other modules could not start theirs
def browser() -> Iterator["Browser"]:
    """The installed Chromium; tests are skipped only where there is none."""
    executable = find_browser()
    if executable is None:
        pytest.skip(f"no browser on this machine: none of {', '.join(BROWSERS)} is on PATH")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def site() -> Iterator[tuple[FakeApi, str]]:
    """One page on one scripted API; ``fake`` resets the script for each test."""
    fake = FakeApi()
    with serving(fake.app()) as api, serving(mount_ui(FastAPI(), api)) as url:
        yield fake, url


@pytest.fixture
def fake(site: tuple[FakeApi, str]) -> FakeApi:
    """The scripted API, as new."""
    script = site[0]
    script.__dict__.update(FakeApi().__dict__)
    return script


class Visit:
    """One visitor's page, with everything it asked for and everything that went wrong in it."""

    def __init__(self, page: "Page"):
        self.page = page
        self.requests: list[str] = []
        self.alarms: list[str] = []
        page.set_default_timeout(PATIENCE)
        page.on("request", lambda request: self.requests.append(request.url))
        page.on("dialog", self._dismiss)
        page.on("pageerror", lambda error: self.alarms.append(f"error: {error}"))

    def _dismiss(self, dialog: Any) -> None:
        self.alarms.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    def ask(self, question: str) -> None:
        self.page.locator("#sw-box textarea").fill(question)
        self.page.locator("#sw-box textarea").press("Enter")

    def ask_next(self, question: str) -> None:
        """Ask once more. Gradio ignores Enter until it has put the last event away, a moment after its text."""
        asked = self.page.locator(".sw-question").count()
        for _ in range(PATIENCE // 500):
            self.ask(question)
            self.page.wait_for_timeout(500)
            if self.page.locator(".sw-question").count() > asked:
                return
        raise AssertionError("the page did not take the next question")

    def press(self, button: "Locator", reaction: str) -> None:
        """Press until the page shows ``reaction``: Gradio ignores clicks too until the last event is put away."""
        for _ in range(PATIENCE // 2000):
            try:
                button.click(timeout=2000)
                self.page.wait_for_selector(reaction, timeout=2000)
                return
            except Exception as error:  # Playwright's timeout; the package is imported by the browser tests alone
                if type(error).__name__ != "TimeoutError":
                    raise
        raise AssertionError(f"the page did not show {reaction}")

    def wait_for_answers(self, count: int = 3) -> None:
        """Until ``count`` panes are done, failed or stopped and none is open."""
        self.page.wait_for_function(
            "count => document.querySelectorAll('.sw-done, .sw-failed, .sw-stopped').length === count"
            " && !document.querySelector('.sw-waiting, .sw-streaming')",
            arg=count,
        )

    @property
    def foreign(self) -> list[str]:
        """Requests to any other machine than this one."""
        local = ("http://127.0.0.1:", "data:", "blob:")
        return [url for url in self.requests if not url.startswith(local)]


@pytest.fixture
def visit(browser: "Browser", site: tuple[FakeApi, str], fake: FakeApi) -> Iterator[Callable[..., Visit]]:
    """Opens the page as a new visitor: ``visit(width=390, height=844)``."""
    with ExitStack() as visits:

        def arrive(width: int = 1280, height: int = 900) -> Visit:
            context = browser.new_context(viewport={"width": width, "height": height})
            visits.callback(context.close)
            visitor = Visit(context.new_page())
            visitor.page.goto(site[1])
            visitor.page.wait_for_selector("#sw-box textarea")
            visitor.page.wait_for_selector("#sw-examples button")
            return visitor

        yield arrive
