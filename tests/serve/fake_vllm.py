"""A server that speaks vLLM's protocol, from its entrypoints/openai/{completion,models}/{protocol,serving}.py."""

import json
from collections.abc import AsyncIterator
from typing import Any

from fastapi import FastAPI, Request
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse

from tests.serve.fake_model import FakeModel


class Completion(BaseModel):
    """CompletionRequest, those fields that are used here; others are ignored there too."""

    model_config = ConfigDict(strict=True)
    model: str
    prompt: list[int] | str
    max_tokens: int = Field(16, ge=1)
    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, gt=0, le=1)
    top_k: int | None = Field(None, ge=-1)
    seed: int | None = Field(None, ge=-(2**63), lt=2**63)
    stop: list[str] = []
    stream: bool = False
    stream_options: dict[str, bool] | None = None
    logprobs: int | None = Field(None, ge=0, le=20)
    return_tokens_as_token_ids: bool | None = None


def error(status: int, kind: str, message: str, param: str | None = None) -> Response:
    return JSONResponse({"error": {"message": message, "type": kind, "param": param, "code": status}}, status)


def make_vllm(
    model: FakeModel, *, base: str = "sawyer-base-1", loras: tuple[str, ...] = (), runtime: bool = True
) -> FastAPI:
    """``loras``: adapters loaded at the start; ``runtime``: VLLM_ALLOW_RUNTIME_LORA_UPDATING is set."""
    app = FastAPI()
    loaded = {name: f"/adapters/{name}" for name in loras}
    app.state.loaded = loaded

    def logprobs(asked: Completion, place: int, offset: int) -> dict[str, Any] | None:
        if asked.logprobs is None:
            return None

        def named(token: int) -> str:
            return f"token_id:{token}" if asked.return_tokens_as_token_ids else model.tokenizer.decode([token])

        # The chosen token and the likeliest ones, in no order that is promised.
        top = {named(place): -0.5} | {named(place + 1 + other): -0.6 - other for other in range(asked.logprobs)}
        return {"text_offset": [offset], "token_logprobs": [-0.5], "tokens": [named(place)], "top_logprobs": [top]}

    async def events(asked: Completion, trouble: str | None) -> AsyncIterator[str]:
        name = asked.model if asked.model in loaded else None
        options, said, given, count = asked.stream_options or {}, "", 0, 0
        width = len(asked.prompt)

        def chunk(**more: Any) -> str:
            body = {"id": "cmpl-1", "object": "text_completion", "created": 1, "model": asked.model} | more
            return f"data: {json.dumps(body)}\n\n"

        model.streams += 1
        try:
            async for place, text in model.said(name, asked.max_tokens, trouble):
                count, said = count + 1, said + text
                found = [where for stop in asked.stop if (where := said.find(stop)) >= 0]
                last = trouble != "endless" and (place == model.eos or bool(found) or count == asked.max_tokens)
                # vLLM leaves the stop text out, and holds back as many characters as it might need to.
                end = (
                    min(found) if found else len(said) if last else len(said) - max(map(len, asked.stop), default=1) + 1
                )
                new, given = said[given : max(given, end)], max(given, end)
                reason = "stop" if place == model.eos or found else "length"
                choice = {"index": 0, "text": new, "logprobs": logprobs(asked, place, given)}
                choice |= {"finish_reason": reason if last else None, "stop_reason": None}
                usage = {"prompt_tokens": width, "completion_tokens": count, "total_tokens": width + count}
                more = {"usage": usage} if options.get("continuous_usage_stats") else {}
                yield "data: {not json\n\n" if trouble == "garbled" else chunk(choices=[choice], **more)
                if last:
                    if options.get("include_usage"):
                        yield chunk(choices=[], usage=usage)
                    break
        finally:
            model.streams -= 1
        if trouble != "eof":
            yield "data: [DONE]\n\n"

    @app.post("/v1/completions")
    async def completions(request: Request) -> Response:
        body = await request.json()
        model.requests.append(body)
        model.headers = dict(request.headers)
        try:
            asked = Completion.model_validate(body)
        except ValidationError as problem:
            return error(400, "BadRequestError", str(problem))
        if asked.model != base and asked.model not in loaded:
            return error(404, "NotFoundError", f"The model `{asked.model}` does not exist.", "model")
        trouble = model.next_trouble(asked.model if asked.model in loaded else None)
        if trouble and trouble.isdigit():
            return error(int(trouble), "InternalServerError", "something is wrong in /opt/vllm/engine.py")
        if len(asked.prompt) + asked.max_tokens > model.context:
            return error(400, "BadRequestError", f"This model's maximum context length is {model.context} tokens.")
        assert asked.stream, "only streams are asked for here"
        return StreamingResponse(events(asked, trouble), media_type="text/event-stream")

    @app.get("/v1/models")
    async def models() -> dict[str, Any]:
        cards = [{"id": base, "object": "model", "root": "/data/base", "parent": None, "max_model_len": model.context}]
        cards += [{"id": name, "object": "model", "root": path, "parent": base} for name, path in loaded.items()]
        return {"object": "list", "data": cards}

    @app.get("/health")
    async def health() -> Response:
        return Response(status_code=200 if model.healthy else 503)

    if runtime:

        @app.post("/v1/load_lora_adapter")
        async def load(request: Request) -> Response:
            body = await request.json()
            name = body["lora_name"]
            if name in loaded:
                return error(400, "InvalidUserInput", f"The lora adapter '{name}' has already been loaded.")
            if name not in model.replies:
                return error(
                    404, "NotFoundError", f"Loading lora {name} failed: No adapter found for {body['lora_path']}"
                )
            loaded[name] = body["lora_path"]
            return PlainTextResponse(f"Success: LoRA adapter '{name}' added successfully.")

    return app
