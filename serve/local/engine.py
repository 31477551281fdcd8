"""The engine of this process: one thread owns the model and decodes rows of all stages together.

Requests join the rows that are being decoded between two steps. Who has begun fewest rows comes first, so that a
request of eight rows does not keep others waiting. A promoted adapter is taken in between two steps as well: rows that
run go on with the version they began with.
"""

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from starlette.concurrency import run_in_threadpool

from sawyer.errors import SawyerError
from sawyer.types import Stage
from serve.engine import Job, Prepared, State
from serve.errors import ApiError, EngineBusy, NotReady, without_paths
from serve.local.catalog import Catalog, Loaded, Offer
from serve.local.decoders import Decoder, explain, make_decoder
from serve.local.preparing import LocalPrepared, Preparing, unservable
from serve.local.rows import LocalReply, RunningRow
from serve.local.watch import RegistryWatch
from serve.row_events import CLOSING

logger = logging.getLogger(__name__)

LOADING = "The model is still being loaded. Try again in a few seconds; GET /readyz tells when it is."
CANNOT = "No replies can be made until the server is started again; GET /readyz says why."


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
        self._preparing = Preparing(catalog)

    # What the API asks

    def start(self) -> None:
        with self._changed:
            if self._thread.ident is None and not self._closing.is_set():
                self._thread.start()

    def close(self) -> None:
        with self._changed:
            self._closing.set()
            self._changed.notify_all()
        loading = self._loaded is None and self._failure is None  # cannot be hurried, and nothing waits for it
        if self._thread.ident is not None and not loading:
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
        loaded, refs = self._require(), self.refs
        return await run_in_threadpool(lambda: [self._preparing.prepare(loaded, refs, job) for job in jobs])

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
        if self._failure is not None:
            raise NotReady(CANNOT, retry_after=None)
        if self._loaded is None:
            raise NotReady(LOADING)
        return self._loaded

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
            watch = RegistryWatch(self._catalog, self._require, self._load, self._announce, self._decline)
            threading.Thread(target=watch.run, args=(self._closing,), name="sawyer-registry", daemon=True).start()
        try:
            while self._wait():
                self._work()
        except Exception as error:
            logger.error("The engine has stopped", exc_info=error)
            with self._changed:
                self._failure = (
                    f"The engine has stopped: {type(error).__name__}. Start the server again; its log says more."
                )
                self._closing.set()
            self._fail_all(NotReady(self._failure, retry_after=None))
        else:
            self._fail_all(NotReady(CLOSING))

    def _work(self) -> None:
        """One round: what was promoted, who can join, a step of every decoder."""
        self._hear_news()
        self._admit()
        self._tell_who_waits()
        for decoder in [each for each in self._decoders.values() if each.running]:
            rows, started = decoder.running, time.monotonic()
            decoder.step()
            if self.on_step is not None:
                self.on_step(rows, time.monotonic() - started)

    def _fail_all(self, error: ApiError) -> None:
        for decoder in self._decoders.values():
            decoder.fail(error)
        with self._changed:
            waiting, self._waiting = self._waiting, []
        for row in waiting:
            row.fail(error)

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
                decoder.join(row)
            except SawyerError as error:
                row.fail(unservable(prepared.version or "", error))
            except Exception as error:
                row.fail(explain(error))

    def _tell_who_waits(self) -> None:
        """To each request of which nothing has begun, how many such requests come before it."""
        with self._changed:
            replies = list(dict.fromkeys(row.reply for row in self._waiting if not row.reply.begun))
        for place, reply in enumerate(replies):
            reply.tell_place(place)

    def _decoder(self, row: RunningRow) -> Decoder | None:
        loaded = row.prepared.loaded if isinstance(row.prepared, LocalPrepared) else None
        return self._decoders.get(id((loaded or self._require()).policy))

    def _learn(self, seconds: float) -> None:
        self._row_seconds = 0.9 * self._row_seconds + 0.1 * seconds

    def _current(self) -> list[str]:
        return [version for version in self.versions.values() if version]

    # Promoted versions

    def _announce(self, news: Loaded | Offer) -> None:
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
