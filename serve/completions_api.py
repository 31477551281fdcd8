"""``POST /v1/completions``: OpenAI's older interface, which continues a text as it is.

Nobody votes on a continuation, so nothing of it is stored.
"""

import uuid
from collections.abc import Sequence

from fastapi import APIRouter, Request
from starlette.responses import Response

from serve.completion_types import MAX_CHOICES, Completion, CompletionChoice, CompletionLogprobs, CompletionRequest
from serve.engine import Job, TokenLogprob
from serve.errors import ApiError
from serve.models_api import resolve
from serve.openai_answer import OpenAIAnswer, as_response, seeded
from serve.service import Service, Session
from serve.sse import EventStream, unless_disconnected


def make_router(service: Service) -> APIRouter:
    """Route ``/v1/completions``."""
    router = APIRouter()

    @router.post("/v1/completions", summary="OpenAI's legacy completions", response_model=Completion)
    async def complete(body: CompletionRequest, request: Request) -> Response:
        session = await _open(service, body)
        answer = TextAnswer(service, body, session)
        if body.stream:
            return EventStream(answer.stream)
        return as_response(await unless_disconnected(request, answer.collect))

    return router


async def _open(service: Service, body: CompletionRequest) -> Session:
    stage, version = resolve(service, body.model)
    samplings = seeded(service.sampling(body), body.n or 1)
    if len(body.prompt) * len(samplings) > MAX_CHOICES:
        text = (
            f"{len(body.prompt)} prompts with n {len(samplings)} each are more than the {MAX_CHOICES} choices allowed."
        )
        raise ApiError(400, text, code="too_many_choices", param="n")
    # The same seeds for every prompt: what a prompt gives does not depend on its place in the list.
    jobs = [
        Job(stage, [], sampling, body.logprobs, version, prompt) for prompt in body.prompt for sampling in samplings
    ]
    return await service.open(jobs, None)


class TextAnswer(OpenAIAnswer):
    """The answer to one request, whole or as a stream."""

    def __init__(self, service: Service, body: CompletionRequest, session: Session) -> None:
        super().__init__(service, session, body.n or 1, body.stream_options)
        self._tops = body.logprobs
        self._said: dict[int, bytes] = {}
        self.head |= {"id": f"cmpl-{uuid.uuid4().hex}", "model": body.model}

    def whole(self) -> Completion:
        choices = []
        for row in range(self.rows):
            finished = self.kept[row].finished
            logprobs = None if self._tops is None else self._logprobs(row, self.logprobs[row])
            choices.append(
                CompletionChoice(index=row, text=finished.text, logprobs=logprobs, finish_reason=finished.finish_reason)  # type: ignore[arg-type]  # cancelled ones are not answered
            )
        return Completion(**self.head, choices=choices, usage=self.usage())

    def first(self, row: int) -> None:
        return None

    def chunk(self, row: int, text: str, logprobs: Sequence[TokenLogprob], finish: str | None) -> str:
        told = self._logprobs(row, logprobs) if logprobs else None
        choice = CompletionChoice(index=row, text=text, logprobs=told, finish_reason=finish)  # type: ignore[arg-type]
        chunk = Completion(**self.head, choices=[choice])
        return chunk.model_dump_json(exclude=None if self.with_usage else {"usage"})

    def last(self) -> str:
        return Completion(**self.head, choices=[], usage=self.usage()).model_dump_json()

    def _logprobs(self, row: int, items: Sequence[TokenLogprob]) -> CompletionLogprobs:
        told = CompletionLogprobs(top_logprobs=[] if self._tops else None)
        for item in items:
            said = self._said.get(row, b"")
            told.tokens.append(_name(item.token, item.bytes))
            told.token_logprobs.append(item.logprob)
            told.text_offset.append(len(said.decode("utf-8", "ignore")))
            if told.top_logprobs is not None:
                # The drawn token is always among them, so there may be one more than was asked for.
                tops = {_name(item.token, item.bytes): item.logprob}
                told.top_logprobs.append(tops | {_name(token, data): value for token, data, value in item.top})
            self._said[row] = said + bytes(item.bytes)
        return told


def _name(token: str, data: Sequence[int]) -> str:
    """A token's text; OpenAI's ``bytes:\\xe2\\x82`` where it is not whole characters, so that none share a name."""
    if "\ufffd" not in token:
        return token
    return "bytes:" + "".join(f"\\x{byte:02x}" for byte in data)
