"""``POST /v1/chat/completions``: OpenAI's chat interface over the stages."""

import asyncio
import time
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from sawyer.types import ErrorBody
from serve.engine import Delta, Failed, Job, TokenLogprob
from serve.models_api import resolve
from serve.openai_types import (
    ChatChunk,
    ChatRequest,
    ChatResponse,
    Choice,
    ChosenLogprob,
    ChunkChoice,
    ChunkDelta,
    Logprobs,
    ReplyMessage,
    TopLogprob,
    Usage,
)
from serve.recorder import TurnRef
from serve.service import Kept, Service, Session
from serve.sse import Emit, EventStream, event, unless_disconnected

SEED_RANGE = 2**63


def make_router(service: Service) -> APIRouter:
    """Route ``/v1/chat/completions``."""
    router = APIRouter()

    @router.post("/v1/chat/completions", summary="OpenAI's chat completions", response_model=ChatResponse)
    async def chat(body: ChatRequest, request: Request) -> Response:
        session = await _open(service, body)
        answer = ChatAnswer(service, body, session)
        if body.stream:
            return EventStream(answer.stream)
        whole = await unless_disconnected(request, answer.collect)
        return Response(whole.model_dump_json() if whole else b"", media_type="application/json")

    return router


async def _open(service: Service, body: ChatRequest) -> Session:
    stage, version = resolve(service, body.model)
    sampling = service.sampling(body)
    assert sampling.seed is not None
    messages = [message.model_dump() for message in body.messages]
    tops = (body.top_logprobs or 0) if body.logprobs else None
    jobs = []
    for index in range(body.n or 1):
        seed = (sampling.seed + index + SEED_RANGE) % (2 * SEED_RANGE) - SEED_RANGE
        jobs.append(Job(stage, messages, sampling.model_copy(update={"seed": seed}), tops, version))
    turn_id = body.metadata.turn_id if body.metadata else None

    async def begin() -> TurnRef:
        if turn_id is None:
            return await service.recorder.begin(messages)
        return await service.recorder.join(turn_id, messages)

    return await service.open(jobs, begin)


class ChatAnswer:
    """The answer to one request, whole or as a stream."""

    def __init__(self, service: Service, body: ChatRequest, session: Session) -> None:
        self.body, self.session = body, session
        self.head: dict[str, Any] = {
            "id": f"chatcmpl-{session.turn.turn_id}",
            "created": int(time.time()),
            "model": body.model,
            "system_fingerprint": service.engine.fingerprint,
        }
        self.rows = len(session.prepared)
        self.kept: dict[int, Kept] = {}
        self.logprobs: dict[int, list[ChosenLogprob]] = {row: [] for row in range(self.rows)}

    async def collect(self) -> ChatResponse:
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
                self.logprobs[happened.row] += [_logprob(item) for item in happened.logprobs]

        failures: list[Failed] = []
        await self.session.run(on_event)
        if failures:
            raise failures[0].error
        choices = [self._choice(row) for row in range(self.rows)]
        return ChatResponse(**self.head, choices=choices, usage=self._usage(), metadata=self._metadata())

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
                emit(self._chunk(happened.row, ChunkDelta(), finish=happened.finished.finish_reason))
            else:
                emit(self._chunk(happened.row, ChunkDelta(content=happened.text), happened.logprobs))

        for row in range(self.rows):
            emit(self._chunk(row, ChunkDelta(role="assistant", content="")))
        await self.session.run(on_event)
        if self._with_usage and not failed.is_set():
            emit(event(self._dump(ChatChunk(**self.head, choices=[], usage=self._usage()))))
        emit(event("[DONE]"))

    @property
    def _with_usage(self) -> bool:
        return bool(self.body.stream_options and self.body.stream_options.include_usage)

    def _choice(self, row: int) -> Choice:
        finished = self.kept[row].finished
        return Choice(
            index=row,
            message=ReplyMessage(content=finished.text),
            logprobs=Logprobs(content=self.logprobs[row]) if self.body.logprobs else None,
            finish_reason=finished.finish_reason,  # type: ignore[arg-type]  # cancelled ones are not answered
        )

    def _chunk(
        self,
        row: int,
        delta: ChunkDelta,
        logprobs: tuple[TokenLogprob, ...] = (),
        finish: str | None = None,
    ) -> bytes:
        content = [_logprob(item) for item in logprobs]
        choice = ChunkChoice(
            index=row,
            delta=delta,
            logprobs=Logprobs(content=content) if content else None,
            finish_reason=finish,  # type: ignore[arg-type]
        )
        metadata = self._metadata() if finish else None
        return event(self._dump(ChatChunk(**self.head, choices=[choice], metadata=metadata)))

    def _dump(self, chunk: ChatChunk) -> str:
        # OpenAI shows usage as null on all other chunks once it was asked for.
        left_out = {name for name in ("usage", "metadata") if getattr(chunk, name) is None}
        if self._with_usage:
            left_out.discard("usage")
        return chunk.model_dump_json(exclude=left_out)

    def _usage(self) -> Usage:
        read = len(self.session.prepared[0].ids)
        made = sum(kept.finished.tokens for kept in self.kept.values())
        return Usage(prompt_tokens=read, completion_tokens=made, total_tokens=read + made)

    def _metadata(self) -> dict[str, Any]:
        ordered = [self.kept[row].recorded for row in sorted(self.kept)]
        return {
            "turn_id": self.session.turn.turn_id,
            "conversation_id": self.session.turn.conversation_id,
            "completion_ids": [recorded.completion_id for recorded in ordered],
            "rewards": [recorded.reward for recorded in ordered],
        }


def _logprob(item: TokenLogprob) -> ChosenLogprob:
    tops = [TopLogprob(token=token, bytes=data, logprob=value) for token, data, value in item.top]
    return ChosenLogprob(token=item.token, bytes=item.bytes, logprob=item.logprob, top_logprobs=tops)
