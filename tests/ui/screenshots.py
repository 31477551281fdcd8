"""``make screenshots``: starts what the pictures need, takes them into docs/images, and ends it again.

Compare and arena show the shipped nano model, as it answers. Summaries shows answers that a trained T5 once gave,
played again because training it takes twenty minutes; board and review show made-up votes, because nobody has voted on
a fresh clone. A strip across these pictures says so.
"""

import argparse
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
from fastapi import FastAPI

from tests.serve.live import serving
from tests.ui.fake_admin import KEY, FakeAdmin
from tests.ui.fake_api import FakeApi
from tests.ui.replayed_t5 import ARTICLE, ReplayedT5
from ui.app import mount_ui
from ui.screenshots import Shot, board, review, summarise, take, talk

MADE_UP = "Example: the votes and figures in this picture are made up."
REPLAYED = "Played again: what a small T5 answered once, chosen because its two answers differ."
LOADING_SECONDS = 300


@contextmanager
def nano() -> Iterator[str]:
    """The pages on the shipped nano model, in a home of its own."""
    from sawyer.home import Home
    from sawyer.recipe import load_recipe
    from serve.access import access_for
    from serve.app import build_app

    with tempfile.TemporaryDirectory() as folder:
        home = Home.find(Path(folder)).ensure()
        api = build_app(load_recipe("nano"), home, access=access_for(home.root, "127.0.0.1", open_to_all=False))
        with serving(api) as address, serving(mount_ui(FastAPI(), address)) as url:
            _wait(address)
            yield url


def _wait(address: str) -> None:
    deadline = time.monotonic() + LOADING_SECONDS
    while httpx.get(f"{address}/readyz", trust_env=False).status_code != 200:
        if time.monotonic() > deadline:
            raise RuntimeError(f"the model was not loaded after {LOADING_SECONDS} seconds")
        time.sleep(0.5)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.ui.screenshots", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("docs/images"), help="folder for the pictures")
    options = parser.parse_args()
    with nano() as url:
        taken = take(
            url, options.out, [Shot("compare", "", talk, whole=False), Shot("arena", "arena", talk, whole=False)]
        )
    api = FakeApi().app()
    FakeAdmin().attach(api)
    made_up = [
        Shot("board", "board", board),
        Shot("review", "review", review(KEY)),
        Shot("round", "review", review(KEY, "rounds")),
    ]
    with serving(api) as address, serving(mount_ui(FastAPI(), address)) as url:
        taken += take(url, options.out, made_up, caption=MADE_UP)
    summary = [Shot("summaries", "summaries", summarise(ARTICLE), whole=False)]
    with serving(ReplayedT5().app()) as address, serving(mount_ui(FastAPI(), address)) as url:
        taken += take(url, options.out, summary, caption=REPLAYED)
    for path in taken:
        print(f"{path} {path.stat().st_size // 1024} KB")


if __name__ == "__main__":
    main()
