"""The engine of this process: one thread owns the model and decodes rows of all stages together.

Requests join the rows that are being decoded between two steps. Who has begun fewest rows comes first, so that a
request of eight rows does not keep others waiting. A promoted adapter is taken in between two steps as well: rows that
run go on with the version they began with.
"""

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from starlette.concurrency import run_in_threadpool

from sawyer.errors import SawyerError
from sawyer.types import Stage
from serve.engine import Job, Prepared, State
from serve.errors import ApiError, ContextExceeded, EngineBusy, NotReady, unknown_stage, without_paths
from serve.local.catalog import Catalog, Offer
from serve.local.decoders import Decoder, make_decoder
from serve.local.rows import LocalReply, RunningRow
from serve.row_events import CLOSING

if TYPE_CHECKING:  # torch takes seconds to import; the loading thread does it
    from sawyer.models import Policy

logger = logging.getLogger(__name__)

LOADING = "The model is still being loaded. Try again in a few seconds; GET /readyz tells when it is."
WATCH_SECONDS = 1.0  # between two looks at the registry


@dataclass(frozen=True)
class Loaded:
    """A policy, the version of each of its stages in showing order, and what else can be asked by name.

    Where the policy holds an adapter under its stage's name instead of its version's, that is what answers.
    """

    policy: "Policy"
    versions: Mapping[Stage, str | None]
    refs: tuple[str, ...] = ()


@dataclass(frozen=True)
class LocalPrepared(Prepared):
    """With what it was prepared for, and the folder of a version that is to be loaded first."""

    loaded: Loaded | None = None
    folder: Path | None = None


