"""A model server elsewhere, as the remote engine sees it: what it is asked, what it answers, how it can fail.

``serve/remote/tgi.py`` and ``serve/remote/vllm.py`` speak the two protocols; everything else is shared.
"""

import re
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import httpx2  # the HTTP client of huggingface_hub, so that both protocols fail with the same exceptions

from sawyer.stage_version import Version
from sawyer.types import Sampling
from serve.engine import TokenLogprob
from serve.errors import ApiError, without_paths

_SHOWN = 300  # characters of a remote's message that are repeated
_BUSY = frozenset({408, 425, 424, 429, 500, 502, 503, 504})
"""Statuses worth another try: busy, restarting, behind a proxy; 424 is TGI's failure of one generation."""


@dataclass(frozen=True)
class Ask:
    """One row for a remote.

    Attributes:
        name: of the adapter there (``remote_name``); None asks the base model.
        ids: tokens of the prompt, BOS included where the format has one.
        sampling: ``seed`` is not negative here; ``stop`` holds all texts that end the reply.
    """

    name: str | None
    ids: Sequence[int]
    sampling: Sampling
    top_logprobs: int | None


@dataclass(frozen=True)
class Piece:
    """More of a reply. ``tokens`` counts all that were generated so far; ``finish`` says that this was the last."""

    text: str
    tokens: int
    logprobs: tuple[TokenLogprob, ...] = ()
    finish: Literal["stop", "length"] | None = None


@dataclass(frozen=True)
class Look:
    """What a remote has.

    Attributes:
        names: adapters that can be asked.
        base: name of its base model, where it has one.
        context: longest prompt plus reply there, in tokens; None: it does not say.
        notes: what an operator should know, one sentence each.
    """

    names: frozenset[str]
    base: str | None = None
    context: int | None = None
    notes: tuple[str, ...] = ()


class Remote(Protocol):
    """A model server. Its methods raise RemoteFault and nothing else."""

    kind: str
    url: str
    headers: dict[str, str]

    def look(self, http: httpx2.Client, wanted: Sequence[Version], others: Sequence[Version]) -> Look:
        """Probe its health and find out which versions it has; ``wanted`` ones may be loaded. From any one thread."""

    def stream(self, http: httpx2.AsyncClient, ask: Ask) -> AsyncIterator[Piece]:
        """Ask for a reply. The last piece has ``finish``; closing the iterator ends the generation there."""


class RemoteFault(Exception):
    """A remote could not do what it was asked.

    Args:
        error: what the client is told. again: whether it may go better in a moment.
    """

    def __init__(self, error: ApiError, *, again: bool = False) -> None:
        super().__init__(str(error))
        self.error, self.again = error, again


def remote_name(reference: str) -> str:
    """``sawyer-rlf-2`` for ``rlf@2``: TGI reads ``name=path@revision`` and commas, so that names hold none of these."""
    return "sawyer-" + reference.replace("@", "-")


def named_base(name: str | None) -> int | None:
    """The number in ``sawyer-base-3``, as ``--print-launch`` names a base of the registry; None: another name."""
    match = re.fullmatch(r"sawyer-base-(\d{1,9})", name or "")
    return int(match[1]) if match else None


def natural_seed(seed: int | None) -> int:
    """The seed as TGI takes it (u64): negative ones are counted from 2^63; -1 would mean "no seed" to vLLM."""
    return (seed or 0) % 2**63


def unavailable(kind: str, why: str, status: int = 503) -> RemoteFault:
    """The remote does not answer now."""
    text = f"The {kind} server that makes the replies {why}. Try again in a moment."
    return RemoteFault(ApiError(status, text, code="remote_unavailable", retry_after=2), again=True)


def broken_off(kind: str) -> RemoteFault:
    """The remote ended in the middle of a reply."""
    text = f"The {kind} server broke off in the middle of the reply. Try again."
    return RemoteFault(ApiError(502, text, code="remote_broke_off", retry_after=1), again=True)


def refused(kind: str, status: int, message: str, name: str | None = None) -> RemoteFault:
    """What an HTTP status of a remote means to our client."""
    said = without_paths(" ".join(message.split()))[:_SHOWN] or "it gave no reason"
    if status in _BUSY:
        return unavailable(kind, f"is busy or failed ({status}: {said})", 429 if status == 429 else 503)
    if status in (401, 403):
        text = (
            f"The {kind} server that makes the replies refused our token. The operator sets it in SAWYER_REMOTE_TOKEN."
        )
        return RemoteFault(ApiError(502, text, code="remote_unauthorized"))
    if status == 404:
        text = f"The {kind} server that makes the replies has no {name or 'such model'} ({said})."
        return RemoteFault(ApiError(502, text, code="remote_model_missing"))
    if status in (400, 413, 422):
        text = f"The {kind} server that makes the replies cannot use this request: {said}"
        return RemoteFault(ApiError(400, text, code="remote_refused"))
    text = f"The {kind} server that makes the replies answered {status}: {said}"
    return RemoteFault(ApiError(502, text, code="remote_failed"))


@contextmanager
def faults(kind: str) -> Iterator[None]:
    """Turn what goes wrong between us and a remote into RemoteFault."""
    try:
        yield
    except (httpx2.ConnectError, httpx2.ConnectTimeout) as error:
        raise unavailable(kind, "cannot be reached") from error
    except (httpx2.TimeoutException, TimeoutError) as error:
        if isinstance(error.__cause__, httpx2.ConnectTimeout):  # as huggingface_hub tells it
            raise unavailable(kind, "cannot be reached") from error
        # Not tried again: it is working, and would have two of the same to do.
        text = f"The {kind} server that makes the replies said nothing for too long. Try again later."
        raise RemoteFault(ApiError(504, text, code="remote_timeout", retry_after=5)) from error
    except httpx2.TransportError as error:
        raise broken_off(kind) from error
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        text = f"The {kind} server that makes the replies answered in a form that SAWYER does not know."
        raise RemoteFault(ApiError(502, text, code="remote_garbled")) from error


def said_by(response: httpx2.Response) -> str:
    """The message of an error answer: OpenAI's shape, TGI's, FastAPI's, or the text itself. The body has been read."""
    try:
        body: Any = response.json()
    except ValueError:
        return response.text
    for key in ("error", "message", "detail"):
        if isinstance(body, dict) and key in body:
            body = body[key]
    return body if isinstance(body, str) else str(body)
