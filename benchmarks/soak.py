"""Five minutes of everything at once at a server: no 5xx, and memory does not grow once the server is warm.

    python benchmarks/soak.py                    # a server of its own with the nano model
    python benchmarks/soak.py --seconds 3600 --clients 8 --json

Clients compare, chat, complete, vote, send nonsense, and leave in the middle of replies. Resident memory is read twice
a second; thirty windows are judged by their medians (``benchmarks/level.py``). The first third is warming up: caches
fill, and every place for a row is used for the first time. Memory grows if afterwards a window is more than
``--allowed`` MiB above the highest one of the first third, or if the slope's 90 % interval is above zero and the line
rises by more than ``--allowed`` MiB. Exit code 1 then, and after any 5xx, hang, or reply left running.
"""

import argparse
import asyncio
import json
import random
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import httpx

from benchmarks.level import level
from benchmarks.malformed import ask
from benchmarks.malformed_requests import KINDS, malformed
from benchmarks.server import Server, serving

ALLOWED = 15.0
"""MiB; a leak of a kilobyte a request would be 8 in the 8,000 requests that follow warming up on an idle machine."""

QUESTIONS = ("Who are you?", "How do I boil an egg?", "Tell me a story.", "Why is the sky blue?", "Name three colours.")


class Client:
    """One client that does one thing after another until its time is up, and counts the answers."""

    def __init__(self, server: Server, seed: int, statuses: Counter[str]) -> None:
        self.server, self.draw, self.statuses = server, random.Random(seed), statuses
        self.http = httpx.AsyncClient(base_url=server.url, timeout=120)

    async def run(self, until: float) -> None:
        deeds: tuple[Callable[[], Awaitable[None]], ...] = (
            self.compare_and_vote, self.chat, self.complete, self.leave, self.nonsense, self.look,
        )  # fmt: skip
        async with self.http:
            while time.monotonic() < until:
                await self.draw.choice(deeds)()

    def question(self) -> dict[str, Any]:
        text = self.draw.choice(QUESTIONS)
        return {"messages": [{"role": "user", "content": text}], "max_tokens": self.draw.choice((4, 16, 48))}

    async def compare_and_vote(self) -> None:
        answer = await self.http.post("/v1/compare", json=self.question())
        self.count("compare", answer.status_code)
        if answer.status_code == 200:
            turn_id = json.loads(answer.text.partition("data: ")[2].partition("\n")[0])["turn_id"]
            vote = {"turn_id": turn_id, "choice": self.draw.choice(("base", "sft", "rlf", "tie", "bad"))}
            self.count("vote", (await self.http.post("/v1/feedback/votes", json=vote)).status_code)

    async def chat(self) -> None:
        body = self.question() | {"model": "sawyer-rlf", "n": self.draw.randint(1, 4), "logprobs": True}
        self.count("chat", (await self.http.post("/v1/chat/completions", json=body)).status_code)

    async def complete(self) -> None:
        body = {"model": "sawyer-base", "prompt": list(QUESTIONS[:3]), "max_tokens": 8}
        self.count("complete", (await self.http.post("/v1/completions", json=body)).status_code)

    async def leave(self) -> None:
        body = self.question() | {"max_tokens": 400}
        async with self.http.stream("POST", "/v1/compare", json=body) as answer:
            async for _ in answer.aiter_raw():
                break
        self.count("leave", answer.status_code)

    async def nonsense(self) -> None:
        data = malformed(self.draw, self.draw.choice(list(KINDS)))
        self.count("nonsense", await ask(self.server.host, self.server.port, data))

    async def look(self) -> None:
        for path in ("/v1/models", "/v1/info", "/v1/feedback/stats", "/metrics", "/readyz"):
            self.count("look", (await self.http.get(path)).status_code)

    def count(self, deed: str, status: int | str) -> None:
        self.statuses[f"{deed} {status}"] += 1


async def soak(server: Server, seconds: float, clients: int) -> tuple[Counter[str], list[float]]:
    """Statuses by deed, and resident memory in MiB, twice a second."""
    statuses, sizes = Counter[str](), list[float]()
    until = time.monotonic() + seconds

    async def watch() -> None:
        while time.monotonic() < until:
            sizes.append(server.resident_mib)
            await asyncio.sleep(0.5)

    await asyncio.gather(watch(), *(Client(server, seed, statuses).run(until) for seed in range(clients)))
    return statuses, sizes


def summarise(statuses: Counter[str], sizes: list[float], seconds: float, allowed: float) -> dict[str, Any]:
    """The result, memory in MiB; ``allowed`` is how much of it may be added after warming up."""
    memory = level(sizes, seconds)
    failed = {name: number for name, number in statuses.items() if name.split()[1].startswith("5") or "hang" in name}
    return {
        "seconds": seconds,
        "requests": statuses.total(),
        "statuses": dict(sorted(statuses.items())),
        "failed": {name: number for name, number in failed.items() if name != "nonsense 501"},
        "resident_mib": {"start": sizes[0], "most": max(sizes), "end": memory.windows[-1]},
        "resident_mib_by_window": [round(size) for size in memory.windows],
        "slope_mib_a_minute": {"low": memory.low, "estimate": memory.slope, "high": memory.high},
        "late_over_early_mib": memory.late,
        "grows": memory.rises(allowed),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--clients", type=int, default=6)
    parser.add_argument("--allowed", type=float, default=ALLOWED, help="MiB that memory may grow after warming up")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    given = parser.parse_args()
    with serving() as server:
        measured = asyncio.run(soak(server, given.seconds, given.clients))
        result = summarise(*measured, given.seconds, given.allowed)
        result["rows_left"] = server.rows_left()
    result["exit_code"] = server.process.returncode
    print(json.dumps(result) if given.json else json.dumps(result, indent=2))
    return 1 if result["failed"] or result["rows_left"] or result["grows"] else 0


if __name__ == "__main__":
    sys.exit(main())
