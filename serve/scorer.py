"""Rewards beside the replies, scored on a thread of their own so that decoding does not wait for them."""

import asyncio
import logging
import math
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:  # torch takes seconds to import; the scoring thread does it
    from sawyer.scoring import Scores, TextScorer

logger = logging.getLogger(__name__)

Messages = Sequence[dict[str, str]]


@dataclass(frozen=True)
class Scored:
    """A reply's reward. ``parts`` are the raw scores by name, where it is the sum of several."""

    total: float
    parts: dict[str, float] = field(default_factory=dict)


Explain = Callable[["TextScorer", Sequence[Messages], Sequence[str]], "Scores"]
"""(scorer, conversations, replies) -> their totals and the raw scores of the parts."""


class Scorer(Protocol):
    """What the API asks for."""

    enabled: bool

    def start(self) -> None: ...

    async def score(self, messages: Messages, reply: str) -> Scored | None: ...

    def close(self) -> None: ...


class NoScorer:
    """A server without a reward model."""

    enabled = False

    def start(self) -> None:
        pass

    async def score(self, messages: Messages, reply: str) -> Scored | None:
        return None

    def close(self) -> None:
        pass


TIDY_SECONDS = 10.0
"""Between two returns of freed memory to the system, while there is something to score. Replies of ever other lengths
leave holes in the heap, some 7 MiB for every 100 batches."""


class BackgroundScorer:
    """Loads a reward model in the background and scores replies with it, those that wait together in one batch.

    A reward is an ornament: when it cannot be had (still loading, failed, too slow), the reply goes out without one.

    Args:
        load: makes the scorer; called once, on the scoring thread.
        patience: seconds a reply waits for its reward.
        batch: most replies scored in one call.
        explain: asks a scorer for the parts of its sum too; default: totals alone.
    """

    enabled = True

    def __init__(
        self,
        load: Callable[[], "TextScorer"],
        *,
        patience: float = 10.0,
        batch: int = 16,
        explain: Explain | None = None,
    ) -> None:
        self._load, self._patience, self._batch, self._explain = load, patience, batch, explain
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="sawyer-scorer")
        self._waiting: SimpleQueue[tuple[Messages, str, Future[Scored]]] = SimpleQueue()
        self._loaded: Future[TextScorer] | None = None
        self._tidied = time.monotonic()

    def start(self) -> None:
        if self._loaded is None:
            self._loaded = self._pool.submit(self._load)
            self._loaded.add_done_callback(_tell_failure)

    async def score(self, messages: Messages, reply: str) -> Scored | None:
        """The reward of a reply, or None when there is none to be had in time."""
        self.start()
        result: Future[Scored] = Future()
        self._waiting.put((messages, reply, result))
        try:
            self._pool.submit(self._score_waiting)
            scored = await asyncio.wait_for(asyncio.wrap_future(result), self._patience)
        except Exception as error:
            logger.warning("a reply goes without its reward: %s", error or type(error).__name__)
            return None
        return scored if math.isfinite(scored.total) else None

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _score_waiting(self) -> None:
        """Score whatever waits now; a later call may then find nothing left to do."""
        taken: list[tuple[Messages, str, Future[Scored]]] = []
        while len(taken) < self._batch:
            try:
                messages, reply, result = self._waiting.get_nowait()
            except Empty:
                break
            if result.set_running_or_notify_cancel():
                taken.append((messages, reply, result))
        if not taken:
            return
        try:
            scores = self._scores([list(messages) for messages, _, _ in taken], [reply for _, reply, _ in taken])
        except Exception as error:
            for _, _, result in taken:
                result.set_exception(error)
            return
        for (_, _, result), scored in zip(taken, scores, strict=True):
            result.set_result(scored)
        if time.monotonic() - self._tidied > TIDY_SECONDS:
            _tidy()
            self._tidied = time.monotonic()

    def _scores(self, prompts: Sequence[Messages], replies: Sequence[str]) -> list[Scored]:
        assert self._loaded is not None
        scorer = self._loaded.result()
        if self._explain is None:
            return [Scored(float(value)) for value in scorer.score(prompts, replies)]
        scores = self._explain(scorer, prompts, replies)
        parts = [
            {name: float(raw[row]) for name, raw in scores.raw.items() if math.isfinite(raw[row])}
            for row in range(len(replies))
        ]
        return [Scored(float(total), by_name) for total, by_name in zip(scores.total, parts, strict=True)]


def _tidy() -> None:
    from sawyer.compute import release_memory

    release_memory()


def _tell_failure(loaded: "Future[TextScorer]") -> None:
    if not loaded.cancelled() and loaded.exception() is not None:
        logger.error("The reward model could not be loaded; replies go without rewards. %s", loaded.exception())
