"""Server-sent events: a producing task on one side, a client that may leave at any moment on the other."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Mapping
from typing import Any, TypeVar

import anyio
from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.types import Send

HEARTBEAT_SECONDS = 15.0  # below the idle timeouts of common proxies (60 s) and mobile networks (30 s)

CLIENT_LEFT = 499  # nginx's number for a client that closed the connection before its answer; nobody ever reads it

Emit = Callable[[bytes], None]
T = TypeVar("T")


def event(payload: BaseModel | str) -> bytes:
    """One event; a model becomes one line of JSON."""
    text = payload if isinstance(payload, str) else payload.model_dump_json()
    return f"data: {text}\n\n".encode()


async def relay(produce: Callable[[Emit], Awaitable[None]], heartbeat: float) -> AsyncGenerator[bytes, None]:
    """Run ``produce`` as a task and yield what it emits, with a comment line whenever nothing came for a while.

    When the reader goes away, the task is cancelled and waited for; an error of the task is raised here.
    """
    queue: asyncio.Queue[bytes | None] = asyncio.Queue()

    async def run() -> None:
        try:
            await produce(queue.put_nowait)
        finally:
            queue.put_nowait(None)

    task = asyncio.create_task(run())
    try:
        while True:
            try:
                chunk = await asyncio.wait_for(queue.get(), heartbeat)
            except TimeoutError:
                chunk = b": still here\n\n"
            if chunk is None:
                break
            yield chunk
        await task
    finally:
        if not task.done():
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


class EventStream(StreamingResponse):
    """A ``text/event-stream`` answer fed by ``produce``, which is cancelled when the client disconnects."""

    def __init__(
        self,
        produce: Callable[[Emit], Awaitable[None]],
        *,
        headers: Mapping[str, str] | None = None,
        heartbeat: float = HEARTBEAT_SECONDS,
    ) -> None:
        quiet = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        self._chunks = relay(produce, heartbeat)
        super().__init__(self._chunks, headers={**quiet, **(headers or {})})
        self.headers["Content-Type"] = "text/event-stream; charset=utf-8"

    async def stream_response(self, send: Send) -> None:
        # Starlette leaves an iterator that is interrupted while sending to the garbage collector; the engine's rows
        # must stop now.
        try:
            await super().stream_response(send)
        finally:
            with anyio.CancelScope(shield=True):
                await self._chunks.aclose()


async def unless_disconnected(request: Request, work: Callable[[], Coroutine[Any, Any, T]]) -> T | None:
    """The result of ``work``, or None when the client left first; the work is cancelled then.

    The request's body must have been read.
    """

    async def gone() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    task, leaving = asyncio.create_task(work()), asyncio.create_task(gone())
    try:
        await asyncio.wait({task, leaving}, return_when=asyncio.FIRST_COMPLETED)
        return task.result() if task.done() else None
    finally:
        for each in (task, leaving):
            if not each.done():
                each.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await each