class LocalEngine:
    """Decodes on one thread that loads the model first and keeps it to itself.

    Args:
        load: makes the policy; called on the engine's thread, and again on another when a new base was promoted.
        context: of the recipe, until the model is loaded.
        catalog: what is watched for promoted versions and asked for older ones; None: nothing else is served.
        max_rows, max_tokens: most rows at once, and most tokens held for them.
        max_waiting: rows that may wait; more are refused with EngineBusy.
        on_step: told after each step how many rows it was for, and the seconds it took.
    """

    def __init__(
        self,
        load: Callable[[], Loaded],
        *,
        context: int,
        catalog: Catalog | None = None,
        max_rows: int = 24,
        max_tokens: int = 65_536,
        max_waiting: int = 96,
        on_step: Callable[[int, float], None] | None = None,
    ) -> None:
        self._load, self._context, self._catalog = load, context, catalog
        self._max_rows, self._max_tokens, self._max_waiting = max_rows, max_tokens, max_waiting
        self.on_step = on_step
        self._changed = threading.Condition()
        self._waiting: list[RunningRow] = []
        self._decoders: dict[int, Decoder] = {}  # by the identity of the Policy; older ones until they are empty
        self._loaded: Loaded | None = None
        self._news: Loaded | Offer | None = None
        self._failure: str | None = None
        self._notice: str | None = None  # what was promoted and cannot be served
        self._closing = threading.Event()
        self._row_seconds = 2.0
        self._thread = threading.Thread(target=self._run, name="sawyer-engine", daemon=True)
        # Tokenizing and naming prompts switches settings of the shared tokenizer: one request at a time.
        self._preparing = threading.Lock()

    # What the API asks

    def start(self) -> None:
        with self._changed:
            if self._thread.ident is None and not self._closing.is_set():
                self._thread.start()

    def close(self) -> None:
        with self._changed:
            self._closing.set()
            self._changed.notify_all()
        if self._thread.ident is not None:
            self._thread.join(timeout=30)

    def status(self) -> tuple[State, str | None]:
        if self._failure is not None:
            return "failed", self._failure
        if self._loaded is None:
            return "loading", LOADING
        return "ok", self._notice

    @property
    def versions(self) -> Mapping[Stage, str | None]:
        return self._loaded.versions if self._loaded else {}

    @property
    def refs(self) -> Sequence[str]:
        if self._loaded is None:
            return ()
        return self._loaded.refs or [version for version in self._loaded.versions.values() if version]

    @property
    def context(self) -> int:
        return self._loaded.policy.context if self._loaded else self._context

    @property
    def fingerprint(self) -> str | None:
        return self._loaded.policy.fingerprint if self._loaded else None

    @property
    def encoder_decoder(self) -> bool:
        return bool(self._loaded and self._loaded.policy.is_encoder_decoder)

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    @property
    def running(self) -> int:
        return sum(decoder.running for decoder in list(self._decoders.values()))

    async def prepare(self, jobs: Sequence[Job]) -> list[Prepared]:
        loaded = self._require()
        return await run_in_threadpool(lambda: [self._prepare(loaded, job) for job in jobs])

    def submit(self, prepared: Sequence[Prepared]) -> LocalReply:
        self._require()
        reply = LocalReply(len(prepared), self._wake)
        rows = [RunningRow(reply, index, each) for index, each in enumerate(prepared)]
        with self._changed:
            if self._closing.is_set():
                raise NotReady(CLOSING)
            if len(self._waiting) + len(rows) > self._max_waiting:
                rounds = 1 + len(self._waiting) / self._max_rows
                raise EngineBusy(len(self._waiting), retry_after=self._row_seconds * rounds)
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
        if job.stage not in loaded.versions or (job.version and job.version not in self.refs):
            raise unknown_stage(job.version or job.stage, [*loaded.versions, *self.refs])
        policy, param = loaded.policy, "messages" if job.prompt is None else "prompt"
        with self._preparing:
            if job.prompt is None:
                ids = policy.chat.encode_prompt(list(job.messages), job.stage)
            else:
                ids = policy.chat.encode_raw(job.prompt)
            prompt = policy.tokenizer.decode(ids, skip_special_tokens=False)
        room = policy.context - len(ids)
        if room < 1:
            raise ContextExceeded(len(ids), policy.context, job.stage, param=param)
        if not ids:
            text = f"The prompt has no tokens. Give {param} with at least one word."
            raise ApiError(400, text, code="empty_prompt", param=param)
        fitting = job.sampling.model_copy(update={"max_tokens": min(job.sampling.max_tokens, room)})
        version = job.version or loaded.versions[job.stage]
        folder = None
        if job.version and self._catalog and job.stage != "base" and job.version not in policy.stages:
            try:
                folder = self._catalog.folder(job.version)
            except SawyerError as error:
                raise unservable(job.version, error) from error
        return LocalPrepared(job, prompt, ids, fitting, version, loaded, folder)

    # The engine's thread

    def _wake(self) -> None:
        with self._changed:
            self._changed.notify_all()

    def _run(self) -> None:
        try:
            loaded = self._load()
            self._take_over(loaded)
        except Exception as error:
            known = isinstance(error, SawyerError)
            logger.error("The model could not be loaded: %s", error, exc_info=None if known else error)
            cause = without_paths(str(error)) if known else type(error).__name__
            self._failure = f"{cause.rstrip('.')}. The server's log says more."
            return
        if self._catalog is not None:
            threading.Thread(target=self._watch, args=(self._catalog,), name="sawyer-registry", daemon=True).start()
        while self._wait():
            self._hear_news()
            self._admit()
            for decoder in [each for each in self._decoders.values() if each.running]:
                rows, started = decoder.running, time.monotonic()
                decoder.step()
                if self.on_step is not None:
                    self.on_step(rows, time.monotonic() - started)
        for decoder in self._decoders.values():
            decoder.fail(NotReady(CLOSING))

    def _wait(self) -> bool:
        """Until there is something to do; False when the engine closes."""
        with self._changed:
            while not self._closing.is_set():
                gone = [row for row in self._waiting if row.reply.cancelled]
                self._waiting = [row for row in self._waiting if not row.reply.cancelled]
                for row in gone:
                    row.end("cancelled")
                if self._waiting or self._news or any(decoder.running for decoder in self._decoders.values()):
                    return True
                self._changed.wait()
            for row in self._waiting:
                row.fail(NotReady(CLOSING))
            self._waiting = []
            return False

    def _admit(self) -> None:
        """Give rows to their decoders as long as they fit: those of the request that has begun fewest first."""
        while True:
            with self._changed:
                row = min(self._waiting, key=lambda each: each.reply.begun, default=None)
                decoder = self._decoder(row) if row else None
                if row is None or decoder is None or not decoder.fits(row):
                    return
                self._waiting.remove(row)
            row.reply.begun += 1
            if row.reply.cancelled:
                row.end("cancelled")
                continue
            row.on_end = self._learn
            prepared = row.prepared
            try:
                if isinstance(prepared, LocalPrepared) and prepared.folder is not None and prepared.version:
                    decoder.load({prepared.version: prepared.folder}, self._current())
            except SawyerError as error:
                row.fail(unservable(prepared.version or "", error))
                continue
            decoder.join(row)

    def _decoder(self, row: RunningRow) -> Decoder | None:
        loaded = row.prepared.loaded if isinstance(row.prepared, LocalPrepared) else None
        return self._decoders.get(id((loaded or self._require()).policy))

    def _learn(self, seconds: float) -> None:
        self._row_seconds = 0.9 * self._row_seconds + 0.1 * seconds

    def _current(self) -> list[str]:
        return [version for version in self.versions.values() if version]

    # Promoted versions

    def _watch(self, catalog: Catalog) -> None:
        """Look at the registry from time to time; what is new is checked here and taken over by the engine's thread."""
        seen: tuple[int, ...] = ()
        while not self._closing.wait(WATCH_SECONDS):
            stamp = catalog.stamp()
            if stamp == seen:
                continue
            try:
                offer, loaded = catalog.offer(), self._require()
                news: Loaded | Offer = offer
                if offer.current["base"] != loaded.versions["base"]:
                    news = replace(self._load(), refs=offer.refs)
                else:
                    for version in offer.current.values():
                        if version and version not in (*loaded.policy.stages, offer.current["base"]):
                            catalog.folder(version)  # finds out here, not between two steps, whether it is sound
            except Exception as error:
                self._decline(error)
                seen = stamp
                continue
            seen = stamp
            with self._changed:
                self._news = news
                self._changed.notify_all()

    def _hear_news(self) -> None:
        with self._changed:
            news, self._news = self._news, None
            for key, decoder in list(self._decoders.items()):
                awaited = any(self._decoder(row) is decoder for row in self._waiting)
                if key != id(self._require().policy) and not decoder.running and not awaited:
                    del self._decoders[key]
        if news is None:
            return
        try:
            if isinstance(news, Loaded):
                self._take_over(news)
            else:
                self._promote(news)
            self._notice = None
        except Exception as error:
            self._decline(error)

    def _decline(self, error: Exception) -> None:
        known = isinstance(error, SawyerError)
        logger.error("What was promoted is not served: %s", error, exc_info=None if known else error)
        served = ", ".join(self._current())
        self._notice = (
            f"What was promoted is not served, {served} are: {without_paths(str(error)) if known else 'see log'}"
        )

    def _take_over(self, loaded: Loaded) -> None:
        decoder = make_decoder(loaded.policy, max_rows=self._max_rows, max_tokens=self._max_tokens)
        self._decoders[id(loaded.policy)] = decoder
        self._loaded = loaded

    def _promote(self, offer: Offer) -> None:
        loaded, catalog = self._require(), self._catalog
        assert catalog is not None
        wanted = {version for stage, version in offer.current.items() if version and stage != "base"}
        missing = sorted(wanted - set(loaded.policy.stages))
        if missing:
            self._decoders[id(loaded.policy)].load({ref: catalog.folder(ref) for ref in missing}, wanted)
        if offer.current != loaded.versions:
            logger.info("now served: %s", ", ".join(sorted(wanted)))
        self._loaded = replace(loaded, versions=offer.current, refs=offer.refs)


def unservable(version: str, error: SawyerError) -> ApiError:
    """A version that is listed and cannot be loaded, as who asked for it sees it."""
    logger.error("%s cannot be served: %s", version, error)
    text = f"{version} cannot be served: {without_paths(str(error))}"
    return ApiError(503, text, code="version_unavailable", param="model")
