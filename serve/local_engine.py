"""The engine of this process: one thread owns the model and decodes rows of all stages in one batch.

Requests that wait when a batch ends go into the next one together. Within a batch every step is one forward
pass for all rows, each under its own adapter.
"""

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from starlette.concurrency import run_in_threadpool

from sawyer.errors import SawyerError
from sawyer.types import Stage
from serve.batch import CLOSING, BatchDecoder, LocalReply, RunningRow
from serve.engine import Job, Prepared, State
from serve.errors import ApiError, ContextExceeded, EngineBusy, NotReady, unknown_stage, without_paths

if TYPE_CHECKING:  # torch takes seconds to import; the loading thread does it
    from sawyer.models import Policy

logger = logging.getLogger(__name__)

LOADING = "The model is still being loaded. Try again in a few seconds; GET /readyz tells when it is."


@dataclass(frozen=True)
class Loaded:
    """A policy and the version of each of its stages, in showing order."""

    policy: "Policy"
    versions: Mapping[Stage, str | None]


class LocalEngine:
    """Decodes on one thread that loads the model first and keeps it to itself.

    Args:
        load: makes the policy; called once, on the engine's thread.
        context: of the recipe, until the model is loaded.
        max_rows, max_tokens: most rows of a batch, and most tokens of its prompts and replies together.
        max_waiting: rows that may wait; more are refused with EngineBusy.
    """

    def __init__(
        self,
        load: Callable[[], Loaded],
        *,
        context: int,
        max_rows: int = 24,
        max_tokens: int = 65_536,
        max_waiting: int = 96,
    ) -> None:
        self._load, self._context = load, context
        self._max_rows, self._max_tokens, self._max_waiting = max_rows, max_tokens, max_waiting
        self._changed = threading.Condition()
        self._waiting: list[RunningRow] = []
        self._running = 0
        self._loaded: Loaded | None = None
        self._failure: str | None = None
        self._closing = False
        self._batch_seconds = 2.0
        self._thread = threading.Thread(target=self._run, name="sawyer-engine", daemon=True)
        # Tokenizing and naming prompts switches settings of the shared tokenizer: one request at a time.
        self._preparing = threading.Lock()

    # What the API asks

    def start(self) -> None:
        with self._changed:
            if self._thread.ident is None and not self._closing:
                self._thread.start()

    def close(self) -> None:
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        if self._thread.ident is not None:
            self._thread.join(timeout=30)

    def status(self) -> tuple[State, str | None]:
        if self._failure is not None:
            return "failed", self._failure
        if self._loaded is None:
            return "loading", LOADING
        return "ok", None

    @property
    def versions(self) -> Mapping[Stage, str | None]:
        return self._loaded.versions if self._loaded else {}

    @property
    def refs(self) -> Sequence[str]:
        return [version for version in self.versions.values() if version]

    @property
    def context(self) -> int:
        return self._loaded.policy.context if self._loaded else self._context

    @property
    def fingerprint(self) -> str | None:
        return self._loaded.policy.fingerprint if self._loaded else None

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    @property
    def running(self) -> int:
        return self._running

    async def prepare(self, jobs: Sequence[Job]) -> list[Prepared]:
        loaded = self._require()
        return await run_in_threadpool(lambda: [self._prepare(loaded, job) for job in jobs])

    def submit(self, prepared: Sequence[Prepared]) -> LocalReply:
        self._require()
        reply = LocalReply(len(prepared), self._wake)
        rows = [RunningRow(reply, index, each) for index, each in enumerate(prepared)]
        with self._changed:
            if self._closing:
                raise NotReady(CLOSING)
            if len(self._waiting) + len(rows) > self._max_waiting:
                batches = 1 + len(self._waiting) / self._max_rows
                raise EngineBusy(len(self._waiting), retry_after=self._batch_seconds * batches)
            self._waiting += rows
            self._changed.notify_all()
        return reply

    def _require(self) -> Loaded:
        if self._loaded is not None:
            return self._loaded
        if self._failure is not None:
            raise NotReady("The model could not be loaded; GET /readyz says why.", retry_after=None)
        raise NotReady(LOADING)

    def _prepare(self, loaded: Loaded, job: Job) -> Prepared:
        if job.stage not in loaded.versions:
            raise unknown_stage(job.stage, list(loaded.versions))
        policy, param = loaded.policy, "messages" if job.prompt is None else "prompt"
        with self._preparing:
            # A raw model's single turn is its bare text, special tokens inert, after BOS where there is one.
            raw = [{"role": "user", "content": job.prompt}] if job.prompt is not None else None
            ids = policy.chat.encode_prompt(raw or list(job.messages), "base" if raw else job.stage)
            prompt = policy.tokenizer.decode(ids, skip_special_tokens=False)
        room = policy.context - len(ids)
        if room < 1:
            raise ContextExceeded(len(ids), policy.context, job.stage, param=param)
        if not ids:
            text = f"The prompt has no tokens. Give {param} with at least one word."
            raise ApiError(400, text, code="empty_prompt", param=param)
        fitting = job.sampling.model_copy(update={"max_tokens": min(job.sampling.max_tokens, room)})
        return Prepared(job, prompt, ids, fitting, loaded.versions[job.stage])

    # The engine's thread

    def _wake(self) -> None:
        with self._changed:
            self._changed.notify_all()

    def _run(self) -> None:
        try:
            loaded = self._load()
            decoder = BatchDecoder(loaded.policy)
        except Exception as error:
            known = isinstance(error, SawyerError)
            logger.error("The model could not be loaded: %s", error, exc_info=None if known else error)
            cause = without_paths(str(error)) if known else type(error).__name__
            self._failure = f"{cause.rstrip('.')}. The server's log says more."
            return
        self._loaded = loaded
        while batch := self._next_batch():
            started = time.monotonic()
            self._running = len(batch)
            decoder.run(batch, lambda: self._closing)
            self._running = 0
            self._batch_seconds = 0.7 * self._batch_seconds + 0.3 * (time.monotonic() - started)

    def _next_batch(self) -> list[RunningRow]:
        """Wait for rows and take as many as fit, oldest first; empty when the engine closes."""
        with self._changed:
            while True:
                gone = [row for row in self._waiting if row.reply.cancelled]
                self._waiting = [row for row in self._waiting if not row.reply.cancelled]
                for row in gone:
                    row.end("cancelled")
                if self._closing:
                    for row in self._waiting:
                        row.fail(NotReady(CLOSING))
                    self._waiting = []
                    return []
                if self._waiting:
                    break
                self._changed.wait()
            taken: list[RunningRow] = []
            while self._waiting and len(taken) < self._max_rows:
                size = sum(row.size for row in taken) + self._waiting[0].size
                if taken and size > self._max_tokens:
                    break
                taken.append(self._waiting.pop(0))
            return taken
