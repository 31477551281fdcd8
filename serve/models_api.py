"""Which models there are, under which names, and what a page needs to know about the server."""

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response

from sawyer.current_reward import parts_of
from sawyer.recipe import Recipe
from sawyer.types import Health, ModelCard, ModelList, Sampling, ServerInfo, Stage
from serve.drain import TEXT, Drain
from serve.errors import unknown_stage
from serve.service import Service

PREFIX = "sawyer-"


def resolve(service: Service, model: str) -> tuple[Stage, str | None]:
    """The stage behind ``sawyer-rlf``, ``rlf``, ``sawyer-rlf@3`` or ``rlf@3``, and the version if one was named.

    Raises:
        ApiError: 404, no such model.
    """
    engine = service.engine
    wanted = model.removeprefix(PREFIX)
    for stage in engine.versions:
        if wanted == stage:
            return stage, None
        if wanted.startswith(f"{stage}@") and wanted in engine.refs:
            return stage, wanted
    raise unknown_stage(model, [PREFIX + name for name in (*engine.versions, *engine.refs)])


def make_router(service: Service) -> APIRouter:
    """Routes ``/v1/models`` and ``/v1/info``."""
    router = APIRouter()

    def cards() -> list[ModelCard]:
        engine = service.engine
        current = [
            ModelCard(id=PREFIX + stage, created=service.started, root=version and PREFIX + version)
            for stage, version in engine.versions.items()
        ]
        named = [ModelCard(id=PREFIX + ref, created=service.started, root=PREFIX + ref) for ref in engine.refs]
        return [*current, *named]

    @router.get("/v1/models", summary="The stages, as OpenAI models")
    async def models() -> ModelList:
        return ModelList(data=cards())

    @router.get("/v1/models/{model}", summary="One of the models")
    async def model(model: str) -> ModelCard:
        stage, version = resolve(service, model)
        found = next(card for card in cards() if card.id == PREFIX + (version or stage))
        return found.model_copy(update={"id": model})

    @router.get("/v1/info", summary="Stages, defaults and examples of this server")
    async def info() -> ServerInfo:
        recipe, versions, summary = service.recipe, service.engine.versions, _summarises(service)
        return ServerInfo(
            name=recipe.name,
            description=recipe.description,
            stages=list(versions),
            versions=dict(versions.items()),
            refs=list(service.engine.refs),
            kind="summary" if summary else "chat",
            template=_template(recipe) if summary else "{text}",
            parts=_parts(service),
            ready=service.engine.status()[0] == "ok",
            rewards=service.scorer.enabled,
            sampling=Sampling(
                max_tokens=recipe.serve.max_tokens,
                temperature=recipe.serve.temperature,
                top_p=recipe.serve.top_p,
                seed=None,
            ),
            context=service.engine.context,
            max_tokens=service.engine.context,
            examples=list(recipe.serve.examples),
        )

    return router


def _summarises(service: Service) -> bool:
    return service.recipe.t5 is not None or service.engine.encoder_decoder


def _template(recipe: Recipe) -> str:
    """How PPO put a text to the model."""
    prompts = [source.template for source in recipe.ppo.prompts] if recipe.ppo else []
    return next((template for template in prompts if template and "{text}" in template), "{text}")


def _parts(service: Service) -> dict[str, float]:
    """The weights of the reward's parts, if replies are scored and it has several."""
    parts = parts_of(service.recipe) if service.scorer.enabled else []
    return {part.title: part.weight for part in parts} if len(parts) > 1 else {}


def make_health_router(service: Service, drain: Drain) -> APIRouter:
    """Routes ``/healthz``, ``/readyz`` and ``/metrics``."""
    router = APIRouter()

    @router.get("/healthz", summary="The process is alive")
    async def healthz() -> Health:
        return Health(status="ok")

    @router.get("/readyz", summary="Replies can be made", response_model=Health)
    async def readyz() -> Response:
        state, detail = service.engine.status()
        health = Health(status="draining", detail=TEXT) if drain.draining else Health(status=state, detail=detail)
        headers = {"Retry-After": "1"} if health.status == "loading" else {}
        return JSONResponse(health.model_dump(), 200 if health.status == "ok" else 503, headers)

    @router.get("/metrics", summary="Prometheus metrics", include_in_schema=False)
    async def metrics(_: Request) -> Response:
        return Response(service.metrics.render(), media_type=service.metrics.content_type)

    return router
