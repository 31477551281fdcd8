"""Ending without loss: what runs may finish, what comes is told to come back."""

import asyncio
import time

from starlette.types import ASGIApp, Receive, Scope, Send

from serve.access import API_PREFIX
from serve.errors import NotReady

RETRY_AFTER = 5.0  # seconds until another server, or this one started anew, may be there
TEXT = "The server is shutting down: it finishes what it has begun and takes nothing new. Try again in a few seconds."


class Drain:
    """Whether the server is about to end, and how many requests to the API it still answers."""

    def __init__(self) -> None:
        self.draining = False
        self.active = 0

    def begin(self) -> None:
        """Take no more requests; from any thread or signal handler."""
        self.draining = True

    async def settled(self, seconds: float = 2.0) -> None:
        """Wait until nothing is active: a server that runs out of time cancels its requests and does not wait."""
        deadline = time.monotonic() + seconds
        while self.active and time.monotonic() < deadline:
            await asyncio.sleep(0.01)


class DrainMiddleware:
    """Counts the requests to the API, and refuses them (503) once the server drains."""

    def __init__(self, app: ASGIApp, *, drain: Drain) -> None:
        self.app, self.drain = app, drain

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not scope["path"].startswith(API_PREFIX):
            await self.app(scope, receive, send)
            return
        if self.drain.draining:
            response = NotReady(TEXT, RETRY_AFTER, code="draining").response()
            response.headers["Connection"] = "close"  # or the client would ask the same process again
            await response(scope, receive, send)
            return
        self.drain.active += 1
        try:
            await self.app(scope, receive, send)
        finally:
            self.drain.active -= 1
