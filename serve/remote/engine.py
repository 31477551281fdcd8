"""The engine whose model runs elsewhere, in vLLM or TGI: how SAWYER outgrows one machine.

A thread keeps looking: it loads the tokenizer, probes the remote's health every few seconds, and compares what the
remote has with what is current in the registry. Rows are tasks of the event loop that asks for them.
"""

import asyncio
import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import httpx2
from starlette.concurrency import run_in_threadpool

from sawyer.errors import SawyerError
from sawyer.recipe import Recipe
from sawyer.registry import Registry
from sawyer.stage_version import ADAPTERS, Version, misfits
from sawyer.types import Stage
from serve.engine import Job, Prepared, State
from serve.errors import ApiError, ContextExceeded, EngineBusy, NotReady, unknown_stage, without_paths
from serve.remote.prompts import Prompts
from serve.remote.protocol import Look, Remote, RemoteFault, named_base, remote_name
from serve.remote.row import Lanes, Patience, RemoteReply, RemoteRow
from serve.row_events import CLOSING

logger = logging.getLogger(__name__)

LOADING = "The tokenizer is being loaded. Try again in a few seconds."

Dial = Callable[[Prompts], Remote]


@dataclass(frozen=True)
class Offer:
    """What can be asked: the current version of each stage, all versions by name, oldest first, and the context."""

    versions: Mapping[Stage, str | None]
    refs: Sequence[str]
    context: int


