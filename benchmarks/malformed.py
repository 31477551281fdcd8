"""Ten thousand malformed requests at a running server: no 5xx, no hang, and it answers as before afterwards.

    python benchmarks/malformed.py                       # a server of its own with the nano model; --json
    python benchmarks/malformed.py --url http://127.0.0.1:8000   # one that runs (SAWYER_RATE_LIMIT=off, or all is 429)

Exit code 1 when a request was answered with a 5xx, or with nothing within ten seconds.
"""

import argparse
import asyncio
import json
import random
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.malformed_requests import KINDS, malformed, request
from benchmarks.server import serving

PATIENCE = 10.0  # seconds until an answer must be there
MORE_MAY_COME = 3.0  # seconds
AT_A_TIME = 16


async def ask(host: str, port: int, data: bytes) -> str:
    """The status of the answer; ``closed`` when the connection ended without one, ``hang`` when nothing came.

    A server may wait for what a header promised, so after a while it is told that nothing more comes.
    """
    reader, writer = await asyncio.open_connection(host, port)
    begun = asyncio.create_task(reader.read(1))
    try:
        writer.write(data)
        await asyncio.wait({begun}, timeout=MORE_MAY_COME)
        if not begun.done():
            writer.write_eof()
        async with asyncio.timeout(PATIENCE):
            answer = await begun + await reader.read()
    except TimeoutError:
        return "hang"
    except ConnectionError:
        return "closed"
    finally:
        begun.cancel()
        writer.close()
    if answer.startswith(b"HTTP/1.1 100"):  # Continue; the real one follows
        answer = answer.partition(b"\r\n\r\n")[2]
    parts = answer.split(b" ", 2)
    return parts[1].decode("ascii", "replace") if answer.startswith(b"HTTP/1.1 ") else "closed"


async def bombard(host: str, port: int, count: int, seed: int) -> dict[str, Counter[str]]:
    """Statuses by kind, and on stderr each request that was answered wrongly."""
    found: dict[str, Counter[str]] = {kind: Counter() for kind in KINDS}
    numbers = iter(range(count))

    async def work() -> None:
        for number in numbers:
            kind = list(KINDS)[number % len(KINDS)]
            data = malformed(random.Random(f"{seed} {number}"), kind)
            status = await ask(host, port, data)
            found[kind][status] += 1
            if wrong(status):
                print(f"request {number} ({kind}): {status}: {data[:600]!r}", file=sys.stderr)

    await asyncio.gather(*(work() for _ in range(AT_A_TIME)))
    return found


def wrong(status: str) -> bool:
    """501 is the parser's answer to a Transfer-Encoding that it does not know."""
    return status == "hang" or (status.startswith("5") and status != "501")


async def is_well(host: str, port: int) -> bool:
    """Whether a proper request gets a proper answer."""
    body = {"model": "sawyer-rlf", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 2}
    return await ask(host, port, request("/v1/chat/completions", json.dumps(body).encode())) == "200"


def run(host: str, port: int, count: int, seed: int) -> dict[str, Any]:
    """Send everything and sum up."""
    begun = time.monotonic()
    found = asyncio.run(bombard(host, port, count, seed))
    seconds = time.monotonic() - begun
    total = sum(found.values(), Counter[str]())
    return {
        "requests": total.total(),
        "seconds": round(seconds, 1),
        "requests_per_second": round(total.total() / seconds, 1),
        "statuses": dict(sorted(total.items())),
        "by_kind": {kind: dict(sorted(statuses.items())) for kind, statuses in found.items()},
        "wrong": sum(number for status, number in total.items() if wrong(status)),
        "well_afterwards": asyncio.run(is_well(host, port)),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", help="of a running server; default: start one")
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="one JSON object")
    given = parser.parse_args()
    if given.url:
        parts = urlsplit(given.url)
        result = run(parts.hostname or "127.0.0.1", parts.port or 80, given.requests, given.seed)
    else:
        with serving() as server:
            before = server.resident_mib
            result = run(server.host, server.port, given.requests, given.seed)
            result["resident_mib"] = {"before": round(before, 1), "after": round(server.resident_mib, 1)}
            result["rows_left"] = server.rows_left()
    print(json.dumps(result) if given.json else json.dumps(result, indent=2))
    return 1 if result["wrong"] or not result["well_afterwards"] or result.get("rows_left") else 0


if __name__ == "__main__":
    sys.exit(main())
