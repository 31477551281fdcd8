"""A server that speaks TGI's protocol, written from router/src/{server,lib,validation}.rs of its version 3.

Adapters that it does not know are answered by the base, as TGI does. Errors of a stream come as events after a 200.
"""

import json
from collections.abc import AsyncIterator
from typing import Any

from fastapi import FastAPI, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import JSONResponse, Response, StreamingResponse

from tests.serve.fake_model import FakeModel

KINDS = {
    422: ("validation", "Input validation error"),
    424: ("generation", "Request failed during generation"),
    429: ("overloaded", "Model is overloaded"),
    500: ("incomplete_generation", "Incomplete generation"),
}


class Parameters(BaseModel):
    """GenerateParameters, those that are used here; serde ignores the others."""

    model_config = ConfigDict(strict=True)
    adapter_id: str | None = None
    details: bool = True
    do_sample: bool = False
    max_new_tokens: int | None = Field(None, ge=1)
    return_full_text: bool | None = None
    seed: int | None = Field(None, ge=0, lt=2**64)
    stop: list[str] = []
    temperature: float | None = None
    top_n_tokens: int | None = Field(None, ge=0)
    top_p: float | None = None


class Generate(BaseModel):
    inputs: str
    parameters: Parameters = Parameters()
    stream: bool = False


def invalid(model: FakeModel, asked: Generate, stops: int) -> str | None:
    """What validation.rs would refuse."""
    given = asked.parameters
    if given.temperature is not None and given.temperature <= 0:
        return "`temperature` must be strictly positive"
    if given.top_p is not None and not 0 < given.top_p < 1:
        return "`top_p` must be > 0.0 and < 1.0"
    if len(given.stop) > stops:
        return f"`stop` supports up to {stops} stop sequences. Given: {len(given.stop)}"
    if (given.top_n_tokens or 0) > 5:
        return f"`top_n_tokens` must be >= 0 and <= 5. Given: {given.top_n_tokens}"
    if not asked.inputs:
        return "`inputs` cannot be empty"
    width = len(model.encode(asked.inputs))
    if width + (given.max_new_tokens or 0) > model.context:
        return f"`inputs` tokens + `max_new_tokens` must be <= {model.context}. Given: {width} `inputs` tokens"
    return None


def make_tgi(model: FakeModel, stops: int = 4) -> FastAPI:
    app = FastAPI()

    def failure(status: int, said: str = "") -> dict[str, str]:
        kind, text = KINDS[status]
        return {"error": f"{text}: {said}" if said else text, "error_type": kind}

    def token(place: int, text: str) -> dict[str, Any]:
        return {"id": place, "text": text, "logprob": -0.25 - place / 1000, "special": place in (model.bos, model.eos)}

    async def tokens(asked: Generate, trouble: str | None = None) -> AsyncIterator[dict[str, Any]]:
        given, said, count = asked.parameters, "", 0
        name = given.adapter_id if given.adapter_id in model.replies else None  # without a word
        most = given.max_new_tokens or model.context
        async for place, text in model.said(name, most, trouble):
            count, said = count + 1, said + text
            ended = any(said.endswith(stop) for stop in given.stop)
            finish = "eos_token" if place == model.eos else "stop_sequence" if ended else "length"
            last = trouble != "endless" and (finish != "length" or count == most)
            event: dict[str, Any] = {"index": count, "token": token(place, "</s>" if place == model.eos else text)}
            if given.top_n_tokens:
                event["top_tokens"] = [token(place + other, f"<{other}>") for other in range(given.top_n_tokens)]
            event["generated_text"] = said if last else None
            details = {"finish_reason": finish, "generated_tokens": count, "seed": given.seed, "input_length": 7}
            event["details"] = details if last and given.details else None
            yield event
            if last:
                return

    async def events(asked: Generate) -> AsyncIterator[str]:
        trouble = model.next_trouble(asked.parameters.adapter_id)
        if problem := invalid(model, asked, stops):
            yield f"data:{json.dumps(failure(422, problem))}\n\n"
            return
        if trouble and trouble.isdigit():
            yield f"data:{json.dumps(failure(int(trouble)))}\n\n"
            return
        model.streams += 1
        try:
            async for event in tokens(asked, trouble):
                yield "data:{not json\n\n" if trouble == "garbled" else f"data:{json.dumps(event)}\n\n"
        finally:
            model.streams -= 1

    @app.post("/")
    @app.post("/generate_stream")
    async def stream(request: Request) -> Response:
        body = await request.json()
        model.requests.append(body)
        model.headers = dict(request.headers)
        listed = model.trouble.get(body["parameters"].get("adapter_id")) or [""]
        if listed[0] in ("401", "503"):  # from a proxy, before the router
            return Response("upstream connect error", int(listed.pop(0)))
        assert request.url.path == "/generate_stream" or body["stream"] is True
        return StreamingResponse(events(Generate.model_validate(body)), media_type="text/event-stream")

    @app.post("/generate")
    async def generate(asked: Generate) -> Response:
        if problem := invalid(model, asked, stops):
            return JSONResponse(failure(422, problem), 422)
        all_ = [event async for event in tokens(asked)]
        details = all_[-1]["details"] | {"prefill": [], "tokens": [event["token"] for event in all_]}
        return JSONResponse({"generated_text": all_[-1]["generated_text"], "details": details})

    @app.post("/tokenize")
    async def tokenize(asked: Generate) -> list[dict[str, Any]]:
        return [{"id": token, "text": "", "start": 0, "stop": 0} for token in model.encode(asked.inputs)]

    @app.get("/health")
    async def health() -> Response:
        return Response() if model.healthy else JSONResponse({"error": "unhealthy", "error_type": "healthcheck"}, 503)

    @app.get("/info")
    async def info() -> dict[str, Any]:
        return {"model_id": "/data/base", "model_dtype": "float16", "max_concurrent_requests": 128, "max_best_of": 2,
                "max_stop_sequences": stops, "max_input_tokens": model.context - 1, "max_total_tokens": model.context,
                "version": "3.3.5", "router": "text-generation-router"}  # fmt: skip

    return app