class RemoteEngine:
    """Sends rows to a model server and passes its words on.

    Args:
        dial: makes the remote, once the tokenizer is there.
        max_rows: most rows that the remote is asked for at once; it has its own queue as well.
        max_waiting: rows that may wait here; more are refused with EngineBusy.
        every: seconds between two looks at the remote and the registry.
    """

    def __init__(
        self,
        recipe: Recipe,
        registry: Registry,
        dial: Dial,
        *,
        patience: Patience | None = None,
        max_rows: int = 64,
        max_waiting: int = 256,
        every: float = 5.0,
    ) -> None:
        self._recipe, self._registry, self._dial = recipe, registry, dial
        self._patience, self._every = patience or Patience(), every
        self._max_rows, self._max_waiting = max_rows, max_waiting
        self._base: Version | None = None
        self._prompts: Prompts | None = None
        self._remote: Remote | None = None
        self._offer: Offer | None = None
        self._state: tuple[State, str | None] = ("loading", LOADING)
        self._lanes: Lanes | None = None
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="sawyer-remote", daemon=True)

    # What the API asks

    def start(self) -> None:
        if self._thread.ident is None and not self._closed.is_set():
            self._thread.start()

    def close(self) -> None:
        self._closed.set()
        if (lanes := self._lanes) is not None and not lanes.loop.is_closed():
            lanes.loop.call_soon_threadsafe(self._end_rows, lanes)
        if self._thread.ident is not None:
            self._thread.join(timeout=2)  # it may be in the middle of a request of its own

    def status(self) -> tuple[State, str | None]:
        return self._state

    @property
    def versions(self) -> Mapping[Stage, str | None]:
        return self._offer.versions if self._offer else {}

    @property
    def refs(self) -> Sequence[str]:
        return self._offer.refs if self._offer else []

    @property
    def context(self) -> int:
        return self._offer.context if self._offer else self._recipe.model.context

    @property
    def fingerprint(self) -> str | None:
        return self._base.info.get("fingerprint") if self._base else None

    @property
    def encoder_decoder(self) -> bool:
        return False  # neither vLLM nor TGI serves adapters of one

    @property
    def waiting(self) -> int:
        return self._lanes.waiting if self._lanes else 0

    @property
    def running(self) -> int:
        return self._lanes.running if self._lanes else 0

    async def prepare(self, jobs: Sequence[Job]) -> list[Prepared]:
        _, prompts, offer = self._require()
        return await run_in_threadpool(lambda: [self._prepare(prompts, offer, job) for job in jobs])

    def submit(self, prepared: Sequence[Prepared]) -> RemoteReply:
        remote, prompts, _ = self._require()
        lanes = self._here()
        if lanes.waiting + len(prepared) > self._max_waiting:
            raise EngineBusy(lanes.waiting, retry_after=5)
        reply = RemoteReply(len(prepared))
        for index, each in enumerate(prepared):
            stage, version = each.job.stage, each.version
            name = remote_name(version) if stage != "base" and version else None
            RemoteRow(reply, index, each, name, prompts.stop_strings(stage)).start(remote, lanes, self._patience)
        return reply

    def _require(self) -> tuple[Remote, Prompts, Offer]:
        if self._closed.is_set():
            raise NotReady(CLOSING)
        if self._remote is None or self._prompts is None or self._offer is None:
            state, detail = self._state
            raise NotReady(f"No reply can be made yet. {detail}", retry_after=None if state == "failed" else 2.0)
        return self._remote, self._prompts, self._offer

    def _prepare(self, prompts: Prompts, offer: Offer, job: Job) -> Prepared:
        if job.stage not in offer.versions:
            raise unknown_stage(job.stage, list(offer.versions))
        version = job.version or offer.versions[job.stage]
        if job.version and (job.version not in offer.refs or not job.version.startswith(f"{job.stage}@")):
            raise unknown_stage(job.version, offer.refs)
        ids = prompts.encode(job)
        if not ids:
            param = "messages" if job.prompt is None else "prompt"
            text = f"The prompt has no tokens. Give {param} with at least one word."
            raise ApiError(400, text, code="empty_prompt", param=param)
        room = offer.context - len(ids)
        if room < 1:
            raise ContextExceeded(
                len(ids), offer.context, job.stage, param="messages" if job.prompt is None else "prompt"
            )
        fitting = job.sampling.model_copy(update={"max_tokens": min(job.sampling.max_tokens, room)})
        return Prepared(job, prompts.decode(ids), ids, fitting, version)

    def _here(self) -> Lanes:
        """The lanes of the running event loop; connections cannot leave the loop that opened them."""
        loop = asyncio.get_running_loop()
        if self._lanes is None or self._lanes.loop is not loop:
            limits = httpx2.Limits(max_connections=self._max_rows, max_keepalive_connections=self._max_rows)
            http = httpx2.AsyncClient(timeout=self._patience.timeout, limits=limits, event_hooks={"response": [_read]})
            self._lanes = Lanes(loop, http, asyncio.Semaphore(self._max_rows))
        return self._lanes

    @staticmethod
    def _end_rows(lanes: Lanes) -> None:
        tasks = [task for row in lanes.rows for task in row.reply.tasks]
        for row in lanes.rows:
            row.closing = True
        for task in tasks:
            task.cancel()

        async def hang_up() -> None:
            await asyncio.gather(*tasks, return_exceptions=True)
            await lanes.http.aclose()

        lanes.hang_up = lanes.loop.create_task(hang_up())

    # The thread that looks

    def _watch(self) -> None:
        try:
            self._base = self._registry.current("base") if self._recipe.model.backbone is None else None
            prompts = Prompts.of(self._recipe, self._base.path if self._base else None)
        except Exception as error:
            known = isinstance(error, SawyerError)
            logger.error("The tokenizer could not be loaded: %s", error, exc_info=None if known else error)
            cause = without_paths(str(error)) if known else type(error).__name__
            self._state = "failed", f"{cause.rstrip('.')}. The server's log says more."
            return
        remote = self._dial(prompts)
        self._prompts, self._remote = prompts, remote
        with httpx2.Client(timeout=min(10.0, self._patience.silence)) as http:
            while not self._closed.is_set():
                was = self._state
                self._state = self._look(remote, http)
                if self._state != was and self._state[1]:
                    logger.warning("%s at %s: %s", remote.kind, remote.url, self._state[1])
                self._closed.wait(self._every if self._state[0] == "ok" else min(1.0, self._every))

    def _look(self, remote: Remote, http: httpx2.Client) -> tuple[State, str | None]:
        """Compare the remote with the registry, renew the offer, and say how things are."""
        try:
            current, fitting, notes = self._registered()
            others = [version for version in fitting if version.ref not in {each.ref for each in current.values()}]
            look = remote.look(http, list(current.values()), others)
            number = named_base(look.base)
            if self._base is not None and number is not None and number != self._base.number:
                text = f"The {remote.kind} server has base@{number}, but {self._base.ref} was current as SAWYER began."
                self._offer = None  # what it says now would be passed off as the stages of another base
                return "loading", f"{text} Start it anew with the script of `sawyer serve --print-launch`."
            self._offer = self._make_offer(look, current, fitting)
        except RemoteFault as fault:
            return "loading", str(fault)
        except SawyerError as error:  # the registry is damaged
            return ("ok" if self._offer else "loading"), without_paths(str(error))
        except Exception as error:
            logger.error("looking at the remote failed", exc_info=error)
            return ("ok" if self._offer else "loading"), "Something went wrong inside. The server's log says more."
        notes += [note for note in look.notes if note]
        notes += [
            f"{stage} is answered by {self._offer.versions.get(stage) or 'nobody'} instead of {version.ref}"
            for stage, version in current.items()
            if self._offer.versions.get(stage) != version.ref
        ]
        return "ok", ". ".join([*(note.rstrip(".") for note in notes), ""]).strip() or None

    def _registered(self) -> tuple[dict[Stage, Version], list[Version], list[str]]:
        """(current adapters that fit the base, all that fit it, notes)."""
        base, notes = self._base, []
        fitting = [
            version
            for stage in ADAPTERS
            for version in self._registry.versions(stage)
            if base is None or not misfits(version, base)
        ]
        current: dict[Stage, Version] = {}
        for stage in ("sft", "rlf"):
            version = self._registry.current(stage)
            if version is not None and (base is None or not misfits(version, base)):
                current[stage] = version  # type: ignore[index]
        newest = self._registry.current("base") if base is not None else None
        if base is not None and newest is not None and newest.number != base.number:
            notes.append(f"{newest.ref} was promoted and is not served: start the remote and SAWYER anew")
        return current, fitting, notes

    def _make_offer(self, look: Look, current: Mapping[Stage, Version], fitting: Sequence[Version]) -> Offer:
        """The current version of each stage where the remote has it, else the one so far, else its newest there."""
        there = [version.ref for version in fitting if remote_name(version.ref) in look.names]
        versions: dict[Stage, str | None] = {"base": self._base.ref if self._base else None}
        for stage in ("sft", "rlf"):
            wanted = [current[stage].ref] if stage in current else []  # type: ignore[index]
            so_far = self._offer.versions.get(stage) if self._offer and wanted else None  # type: ignore[call-overload]
            newest = [ref for ref in reversed(there) if ref.startswith(f"{stage}@")] if wanted else []
            chosen = next((ref for ref in [*wanted, so_far, *newest] if ref in there), None)
            if chosen is not None:
                versions[stage] = chosen  # type: ignore[index]
        context = min(look.context or self._recipe.model.context, self._recipe.model.context)
        return Offer(versions, [*([self._base.ref] if self._base else []), *there], context)


async def _read(response: httpx2.Response) -> None:
    """Read the body of an error answer, which says why; of a stream it would be left unread."""
    if response.status_code >= 400:
        await response.aread()
