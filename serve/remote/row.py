"""One request of a remote engine: its rows as tasks of the event loop, and the events they tell."""

import asyncio
import itertools
import logging
import random
import time
from collections.abc import Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from typing import Literal

import httpx2

from serve.engine import Delta, Event, Failed, Finished, Prepared
from serve.errors import ApiError, NotReady, from_exception
from serve.remote.protocol import Ask, Piece, Remote, RemoteFault, broken_off
from serve.reply_text import HeldText
from serve.row_events import CLOSING, RowEvents

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Patience:
    """How long a remote is waited for, in seconds.

    Attributes:
        connect: until it accepts a connection.
        silence: until its next word; the first one comes when it has a place in its batch.
        reply: until a reply has ended, all tries together.
        pauses: before each further try; tries are made as long as nothing of the reply has come.
    """

    connect: float = 5.0
    silence: float = 60.0
    reply: float = 600.0
    pauses: tuple[float, ...] = (0.25, 1.0, 3.0)

    @property
    def timeout(self) -> httpx2.Timeout:
        """As httpx2 takes it; our own queue stands before its pool."""
        return httpx2.Timeout(self.silence, connect=self.connect, pool=None)


@dataclass
class Lanes:
    """What the rows of one event loop share: connections, and places for as many rows as may run at once."""

    loop: asyncio.AbstractEventLoop
    http: httpx2.AsyncClient
    places: asyncio.Semaphore
    waiting: int = 0
    running: int = 0
    rows: set["RemoteRow"] = field(default_factory=set)
    hang_up: "asyncio.Task[None] | None" = None  # kept, or the loop would forget the task


class RemoteReply(RowEvents):
    """The events of one request."""

    def __init__(self, rows: int) -> None:
        super().__init__(rows)
        self.tasks: list[asyncio.Task[None]] = []

    def cancel(self) -> None:
        """Stop the rows that still run, from any thread."""
        with suppress(RuntimeError):  # the event loop is closed: nothing runs any more
            self._loop.call_soon_threadsafe(lambda: [task.cancel() for task in self.tasks])

    def send(self, event: Event) -> None:
        """Hand over an event; in the event loop."""
        self._events.put_nowait(event)


class RemoteRow:
    """One row: asked for, tried again while nothing of it has come, cut at its stop texts, told."""

    def __init__(
        self, reply: RemoteReply, index: int, prepared: Prepared, name: str | None, stop: Sequence[str]
    ) -> None:
        self.reply, self.index = reply, index
        stops = list(dict.fromkeys([*prepared.sampling.stop, *stop]))
        sampling = prepared.sampling.model_copy(update={"stop": stops})
        self.ask = Ask(name, prepared.ids, sampling, prepared.job.top_logprobs)
        self.closing = False
        self._text = HeldText(sampling.stop, strip=prepared.job.prompt is None)
        self._tokens, self._begun, self._ended = 0, False, False
        self._submitted = time.monotonic()

    def start(self, remote: Remote, lanes: Lanes, patience: Patience) -> None:
        """Begin; in the event loop."""
        lanes.rows.add(self)
        lanes.waiting += 1
        task = lanes.loop.create_task(self._run(remote, lanes, patience), name=f"sawyer-remote-row-{self.index}")
        self.reply.tasks.append(task)
        task.add_done_callback(lambda done: self._settle(done, lanes))

    def _settle(self, task: "asyncio.Task[None]", lanes: Lanes) -> None:
        """Tell the end of a row that was cancelled: a task that had not begun yet never runs any of its lines."""
        lanes.rows.discard(self)
        if self._begun:
            lanes.running -= 1
        else:
            lanes.waiting -= 1
        if not self._ended and self.closing:
            self._fail(NotReady(CLOSING))
        elif not self._ended and task.cancelled():
            self._end("cancelled")
        elif not self._ended:
            error = task.exception()
            self._fail(from_exception(error if isinstance(error, Exception) else RuntimeError("a row without an end")))

    async def _run(self, remote: Remote, lanes: Lanes, patience: Patience) -> None:
        async with lanes.places:
            lanes.waiting, lanes.running, self._begun = lanes.waiting - 1, lanes.running + 1, True
            try:
                await self._try(remote, lanes.http, patience)
            except RemoteFault as fault:
                cause = fault.__cause__
                logger.warning("%s at %s: %s", remote.kind, remote.url, f"{cause!r}: {fault}" if cause else fault)
                self._fail(fault.error)

    async def _try(self, remote: Remote, http: httpx2.AsyncClient, patience: Patience) -> None:
        """Follow the reply. RemoteFault when the last try has failed, or one in the middle of the reply."""
        try:
            async with asyncio.timeout(patience.reply):
                for attempt in itertools.count():
                    try:
                        await self._follow(remote, http)
                        return
                    except RemoteFault as fault:
                        # What was shown cannot be taken back, and a second reply would not go on where it ended.
                        if self._tokens or not fault.again or attempt >= len(patience.pauses):
                            raise
                    await asyncio.sleep(patience.pauses[attempt] * random.uniform(0.5, 1.5))
        except TimeoutError as error:
            text = f"The {remote.kind} server did not come to an end of the reply in {patience.reply:.0f} seconds."
            raise RemoteFault(ApiError(504, text, code="remote_timeout", retry_after=5)) from error

    async def _follow(self, remote: Remote, http: httpx2.AsyncClient) -> None:
        async with aclosing(remote.stream(http, self.ask)) as pieces:  # type: ignore[type-var]
            async for piece in pieces:
                self._take(piece)
                if self._ended:
                    return
        raise broken_off(remote.kind)

    def _take(self, piece: Piece) -> None:
        self._tokens = piece.tokens
        new = self._text.add(piece.text)
        self._tell(new, () if self._text.stopped else piece.logprobs)
        if self._text.stopped:
            self._end("stop")
        elif piece.finish:
            self._end(piece.finish)
        elif piece.tokens > self.ask.sampling.max_tokens:  # it should have ended by itself
            self._end("length")

    def _tell(self, text: str, logprobs: tuple = ()) -> None:
        if text or logprobs:
            self.reply.send(Delta(self.index, text, logprobs))

    def _end(self, reason: Literal["stop", "length", "cancelled"]) -> None:
        self._ended = True
        self._tell(self._text.finish())
        seconds = time.monotonic() - self._submitted
        self.reply.send(Finished(self.index, self._text.text, self._tokens, reason, seconds))

    def _fail(self, error: ApiError) -> None:
        self._ended = True
        self.reply.send(Failed(self.index, error))
