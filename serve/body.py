"""The body of a request: read whole before anything is done with it, and not larger than allowed."""

import asyncio
import contextlib

from starlette.types import Message, Receive, Scope

from serve.errors import ApiError

MAX_BODY = 1024 * 1024  # bytes; a context of 4,096 tokens is about 20 kB of text

# A client that still sends when the connection is closed may lose the answer that tells it why. So what comes beyond
# the limit is read and forgotten, up to this many bytes and seconds.
_FORGOTTEN = 8 * 1024 * 1024
_PATIENCE = 2.0


async def read_body(scope: Scope, receive: Receive, most: int) -> bytes | None:
    """The whole body; None when the client left before it had sent everything.

    Raises:
        ApiError: 413, it is larger than ``most`` bytes, or says so.
    """
    headers = dict(scope["headers"])
    declared = headers.get(b"content-length", b"0")
    size = int(declared) if declared.isdigit() else 0
    if size > most:
        if size <= _FORGOTTEN and b"expect" not in headers:  # who expects a word before sending is told at once
            await _forget(receive)
        raise _too_large(most)
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        body += message.get("body", b"")
        if len(body) > most:
            if message.get("more_body", False):
                await _forget(receive)
            raise _too_large(most)
        if not message.get("more_body", False):
            return bytes(body)


def replayed(body: bytes, receive: Receive) -> Receive:
    """A ``receive`` that hands out the body once more and then what the server says (the disconnect)."""
    pending: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replay() -> Message:
        return pending.pop() if pending else await receive()

    return replay


async def _forget(receive: Receive) -> None:
    left = _FORGOTTEN
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_PATIENCE):
            while left > 0:
                message = await receive()
                left -= len(message.get("body", b""))
                if not message.get("more_body", False):
                    return


def _too_large(most: int) -> ApiError:
    text = f"The request is larger than the {most:,} bytes allowed. Send fewer or shorter messages."
    return ApiError(413, text, code="request_too_large")
