"""Clients that leave in the middle of a reply: their places are free at once and nothing of them stays."""

import asyncio
import gc
import json
import time
from pathlib import Path

import pytest

from sawyer.store import FeedbackStore
from serve.app import create_app
from serve.limits import Unlimited
from serve.local.engine import Loaded, LocalEngine
from tests.serve import tiny
from tests.serve.live import serving
from tests.serve.test_openai_api import wait_for

VERSIONS = {"base": "base@0", "sft": "sft@1", "rlf": "rlf@2"}
CLIENTS = 200
ROUNDS = 10
SETTLED = 5  # rounds after which memory should have levelled off: oneDNN keeps the kernels of every number of rows


async def leave_together(port: int, count: int) -> int:
    """``count`` clients begin to read a stream and then all leave at once; how many had begun."""

    async def begin():
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        body = {"model": "sawyer-sft", "messages": [{"role": "user", "content": "tea"}], "stream": True,
                "max_tokens": 80, "temperature": 1.5}  # fmt: skip
        data = json.dumps(body).encode()
        head = f"Host: x\r\nContent-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n".encode()
        writer.write(b"POST /v1/chat/completions HTTP/1.1\r\n" + head + data)
        status = await reader.readline()
        await reader.readuntil(b"data: ")
        return status, writer

    begun = await asyncio.gather(*(begin() for _ in range(count)))
    for _, writer in begun:
        writer.transport.abort()
    return sum(status.startswith(b"HTTP/1.1 200") for status, _ in begun)


def resident() -> float:
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 2**20


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is read as Linux tells it")
def test_two_hundred_clients_leave_and_their_places_are_free_within_a_second(tmp_path, recipe):
    policy = tiny.load(tiny.make_stages(tmp_path / "made"))
    engine = LocalEngine(lambda: Loaded(policy, VERSIONS), context=tiny.CONTEXT, max_waiting=2 * CLIENTS)
    with FeedbackStore.open(f"sqlite:///{tmp_path / 'sawyer.db'}") as store:
        app = create_app(engine, store, recipe=recipe, rate_limit=Unlimited())
        with serving(app) as url:
            wait_for(lambda: engine.status()[0] == "ok")
            sizes, seconds = [], []
            for _ in range(ROUNDS):
                assert asyncio.run(leave_together(int(url.rpartition(":")[2]), CLIENTS)) == CLIENTS
                left = time.monotonic()
                wait_for(lambda: engine.running == engine.waiting == app.state.drain.active == 0, 10)
                seconds.append(time.monotonic() - left)
                sizes.append(resident())
    print(f"free after {seconds} s, resident {sizes} MiB")
    assert max(seconds) < 1.0, seconds
    assert sizes[-1] - sizes[SETTLED] < 15, sizes
