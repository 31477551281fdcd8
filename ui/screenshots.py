"""Pictures of the page as people see it: ``python -m ui.screenshots --url http://127.0.0.1:7860 --out DIR``.

Drives an installed Chromium through Playwright (``pip install playwright``; no browser download is needed). Asks an
example question, waits for the answers, votes, and asks a second one, in light, dark and at phone width.
"""

import argparse
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from playwright.sync_api import Page

ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--hide-scrollbars"]
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
ANSWER_SECONDS = 180


class View(NamedTuple):
    """One way to look at the page."""

    name: str
    width: int
    height: int
    scheme: str
    phone: bool = False


VIEWS = (
    View("light", 1280, 900, "light"),
    View("dark", 1280, 900, "dark"),
    View("phone", 390, 844, "light", phone=True),
    View("phone-dark", 390, 844, "dark", phone=True),
)


def find_browser() -> str | None:
    """Path of an installed Chromium or Chrome, or None."""
    return next((path for name in BROWSERS if (path := shutil.which(name))), None)


def take(url: str, out: Path, question: str = "") -> list[Path]:
    """Walk through one visit per view and save a picture of each step under ``out``.

    Args:
        url: where the page runs.
        out: folder, made if missing.
        question: asked instead of the first example.

    Raises:
        RuntimeError: no Chromium on this machine.
    """
    from playwright.sync_api import sync_playwright

    executable = find_browser()
    if executable is None:
        raise RuntimeError(f"no browser found; install Chromium so that one of {', '.join(BROWSERS)} is on PATH")
    out.mkdir(parents=True, exist_ok=True)
    taken: list[Path] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=ARGUMENTS)
        for view in VIEWS:
            options: dict[str, Any] = {
                "viewport": {"width": view.width, "height": view.height},
                "color_scheme": view.scheme,
                "device_scale_factor": 2 if view.phone else 1,
                "has_touch": view.phone,
                "is_mobile": view.phone,
            }
            context = browser.new_context(**options)
            taken += _visit(context.new_page(), url, out, view, question)
            context.close()
        browser.close()
    return taken


def _visit(page: "Page", url: str, out: Path, view: View, question: str) -> list[Path]:
    taken: list[Path] = []

    def shoot(step: str, whole: bool = False) -> None:
        page.wait_for_timeout(600)
        path = out / f"compare-{view.name}-{step}.png"
        page.screenshot(path=path, full_page=whole)
        taken.append(path)

    page.goto(url)
    page.wait_for_selector("#sw-examples button")
    shoot("1-empty")
    if question:
        _ask(page, question)
    else:
        page.locator("#sw-examples button").first.click()
    page.wait_for_selector(".sw-streaming, .sw-done", timeout=ANSWER_SECONDS * 1000)
    shoot("2-streaming")
    _wait_for_answers(page)
    shoot("3-answers", whole=view.phone)
    page.locator(".sw-pick").last.click()
    page.wait_for_selector(".sw-thanks")
    shoot("4-voted", whole=view.phone)
    _ask(page, "Thank you. And what should I eat with it?")
    page.wait_for_selector(".sw-turn")
    _wait_for_answers(page)
    shoot("5-second")
    page.locator("#sw-settings button").first.click()
    page.wait_for_timeout(300)
    shoot("6-settings", whole=True)
    return taken


def _ask(page: "Page", question: str) -> None:
    page.locator("#sw-box textarea").fill(question)
    page.locator("#sw-box textarea").press("Enter")


def _wait_for_answers(page: "Page") -> None:
    page.wait_for_function(
        "document.querySelectorAll('.sw-pane').length > 0 && !document.querySelector('.sw-waiting, .sw-streaming')",
        timeout=ANSWER_SECONDS * 1000,
    )


def main() -> None:
    """Entry point of ``python -m ui.screenshots``."""
    parser = argparse.ArgumentParser(prog="python -m ui.screenshots", description=__doc__)
    parser.add_argument("--url", default="http://127.0.0.1:7860", help="where the page runs")
    parser.add_argument("--out", type=Path, default=Path("screenshots"), help="folder for the pictures")
    parser.add_argument("--question", default="", help="asked instead of the first example")
    options = parser.parse_args()
    for path in take(options.url, options.out, options.question):
        print(path)


if __name__ == "__main__":
    main()
