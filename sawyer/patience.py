"""POST with patience: a busy or restarting service is asked again, one that refuses is not."""

import time
from collections.abc import Callable
from typing import Any

import httpx

BUSY = (408, 425, 429, 500, 502, 503, 504)
"""Statuses after which the same request may succeed: https://www.rfc-editor.org/rfc/rfc9110#section-15"""

LONGEST_WAIT = 30.0


class GaveUpError(Exception):
    """No answer: ``reason`` is the last one, after ``tries``."""

    def __init__(self, reason: str, tries: int) -> None:
        super().__init__(reason)
        self.reason, self.tries = reason, tries

    def __str__(self) -> str:
        return f"after {self.tries} {'try' if self.tries == 1 else 'tries'} ({self.reason})"


def post(
    client: httpx.Client, url: str, body: dict[str, Any], *, retries: int, sleep: Callable[[float], None] = time.sleep
) -> httpx.Response:
    """POST JSON; after a lost connection, a timeout or a busy service again, up to ``retries`` times.

    It waits 0.5, 1, 2, … seconds between tries, or what Retry-After asks for.

    Raises:
        GaveUpError: the service cannot be reached, stays busy, or refuses.
    """
    reason = ""
    for attempt in range(retries + 1):
        wait = min(LONGEST_WAIT, 0.5 * 2**attempt)
        try:
            answer = client.post(url, json=body)
        except httpx.TransportError as error:
            reason = f"{type(error).__name__}: {error}".rstrip(": ")
        else:
            if answer.is_success:
                return answer
            reason = f"{answer.status_code} {answer.reason_phrase}: {answer.text[:120]}".rstrip(": ")
            if answer.status_code not in BUSY:
                break
            wait = _wanted(answer, wait)
        if attempt < retries:
            sleep(wait)
    raise GaveUpError(reason, attempt + 1)


def _wanted(answer: httpx.Response, wait: float) -> float:
    """Seconds to wait: Retry-After where it is a number."""
    try:
        return min(LONGEST_WAIT, max(0.0, float(answer.headers.get("Retry-After", ""))))
    except ValueError:
        return wait
