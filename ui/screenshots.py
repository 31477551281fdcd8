"""Pictures of the pages as people see them: ``python -m ui.screenshots --url http://127.0.0.1:7860 --out DIR``.

Drives an installed Chromium through Playwright (no browser download is needed) and takes each page in light, in dark
and at phone width. ``make screenshots`` starts what it needs by itself and then does the same.
"""

import argparse
import io
import shutil
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from ui import texts

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--hide-scrollbars"]
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
PATIENCE = 180_000
"""Milliseconds that an answer may take."""

SCREENS = 1.75
"""How much of a long page is taken, in heights of the window."""

COLOURS = 256
"""A page has few colours; this many keep its letters smooth at a fraction of the size."""


class View(NamedTuple):
    """One way to look at a page."""

    name: str
    width: int
    height: int
    scheme: str
    phone: bool = False


VIEWS = (
    View("light", 1280, 860, "light"),
    View("dark", 1280, 860, "dark"),
    View("phone", 390, 844, "light", phone=True),
)


class Shot(NamedTuple):
    """What to take: a page, its path, and how to bring it into the state worth a picture.

    ``whole``: also what lies below the window; not for pages with something that sticks to the window's edge.
    """

    name: str
    path: str
    prepare: Callable[["Page"], None]
    whole: bool = True


def talk(page: "Page") -> None:
    """Ask the first example, wait for every answer, vote for the last one."""
    page.locator(".sw-examples button").first.click()
    page.wait_for_function(
        "document.querySelector('.sw-done, .sw-failed') && !document.querySelector('.sw-waiting, .sw-streaming')"
    )
    page.locator(".sw-pick").last.click()
    page.wait_for_selector(".sw-thanks")


def summarise(article: str) -> Callable[["Page"], None]:
    """Paste an article and wait for its summaries."""

    def prepare(page: "Page") -> None:
        page.wait_for_selector(".sw-examples button:not(:disabled)")  # the server has been heard of
        page.fill("#sw-box textarea", article)
        page.get_by_role("button", name=texts.SUMMARISE, exact=True).click()
        page.wait_for_function(
            "document.querySelector('.sw-done') && !document.querySelector('.sw-waiting, .sw-streaming')"
        )

    return prepare


def board(page: "Page") -> None:
    page.wait_for_selector(".bd-grid svg, .bd-empty")


def review(key: str, tab: str = "feedback") -> Callable[["Page"], None]:
    """Unlock the review page and turn to one of its parts; on the rounds, look at the newest one."""

    def prepare(page: "Page") -> None:
        page.fill("input[name=key]", key)
        page.keyboard.press("Enter")
        page.wait_for_selector(".rv-tabs")
        page.click(f"button[data-tab={tab}]")
        page.wait_for_selector(f".rv-part[data-tab={tab}] > *")
        if tab == "rounds":
            page.locator("[data-act=open]").first.click()
            page.wait_for_selector(".rv-round")

    return prepare


def take(url: str, out: Path, shots: Sequence[Shot], *, caption: str = "") -> list[Path]:
    """A picture of each shot in each view, as ``NAME-VIEW.png`` under ``out``.

    Args:
        url: where the pages are.
        out: folder, made if missing.
        caption: written across the top of every picture, for what a reader must know of it.

    Raises:
        RuntimeError: no Chromium on this machine.
    """
    from playwright.sync_api import sync_playwright

    executable = find_browser()
    if executable is None:
        raise RuntimeError(f"no browser found; install Chromium so that one of {', '.join(BROWSERS)} is on PATH")
    out.mkdir(parents=True, exist_ok=True)
    taken: list[Path] = []
    with sync_playwright() as playwright, ExitStack() as opened:
        browser = playwright.chromium.launch(executable_path=executable, args=ARGUMENTS)
        opened.callback(browser.close)
        for view in VIEWS:
            for shot in shots:
                taken.append(out / f"{shot.name}-{view.name}.png")
                taken[-1].write_bytes(small(_picture(browser, url, shot, view, caption)))
    return taken


def find_browser() -> str | None:
    """Path of an installed Chromium or Chrome, or None."""
    return next((path for name in BROWSERS if (path := shutil.which(name))), None)


def small(png: bytes) -> bytes:
    """The picture with its most frequent colours as palette: those of the theme stay exactly as they are."""
    from PIL import Image

    picture = Image.open(io.BytesIO(png)).convert("RGB")
    counted: list[tuple[int, tuple[int, int, int]]] = picture.getcolors(picture.width * picture.height)
    frequent = [colour for _, colour in sorted(counted, reverse=True)[:COLOURS]]
    palette = Image.new("P", (1, 1))
    palette.putpalette([part for colour in frequent for part in colour])
    out = io.BytesIO()
    picture.quantize(palette=palette, dither=Image.Dither.NONE).save(out, "PNG", optimize=True)
    return out.getvalue()


def _picture(browser: "Browser", url: str, shot: Shot, view: View, caption: str) -> bytes:
    context = browser.new_context(
        viewport={"width": view.width, "height": view.height},
        color_scheme="dark" if view.scheme == "dark" else "light",
        device_scale_factor=2 if view.phone else 1,
        has_touch=view.phone,
        is_mobile=view.phone,
    )
    try:
        page = context.new_page()
        page.set_default_timeout(PATIENCE)
        page.goto(f"{url}/{shot.path}")
        shot.prepare(page)
        if caption:
            page.evaluate(CAPTION, caption)
        page.evaluate("document.activeElement?.blur(); window.scrollTo(0, 0)")
        page.mouse.move(0, 0)
        page.wait_for_timeout(700)  # until what moves has come to rest
        # Some pages are long; their first screens tell what they look like.
        clip = {"x": 0, "y": 0, "width": view.width, "height": round(view.height * SCREENS)}
        return page.screenshot(full_page=True, clip=clip) if shot.whole else page.screenshot()
    finally:
        context.close()


CAPTION = """words => {
  const strip = document.createElement("p");
  strip.textContent = words;
  strip.style.cssText = "margin:0;padding:8px;text-align:center;font:600 15px system-ui;color:#222;background:#f4d58a";
  document.body.prepend(strip);
}"""


def main() -> None:
    """Entry point of ``python -m ui.screenshots``."""
    parser = argparse.ArgumentParser(prog="python -m ui.screenshots", description=__doc__)
    parser.add_argument("--url", default="http://127.0.0.1:7860", help="where the pages are")
    parser.add_argument("--out", type=Path, default=Path("screenshots"), help="folder for the pictures")
    parser.add_argument("--article", default="", help="a text for the summaries page, where it is served")
    parser.add_argument("--key", default="", help="an admin key, for the review page")
    options = parser.parse_args()
    shots = [Shot("board", "board", board)]
    if options.article:
        shots.append(Shot("summaries", "summaries", summarise(options.article)))
    else:
        shots += [Shot("compare", "", talk, whole=False), Shot("arena", "arena", talk, whole=False)]
    if options.key:
        shots.append(Shot("review", "review", review(options.key)))
    for path in take(options.url, options.out, shots):
        print(path)


if __name__ == "__main__":
    main()
