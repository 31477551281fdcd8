"""What the API asks of an engine, whatever runs behind it: this process, or a server elsewhere.

An engine checks prompts (``prepare``), takes them on (``submit``) and tells what happens to each row of a request as
a stream of events. Rows are numbered in the order of the jobs.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from sawyer.types import Sampling, Stage
from serve.errors import ApiError

State = Literal["loading", "ok", "failed"]


@dataclass(frozen=True)
class Job:
    """One reply to be made.

    Attributes:
        messages: the conversation, rendered as the stage was trained on it; empty where ``prompt`` is given.
        top_logprobs: None asks for no log-probabilities, 0 for those of the chosen tokens.
        version: which one of the stage answers, such as ``rlf@2``; None: the current one.
        prompt: a text to be continued as it is, without roles; special tokens in it are plain text.
    """

    stage: Stage
    messages: Sequence[dict[str, str]]
    sampling: Sampling
    top_logprobs: int | None = None
    version: str | None = None
    prompt: str | None = None


@dataclass(frozen=True)
class Prepared:
    """A job whose prompt fits. ``prompt`` is its exact text, ``ids`` its tokens; sampling.max_tokens fits as well."""

    job: Job
    prompt: str
    ids: Sequence[int]
    sampling: Sampling
    version: str | None


@dataclass(frozen=True)
class TokenLogprob:
    """One token with its log-probability (natural logarithm) and the likeliest alternatives (token, bytes, value)."""

    token: str
    bytes: list[int]
    logprob: float
    top: list[tuple[str, list[int], float]] = field(default_factory=list)


@dataclass(frozen=True)
class Queued:
    """Nothing of the request has begun; so many requests come before it. Told when it changes."""

    ahead: int


@dataclass(frozen=True)
class Delta:
    """More text of a row; empty when only log-probabilities are new."""

    row: int
    text: str
    logprobs: tuple[TokenLogprob, ...] = ()


@dataclass(frozen=True)
class Finished:
    """A row has ended. ``text`` is the whole reply (all deltas joined); ``tokens`` counts what was generated."""

    row: int
    text: str
    tokens: int
    finish_reason: Literal["stop", "length", "cancelled"]
    seconds: float


@dataclass(frozen=True)
class Failed:
    """A row could not be continued; the others go on."""

    row: int
    error: ApiError


Event = Queued | Delta | Finished | Failed


class Reply(Protocol):
    """The events of one submitted request. Ends after every row has finished or failed."""

    def __aiter__(self) -> AsyncIterator[Event]: ...

    def cancel(self) -> None:
        """Stop all rows that still run; each ends with a Finished event, ``finish_reason`` cancelled."""


class Engine(Protocol):
    """Makes replies. Every method may be called from any thread."""

    def start(self) -> None:
        """Begin to load; returns at once. Calling it again does nothing."""

    def close(self) -> None:
        """End running rows, free everything. Submitting afterwards raises NotReady."""

    def status(self) -> tuple[State, str | None]:
        """Whether replies can be made, and in words why not."""

    @property
    def versions(self) -> Mapping[Stage, str | None]:
        """The stages that can be asked, in showing order, with the current version of each. Empty until loaded."""

    @property
    def refs(self) -> Sequence[str]:
        """Every version that can be asked by name, such as ``rlf@2``, current ones among them; oldest first."""

    @property
    def context(self) -> int:
        """Longest prompt plus reply, in tokens."""

    @property
    def fingerprint(self) -> str | None:
        """Identifies the backbone's weights."""

    @property
    def encoder_decoder(self) -> bool:
        """The prompt goes to an encoder of its own, as in T5; False until loaded."""

    @property
    def waiting(self) -> int:
        """Rows that have been taken on and not begun."""

    @property
    def running(self) -> int:
        """Rows being decoded."""

    async def prepare(self, jobs: Sequence[Job]) -> list[Prepared]:
        """Render and tokenise. Raises ContextExceeded, NotReady, or a 404 for a stage or version that is not there."""

    def submit(self, prepared: Sequence[Prepared]) -> Reply:
        """Queue the rows. Must be called in an event loop. Raises EngineBusy when the queue is full, NotReady."""
