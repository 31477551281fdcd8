"""What OpenAI's two interfaces share: rows followed to their end, told as one answer or as a stream of chunks."""

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel
from starlette.responses import Response

from sawyer.types import ErrorBody, Sampling
from serve.engine import Delta, Failed, TokenLogprob
from serve.openai_types import StreamOptions, Usage
from serve.service import Kept, Service, Session
from serve.sse import CLIENT_LEFT, Emit, event

SEED_RANGE = 2**63


def seeded(sampling: Sampling, count: int) -> list[Sampling]:
    """The sampling of ``count`` choices: seeds one after the other, wrapping round at 64 bits."""
    assert sampling.seed is not None
    seeds = [(sampling.seed + index + SEED_RANGE) % (2 * SEED_RANGE) - SEED_RANGE for index in range(count)]
    return [sampling.model_copy(update={"seed": seed}) for seed in seeds]


def as_response(whole: BaseModel | None) -> Response:
    """The answer as JSON; without one, because the client has left, the status that logs and metrics use for it."""
    if whole is None:
        return Response(status_code=CLIENT_LEFT)
    return Response(whole.model_dump_json(), media_type="application/json")


class OpenAIAnswer(ABC):
    """The answer to one request.

    Args:
        session: its rows; those of one prompt stand together.
        choices: rows a prompt.
    """

    def __init__(self, service: Service, session: Session, choices: int, options: StreamOptions | None) -> None:
        self.session, self._choices = session, choices
        self.with_usage = bool(options and options.include_usage)
        self.head: dict[str, Any] = {
            "created": int(time.time()),
            "system_fingerprint": service.engine.fingerprint,
        }
        self.rows = len(session.prepared)
        self.kept: dict[int, Kept] = {}
        self.logprobs: dict[int, list[TokenLogprob]] = {row: [] for row in range(self.rows)}

    @abstractmethod
    def whole(self) -> BaseModel:
        """The answer, once every row is in ``kept``."""

    @abstractmethod
    def first(self, row: int) -> str | None:
        """The chunk that opens a row, as JSON, if there is one."""

    @abstractmethod
    def chunk(self, row: int, text: str, logprobs: Sequence[TokenLogprob], finish: str | None) -> str:
        """More of a row as JSON; with ``finish``, its end."""

    @abstractmethod
    def last(self) -> str:
        """The chunk without choices that carries the usage, as JSON."""

    async def collect(self) -> BaseModel:
        """Wait for every row.

        Raises:
            ApiError: a row failed; the others are stopped.
        """

        def on_event(happened: Delta | Kept | Failed) -> None:
            if isinstance(happened, Failed):
                self.session.reply.cancel()
                failures.append(happened)
            elif isinstance(happened, Kept):
                self.kept[happened.row] = happened
            else:
                self.logprobs[happened.row] += happened.logprobs

        failures: list[Failed] = []
        await self.session.run(on_event)
        if failures:
            raise failures[0].error
        return self.whole()

    async def stream(self, emit: Emit) -> None:
        """Emit chunks as the text comes, then usage if it was asked for, then ``[DONE]``."""
        failed = asyncio.Event()

        def on_event(happened: Delta | Kept | Failed) -> None:
            if failed.is_set():
                return
            if isinstance(happened, Failed):
                failed.set()
                self.session.reply.cancel()
                emit(event(ErrorBody(error=happened.error.detail)))
            elif isinstance(happened, Kept):
                self.kept[happened.row] = happened
                emit(event(self.chunk(happened.row, "", (), happened.finished.finish_reason)))
            else:
                emit(event(self.chunk(happened.row, happened.text, happened.logprobs, None)))

        for row in range(self.rows):
            opening = self.first(row)
            if opening is not None:
                emit(event(opening))
        await self.session.run(on_event)
        if self.with_usage and not failed.is_set():
            emit(event(self.last()))
        emit(event("[DONE]"))

    def usage(self) -> Usage:
        """Tokens read, each prompt once, and generated."""
        read = sum(len(prepared.ids) for prepared in self.session.prepared[:: self._choices])
        made = sum(kept.finished.tokens for kept in self.kept.values())
        return Usage(prompt_tokens=read, completion_tokens=made, total_tokens=read + made)
