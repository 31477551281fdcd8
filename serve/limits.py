"""How much one client may ask: requests a minute, replies at a time, and bytes a request."""

import math
import os
import time
from collections import Counter
from typing import Protocol

from limits import RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter
from starlette.types import ASGIApp, Receive, Scope, Send

from sawyer.errors import UsageError
from serve.access import API_PREFIX, FEEDBACK_PREFIX, caller_of
from serve.body import MAX_BODY, read_body, replayed
from serve.errors import ApiError

MAX_STREAMS = 8  # an audience behind one address needs more: SAWYER_MAX_STREAMS

FORGET_EVERY = 1000
"""Requests between two looks for clients who ask nothing any more."""

GENERATE = ("/v1/chat/completions", "/v1/completions", "/v1/compare")


class RateLimit(Protocol):
    """Counts the requests of each client. ``streams``: requests for replies it may have open at a time, None: any."""

    streams: int | None

    def wait(self, client: str, method: str, path: str) -> float:
        """Count a request; return 0 when it may pass, else the seconds until it would."""


class Unlimited:
    """No limits, for benchmarks (``SAWYER_RATE_LIMIT=off``)."""

    streams: int | None = None

    def wait(self, client: str, method: str, path: str) -> float:
        return 0.0


class ClientLimits:
    """A moving window of one minute for each client and kind of request.

    Args:
        generate, feedback, read: requests a minute that make replies, that store feedback, and all others.
        streams: requests for replies that may be open at a time.
    """

    def __init__(
        self, generate: int = 60, feedback: int = 120, read: int = 600, streams: int | None = MAX_STREAMS
    ) -> None:
        self.streams = streams
        self._items = {
            "generate": RateLimitItemPerMinute(generate),
            "feedback": RateLimitItemPerMinute(feedback),
            "read": RateLimitItemPerMinute(read),
        }
        self._storage = MemoryStorage()
        self._limiter = MovingWindowRateLimiter(self._storage)
        self._counted = 0

    def wait(self, client: str, method: str, path: str) -> float:
        kind = "read"
        if method == "POST":
            kind = (
                "generate" if _generates(method, path) else "feedback" if path.startswith(FEEDBACK_PREFIX) else "read"
            )
        self._forget_idle()
        item, key = self._items[kind], f"{kind}:{client}"
        if self._limiter.hit(item, key):
            return 0.0
        return max(0.1, self._limiter.get_window_stats(item, key).reset_time - time.time())

    def _forget_idle(self) -> None:
        """The storage empties the list of a client who asks nothing any more, and keeps it for ever; so not we."""
        self._counted += 1
        if self._counted % FORGET_EVERY == 0:
            for key in [key for key, events in list(self._storage.events.items()) if not events]:
                self._storage.events.pop(key, None)


def _generates(method: str, path: str) -> bool:
    return method == "POST" and path in GENERATE


def rate_limit_from_environment() -> RateLimit:
    """``SAWYER_RATE_LIMIT``: ``on`` (default) or ``off``; ``SAWYER_MAX_STREAMS``: replies at a time, from 1.

    Raises:
        UsageError: one of them says something else.
    """
    streams = os.environ.get("SAWYER_MAX_STREAMS", "").strip() or str(MAX_STREAMS)
    if not (streams.isascii() and streams.isdigit() and 0 < int(streams) < 10**6):
        raise UsageError(f"SAWYER_MAX_STREAMS is {streams!r}. Allowed: a whole number from 1; default: {MAX_STREAMS}.")
    given = os.environ.get("SAWYER_RATE_LIMIT", "on").strip().lower()
    if given in ("", "on"):
        return ClientLimits(streams=int(streams))
    if given == "off":
        return Unlimited()
    raise UsageError(f"SAWYER_RATE_LIMIT is {given!r}. Allowed: on (the default) and off.")


class LimitMiddleware:
    """Refuses requests to the API that come too often, too many at a time (429) or are too large (413).

    Other paths pass untouched.
    """

    def __init__(self, app: ASGIApp, *, rate_limit: RateLimit, max_body: int = MAX_BODY) -> None:
        self.app, self.rate_limit, self.max_body = app, rate_limit, max_body
        self._open: Counter[str] = Counter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not scope["path"].startswith(API_PREFIX):
            await self.app(scope, receive, send)
            return
        try:
            self._check_rate(scope)
            body = await read_body(scope, receive, self.max_body)
        except ApiError as error:
            await error.response()(scope, receive, send)
            return
        if body is None:  # the client left before it had sent everything
            return
        if not _generates(scope["method"], scope["path"]):
            await self.app(scope, replayed(body, receive), send)
            return
        client = caller_of(scope).client
        if self.rate_limit.streams is not None and self._open[client] >= self.rate_limit.streams:
            await self._too_many(self.rate_limit.streams).response()(scope, receive, send)
            return
        self._open[client] += 1
        try:
            await self.app(scope, replayed(body, receive), send)
        finally:
            self._open[client] -= 1
            if not self._open[client]:
                del self._open[client]

    def _check_rate(self, scope: Scope) -> None:
        seconds = self.rate_limit.wait(caller_of(scope).client, scope["method"], scope["path"])
        if seconds > 0:
            raise ApiError(
                429,
                f"Too many requests. Try again in {math.ceil(seconds)} seconds. (Whoever runs this "
                "server can lift the limits with SAWYER_RATE_LIMIT=off.)",
                code="rate_limit_exceeded",
                retry_after=seconds,
            )

    @staticmethod
    def _too_many(streams: int) -> ApiError:
        text = (
            f"{streams} of your requests are being answered already, and no more are allowed at a time. Wait for one "
            "to end. (Whoever runs this server can allow more with SAWYER_MAX_STREAMS.)"
        )
        return ApiError(429, text, code="too_many_streams", retry_after=1.0)
