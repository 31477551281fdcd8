"""A server process over the fake engine, for tests of signals: ``python -m tests.serve.server_process PORT HOME …``.

Options: ``--delay`` seconds between the words of a reply, ``--drain-seconds``, ``--database`` instead of HOME's file,
``--loading``: its models are being loaded for ever, ``--busy-seconds`` of its store.
"""

import argparse
import asyncio
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

ROOT = Path(__file__).resolve().parents[2]
WORDS = [f"w{number} " for number in range(20)]


def main() -> None:
    from sawyer.recipe import Recipe
    from sawyer.store import FeedbackStore
    from serve import logs
    from serve.app import create_app
    from serve.local.engine import LocalEngine
    from serve.scorer import BackgroundScorer
    from serve.server import DrainingServer, end_process_if_loading
    from tests.serve.fakes import FakeEngine, FakeReply

    parser = argparse.ArgumentParser()
    parser.add_argument("port", type=int)
    parser.add_argument("home", type=Path)
    parser.add_argument("--delay", type=float, default=0.1)
    parser.add_argument("--drain-seconds", type=float, default=30)
    parser.add_argument("--database")
    parser.add_argument("--loading", action="store_true", help="models that never finish loading")
    parser.add_argument("--busy-seconds", type=float, default=30)
    given = parser.parse_args()

    class SlowReply(FakeReply):
        async def __anext__(self):
            await asyncio.sleep(0 if self.cancelled else given.delay)
            return await super().__anext__()

        def cancel(self) -> None:
            if not self.cancelled:
                self.queue = asyncio.Queue()  # what was not said yet never is
            super().cancel()

    class SlowEngine(FakeEngine):
        reply = SlowReply

    logs.configure("json")
    recipe = Recipe.model_validate({"name": "test", "model": {"backbone": "nowhere", "context": 64}})
    url = given.database or f"sqlite:///{given.home / 'sawyer.db'}"
    with FeedbackStore.open(url, busy_seconds=given.busy_seconds) as store:
        engine, scorer = SlowEngine(WORDS), None
        if given.loading:
            engine, scorer = LocalEngine(load_for_ever, context=64), BackgroundScorer(load_for_ever)
        app = create_app(engine, store, recipe=recipe, scorer=scorer)
        DrainingServer(app, app.state.drain, host="127.0.0.1", port=given.port, seconds=given.drain_seconds).run()
    end_process_if_loading(0)


def load_for_ever() -> None:
    while True:
        time.sleep(1)


def free_port() -> int:
    """A port that nobody listens on just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def running(home: Path, *options: str) -> Iterator[tuple[str, subprocess.Popen]]:
    """A server that answers: its address and its process, killed in the end if it still lives."""
    port = free_port()
    command = [sys.executable, "-m", "tests.serve.server_process", str(port), str(home), *options]
    with open(home / "log.jsonl", "w") as log:
        process = subprocess.Popen(command, cwd=ROOT, stderr=log)
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(600):
            assert process.poll() is None, (home / "log.jsonl").read_text()
            try:
                httpx.get(f"{address}/readyz")
                break
            except httpx.TransportError:
                time.sleep(0.1)
        yield address, process
    finally:
        process.kill()
        process.wait()


if __name__ == "__main__":
    main()
