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

    def open(self, address: str) -> None:
        """Go there and wait until the page has heard of its server."""
        self.page.goto(address)
        self.page.wait_for_selector("#sw-box textarea")
        self.page.wait_for_selector(".sw-header .sw-invitation", state="attached")

    def another_tab(self) -> "Visit":
        """A second page of the same browser, at the same address."""
        tab = Visit(self.page.context.new_page())
        tab.open(self.page.url)
        return tab

    def faults(self) -> list[str]:
        """What axe-core finds serious or worse on the page as it is."""
        from axe_playwright_python.sync_playwright import Axe

        found = Axe().run(self.page).response["violations"]
        return [
            f"{fault['id']}: {fault['nodes'][0]['html'][:160]} {fault['nodes'][0]['any'][:1]}"
            for fault in found
            if fault["impact"] in ("serious", "critical")
        ]

    def ask(self, question: str) -> None:
        self.page.locator("#sw-box textarea").fill(question)
        self.page.locator("#sw-box textarea").press("Enter")

    def ask_next(self, question: str) -> None:
        """Ask once more, until the page shows another question."""
        asked = self.page.locator(".sw-question").count()
        self.ask_until(question, f"() => document.querySelectorAll('.sw-question').length > {asked}")

    def ask_until(self, question: str, reaction: str) -> None:
        """Ask until ``reaction`` holds: Gradio ignores Enter until it has put the last event away."""
        for _ in range(PATIENCE // 500):
            self.ask(question)
            self.page.wait_for_timeout(500)
            if self.page.evaluate(reaction):
                return
        raise AssertionError("the page did not take the question")

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
    """Opens a page as a new visitor: ``visit("/arena", width=390, height=844)``."""
    with ExitStack() as visits:

        def arrive(path: str = "/", width: int = 1280, height: int = 900, scheme: Any = "light") -> Visit:
            context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
            visits.callback(context.close)
            visitor = Visit(context.new_page())
            visitor.open(site[1] + path)
            return visitor

        yield arrive
