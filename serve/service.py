"""The parts of a running server, and how a request becomes replies that are followed to their end and kept."""

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from sawyer.recipe import Recipe
from sawyer.types import Sampling
from serve.engine import Delta, Engine, Failed, Finished, Job, Prepared, Queued, Reply
from serve.errors import from_exception
from serve.metrics import Metrics
from serve.recorder import Recorded, Recorder, TurnRef
from serve.request_record import current
from serve.scorer import Scorer

MAX_TOKENS = 32_768  # sawyer.types.Sampling's bound; the context is the one that matters


class SamplingFields(Protocol):
    """The sampling part of a request; None stands for the recipe's default."""

    @property
    def max_tokens(self) -> int | None: ...
    @property
    def temperature(self) -> float | None: ...
    @property
    def top_p(self) -> float | None: ...
    @property
    def seed(self) -> int | None: ...
    @property
    def stop(self) -> list[str]: ...


@dataclass(frozen=True)
class Kept:
    """A row has ended and is in the store; ``recorded`` is None for a reply that is not kept."""

    row: int
    finished: Finished
    recorded: Recorded | None


OnEvent = Callable[[Delta | Kept | Failed], None]


@dataclass(frozen=True)
class Service:
    """Everything the routes work with."""

    engine: Engine
    recorder: Recorder
    scorer: Scorer
    metrics: Metrics
    recipe: Recipe
    started: int

    def sampling(self, given: SamplingFields) -> Sampling:
        """The request's sampling with the recipe's defaults; a missing seed is drawn, so that it can be stored."""
        defaults = self.recipe.serve
        return Sampling(
            max_tokens=min(given.max_tokens or defaults.max_tokens, MAX_TOKENS),
            temperature=defaults.temperature if given.temperature is None else given.temperature,
            top_p=given.top_p or defaults.top_p,
            seed=secrets.randbelow(2**31) if given.seed is None else given.seed,
            stop=list(given.stop),
        )

    async def open(
        self,
        jobs: Sequence[Job],
        begin: Callable[[], Awaitable[TurnRef]] | None,
        panes: Sequence[str] | None = None,
    ) -> "Session":
        """Check the prompts, queue the rows, store the turn. An error here is an HTTP status, with nothing begun.

        ``begin`` stores the turn; None: replies that belong to no conversation, which are counted and not kept.
        """
        started = time.monotonic()
        prepared = await self.engine.prepare(jobs)
        for each in prepared:
            current().note_prompt(each.prompt)
        reply = self.engine.submit(prepared)
        try:
            turn = await begin() if begin else None
        except BaseException:
            reply.cancel()
            raise
        return Session(self, turn, prepared, reply, panes, started)


@dataclass(frozen=True)
class Session:
    """The replies of one request. ``panes`` are the names they are shown under in a comparison."""

    service: Service
    turn: TurnRef | None
    prepared: Sequence[Prepared]
    reply: Reply
    panes: Sequence[str] | None
    started: float

    @property
    def kept_turn(self) -> TurnRef:
        """The turn of a session that is kept."""
        assert self.turn is not None, "this session has no turn"
        return self.turn

    async def run(self, on_event: OnEvent, on_queued: Callable[[Queued], None] | None = None) -> None:
        """Report what happens to each row, ``Kept`` once it is stored. One row's trouble leaves the others alone.

        When the caller is cancelled (the client left), running rows are stopped, and what they had said is kept.
        """
        spawn = self.service.recorder.spawn
        keeping, begun = [], set()
        try:
            async for event in self.reply:
                if isinstance(event, Queued):
                    if on_queued is not None:
                        on_queued(event)
                    continue
                if isinstance(event, Finished):
                    keeping.append(spawn(self._keep(event, on_event)))
                    continue
                if isinstance(event, Delta) and event.row not in begun:
                    begun.add(event.row)
                    stage = self.prepared[event.row].job.stage
                    self.service.metrics.first_text.labels(stage).observe(time.monotonic() - self.started)
                on_event(event)
            if keeping:
                await asyncio.wait(keeping)
        except asyncio.CancelledError:
            self.abandon()
            raise

    def abandon(self) -> None:
        """Stop the rows that still run; what they had said is stored as cancelled."""
        self.reply.cancel()
        self.service.recorder.spawn(self._keep_rest())

    async def _keep_rest(self) -> None:
        async for event in self.reply:
            if isinstance(event, Finished) and event.tokens:
                await self._keep(event, lambda _: None)

    async def _keep(self, finished: Finished, on_event: OnEvent) -> None:
        pane = self.panes[finished.row] if self.panes else None
        prepared, recorder = self.prepared[finished.row], self.service.recorder
        try:
            recorded = await recorder.record(self.turn, prepared, finished, pane) if self.turn else None
        except Exception as error:
            on_event(Failed(finished.row, from_exception(error)))
        else:
            recorder.count(prepared, finished)
            on_event(Kept(finished.row, finished, recorded))
