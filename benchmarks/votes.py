"""Votes a second through the HTTP API, none lost, none doubled.

    python benchmarks/votes.py                               # SQLite, in a home that is thrown away
    python benchmarks/votes.py --database postgresql://…     # an empty PostgreSQL database
    python benchmarks/votes.py --clients 50 --seconds 20 --json

Each client keeps one connection and sends one vote after the other, each of another voter and with an idempotency key;
every tenth is sent twice. An answer of 201 means that the vote is on the disk. Afterwards the store is opened and every
vote that was answered for is looked up. Clients share the machine with the server, as one process of their own. Exit
code 1 when a vote is missing, doubled or refused.
"""

import argparse
import asyncio
import json
import re
import sys
import time
from pathlib import Path
from statistics import quantiles
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.server import Server, serving
from sawyer.store import FeedbackStore

CHOICES = ("base", "sft", "rlf", "tie", "bad")
TURNS = 200
FASTEST = 4000  # requests a second that are prepared
_LENGTH = re.compile(rb"(?i)\r\ncontent-length: *(\d+)")


def make_turns(url: str) -> list[str]:
    """Questions with three answers each, straight into the store."""
    with FeedbackStore.open(url) as store:
        conversation = store.add_conversation()
        turns = []
        for number in range(TURNS):
            turn = store.add_turn(conversation, [{"role": "user", "content": f"Question {number}?"}])
            for stage in ("base", "sft", "rlf"):
                store.add_completion(turn, stage, prompt_text="", text=f"An answer by {stage}. " * 10, tokens=40)
            turns.append(turn)
        return turns


class Client(asyncio.Protocol):
    """One voter's browser after the other, on one connection.

    A bare protocol, and requests made beforehand: the clients have the server's processor and must not be what is
    measured.
    """

    def __init__(self, requests: list[bytes], until: float, done: asyncio.Future[None]) -> None:
        self._requests, self._until, self._done = iter(requests), until, done
        self._sent, self._came = 0.0, b""
        self.answered: list[str] = []
        self.waits: list[float] = []
        self.refused: list[int] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._send()

    def data_received(self, data: bytes) -> None:
        self._came += data
        head, end, body = self._came.partition(b"\r\n\r\n")
        if not end or len(body) < int(_LENGTH.search(head)[1]):  # type: ignore[index]
            return
        now, self._came = time.monotonic(), b""
        self.waits.append(now - self._sent)
        status = int(head[9:12])
        if status == 201:
            self.answered.append(json.loads(body)["vote_id"])
        else:
            self.refused.append(status)
        if now < self._until:
            self._send()
        else:
            self._transport.close()

    def connection_lost(self, error: Exception | None) -> None:
        if not self._done.done():
            self._done.set_result(None)

    def _send(self) -> None:
        request = next(self._requests, None)
        if request is None:
            raise SystemExit(f"The server was quicker than {FASTEST} requests a second; raise FASTEST.")
        self._sent = time.monotonic()
        self._transport.write(request)


def requests_of(number: int, turns: list[str], most: int) -> list[bytes]:
    """So many votes of one client, every tenth twice, each of another voter and under another key."""
    made: list[bytes] = []
    for count in range(most):
        name = f"{turns[0]}-{number}-{count}"
        turn = turns[(number * 31 + count) % len(turns)]
        body = json.dumps({"turn_id": turn, "choice": CHOICES[count % 5], "voter": name}).encode()
        head = (
            f"POST /v1/feedback/votes HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            f"Idempotency-Key: {name}\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        made += [head.encode() + body] * (2 if count % 10 == 0 else 1)
    return made


async def vote(server: Server, turns: list[str], clients: int, seconds: float) -> tuple[list[Client], float]:
    """All clients at once; they and the seconds until the last one's last answer."""
    loop = asyncio.get_running_loop()
    most = int(FASTEST * seconds / clients) + 10
    made = [requests_of(number, turns, most) for number in range(clients)]
    ends = [loop.create_future() for _ in made]
    began = time.monotonic()

    async def connect(requests: list[bytes], end: asyncio.Future[None]) -> Client:
        _, client = await loop.create_connection(
            lambda: Client(requests, began + seconds, end), server.host, server.port
        )
        return client

    voting = await asyncio.gather(*(connect(requests, end) for requests, end in zip(made, ends, strict=True)))
    await asyncio.gather(*ends)
    return list(voting), time.monotonic() - began


def measure(clients: int, seconds: float, database: str | None) -> dict[str, Any]:
    """The result of one run."""
    with serving(**({"SAWYER_DB": database} if database else {})) as server:
        url = database or f"sqlite:///{server.log.parent / 'sawyer.db'}"
        turns = make_turns(url)
        asyncio.run(vote(server, turns, clients, 1.0))  # connections, caches, the first pages of the log
        voting, took = asyncio.run(vote(server, make_turns(url), clients, seconds))
        with FeedbackStore.open(url) as store:
            stored = {row.id: row.voter for row in store.votes(newest_only=False)}
    answered = {vote_id for client in voting for vote_id in client.answered}
    waits = sorted(wait for client in voting for wait in client.waits)
    cuts = quantiles(waits, n=100)
    return {
        "database": "postgresql" if database else "sqlite",
        "clients": clients,
        "seconds": round(took, 2),
        "votes": len(answered),
        "votes_a_second": round(len(answered) / took, 1),
        "requests_a_second": round(len(waits) / took, 1),
        "milliseconds": {f"p{place}": round(cuts[place - 1] * 1000, 1) for place in (50, 95, 99)},
        "lost": len(answered - set(stored)),
        "doubled": len(stored) - len(set(stored.values())),
        "refused": sum(len(client.refused) for client in voting),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--database", help="an empty PostgreSQL database; default: SQLite")
    parser.add_argument("--json", action="store_true", help="one JSON object on one line")
    given = parser.parse_args()
    result = measure(given.clients, given.seconds, given.database)
    print(json.dumps(result) if given.json else json.dumps(result, indent=2))
    return 1 if result["lost"] or result["doubled"] or result["refused"] else 0


if __name__ == "__main__":
    sys.exit(main())
