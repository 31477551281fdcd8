"""Keeps what was shown: turns before their replies begin, each reply when it ends, with its reward."""

import asyncio
import logging
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any

from starlette.concurrency import run_in_threadpool

from sawyer.store import FeedbackStore, Turn
from serve.engine import Finished, Prepared
from serve.errors import ApiError
from serve.metrics import Metrics
from serve.request_record import current
from serve.scorer import Scorer

logger = logging.getLogger(__name__)

Messages = Sequence[dict[str, str]]


@dataclass(frozen=True)
class TurnRef:
    """A stored turn."""

    turn_id: str
    conversation_id: str


@dataclass(frozen=True)
class Recorded:
    """A stored reply. ``parts`` are the raw scores behind ``reward``, where it is a sum of several."""

    completion_id: str
    reward: float | None
    parts: dict[str, float] = field(default_factory=dict)


class Recorder:
    """Writes turns and replies to the store, off the event loop.

    Work that must survive a client's departure is handed to ``spawn``; ``drain`` waits for it when the server ends.
    """

    def __init__(self, store: FeedbackStore, scorer: Scorer, metrics: Metrics, recipe_name: str) -> None:
        self.store, self.scorer, self.metrics, self.recipe_name = store, scorer, metrics, recipe_name
        self._tasks: set[asyncio.Task[Any]] = set()

    async def begin(self, messages: Messages, conversation_id: str | None = None, parent: str | None = None) -> TurnRef:
        """Store a new turn, of a new conversation unless one is named.

        Raises:
            NotFound: the conversation or parent does not exist. StoreError: nothing could be stored.
        """

        def write() -> TurnRef:
            conversation = conversation_id or self.store.add_conversation(recipe=self.recipe_name)
            return TurnRef(self.store.add_turn(conversation, list(messages), parent), conversation)

        if parent is not None and conversation_id is None:
            raise ApiError(
                400,
                "parent_turn_id was given without conversation_id. Give both to continue a conversation, or neither.",
                code="missing_required_parameter",
                param="conversation_id",
            )
        return await run_in_threadpool(write)

    async def join(self, turn_id: str, messages: Messages, param: str = "metadata.turn_id") -> TurnRef:
        """An existing turn, to which another reply is to be added. Arguments and errors as :meth:`turn`."""
        turn = await self.turn(turn_id, messages, param)
        return TurnRef(turn.id, turn.conversation_id)

    async def turn(self, turn_id: str, messages: Messages, param: str) -> Turn:
        """A stored turn with its replies; ``param`` is the request's key that named it.

        Raises:
            NotFound: there is no such turn. ApiError: it asked something else; comparing the replies would be unfair.
        """
        turn = await run_in_threadpool(self.store.turn, turn_id)
        if turn.messages != list(messages):
            raise ApiError(
                400,
                f"The messages differ from those of turn {turn_id}. Answers of one turn must reply to the same "
                f"messages: send the turn's own, or leave {param} out.",
                code="turn_mismatch",
                param="messages",
            )
        return turn

    async def record(self, turn: TurnRef, prepared: Prepared, finished: Finished, pane: str | None = None) -> Recorded:
        """Score and store a reply. ``pane`` is the name it was shown under, if it was."""
        job, cancelled = prepared.job, finished.finish_reason == "cancelled"
        scored = None if cancelled else await self.scorer.score(job.messages, finished.text)
        sampling = prepared.sampling.model_dump() | ({"pane": pane} if pane else {})

        def write() -> str:
            return self.store.add_completion(
                turn.turn_id,
                job.stage,
                adapter_version=prepared.version,
                prompt_text=prepared.prompt,
                sampling=sampling,
                seed=prepared.sampling.seed,
                text=finished.text,
                tokens=finished.tokens,
                finish_reason=finished.finish_reason,
                seconds=finished.seconds,
                reward=scored.total if scored else None,
            )

        completion_id = await run_in_threadpool(write)
        return Recorded(completion_id, scored.total, scored.parts) if scored else Recorded(completion_id, None)

    def count(self, prepared: Prepared, finished: Finished) -> None:
        """Add a reply to the metrics and to its request's line in the log."""
        job = prepared.job
        current().note_reply(job.stage, finished.tokens, finished.text)
        self.metrics.prompt_tokens.labels(job.stage).inc(len(prepared.ids))
        self.metrics.replies.labels(job.stage, finished.finish_reason).inc()
        self.metrics.tokens.labels(job.stage).inc(finished.tokens)
        self.metrics.reply_seconds.labels(job.stage).observe(finished.seconds)

    def spawn(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Run ``work`` to its end even when the request that began it is gone. Its error is logged once."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    async def drain(self, seconds: float = 10.0) -> None:
        """Wait for spawned work."""
        if self._tasks:
            await asyncio.wait(set(self._tasks), timeout=seconds)

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            logger.error("a reply could not be kept: %s", task.exception())
