"""``POST /v1/chat/completions``: OpenAI's chat interface over the stages."""

from collections.abc import Sequence
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from serve.engine import Job, TokenLogprob
from serve.models_api import resolve
from serve.openai_answer import OpenAIAnswer, as_response, seeded
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
)
from serve.recorder import TurnRef
from serve.service import Service, Session
from serve.sse import EventStream, unless_disconnected


def make_router(service: Service) -> APIRouter:
    """Route ``/v1/chat/completions``."""
    router = APIRouter()

    @router.post("/v1/chat/completions", summary="OpenAI's chat completions", response_model=ChatResponse)
    async def chat(body: ChatRequest, request: Request) -> Response:
        session = await _open(service, body)
        answer = ChatAnswer(service, body, session)
        if body.stream:
            return EventStream(answer.stream)
        return as_response(await unless_disconnected(request, answer.collect))

    return router


async def _open(service: Service, body: ChatRequest) -> Session:
    stage, version = resolve(service, body.model)
    messages = [message.model_dump() for message in body.messages]
    tops = (body.top_logprobs or 0) if body.logprobs else None
    samplings = seeded(service.sampling(body.with_limit()), body.n or 1)
    jobs = [Job(stage, messages, sampling, tops, version) for sampling in samplings]
    turn_id = body.metadata.turn_id if body.metadata else None

    async def begin() -> TurnRef:
        if turn_id is None:
            return await service.recorder.begin(messages)
        return await service.recorder.join(turn_id, messages)

    return await service.open(jobs, begin)


class ChatAnswer(OpenAIAnswer):
    """The answer to one request, whole or as a stream."""

    def __init__(self, service: Service, body: ChatRequest, session: Session) -> None:
        super().__init__(service, session, body.n or 1, body.stream_options)
        self._wants_logprobs, self._turn = body.logprobs, session.kept_turn
        self.head |= {"id": f"chatcmpl-{self._turn.turn_id}", "model": body.model}

    def whole(self) -> ChatResponse:
        choices = [self._choice(row) for row in range(self.rows)]
        return ChatResponse(**self.head, choices=choices, usage=self.usage(), metadata=self._metadata())

    def first(self, row: int) -> str:
        return self._dump([ChunkChoice(index=row, delta=ChunkDelta(role="assistant", content=""))])

    def chunk(self, row: int, text: str, logprobs: Sequence[TokenLogprob], finish: str | None) -> str:
        content = [_logprob(item) for item in logprobs]
        choice = ChunkChoice(
            index=row,
            delta=ChunkDelta() if finish else ChunkDelta(content=text),
            logprobs=Logprobs(content=content) if content else None,
            finish_reason=finish,  # type: ignore[arg-type]
        )
        return self._dump([choice], metadata=self._metadata() if finish else None)

    def last(self) -> str:
        return self._dump([], usage=self.usage())

    def _choice(self, row: int) -> Choice:
        finished = self.kept[row].finished
        content = [_logprob(item) for item in self.logprobs[row]]
        return Choice(
            index=row,
            message=ReplyMessage(content=finished.text),
            logprobs=Logprobs(content=content) if self._wants_logprobs else None,
            finish_reason=finished.finish_reason,  # type: ignore[arg-type]  # cancelled ones are not answered
        )

    def _dump(self, choices: list[ChunkChoice], **more: Any) -> str:
        chunk = ChatChunk(**self.head, choices=choices, **more)
        # OpenAI shows usage as null on all other chunks once it was asked for.
        left_out = {name for name in ("usage", "metadata") if getattr(chunk, name) is None}
        if self.with_usage:
            left_out.discard("usage")
        return chunk.model_dump_json(exclude=left_out)

    def _metadata(self) -> dict[str, Any]:
        ordered = [self.kept[row].recorded for row in sorted(self.kept)]
        return {
            "turn_id": self._turn.turn_id,
            "conversation_id": self._turn.conversation_id,
            "completion_ids": [recorded.completion_id for recorded in ordered if recorded],
            "rewards": [recorded.reward for recorded in ordered if recorded],
        }


def _logprob(item: TokenLogprob) -> ChosenLogprob:
    tops = [TopLogprob(token=token, bytes=data, logprob=value) for token, data, value in item.top]
    return ChosenLogprob(token=item.token, bytes=item.bytes, logprob=item.logprob, top_logprobs=tops)
