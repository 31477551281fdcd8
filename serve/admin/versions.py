"""Which versions there are, which are served, and changing that. The engine follows the registry by itself."""

from collections.abc import Callable

from fastapi import APIRouter
from starlette.concurrency import run_in_threadpool

from sawyer.errors import CheckpointError, UsageError
from sawyer.registry import Registry
from sawyer.types import PromoteRequest, RegistryState, RollbackRequest, VersionState
from serve.errors import ApiError, without_paths

_SHORT = 24  # characters of one value of what a version says about itself


def make_router(registry: Registry | None) -> APIRouter:
    """Routes ``versions``, ``promote`` and ``rollback``."""
    router = APIRouter()

    async def done(work: Callable[[Registry], object]) -> RegistryState:
        if registry is None:
            raise ApiError(404, "This server was started without a registry of versions.", code="no_registry")
        try:
            return await run_in_threadpool(lambda: (work(registry), state_of(registry))[1])
        except UsageError as error:
            raise ApiError(400, without_paths(str(error)), code="invalid_version") from error
        except CheckpointError as error:
            raise ApiError(409, without_paths(str(error)), code="promotion_refused") from error

    @router.get("/versions", summary="All versions of the stages")
    async def versions() -> RegistryState:
        return await done(lambda _: None)

    @router.post("/promote", summary="Make versions current, all at once or none")
    async def promote(body: PromoteRequest) -> RegistryState:
        return await done(lambda registry: registry.promote(*body.refs))

    @router.post("/rollback", summary="Make the version current that was current before")
    async def rollback(body: RollbackRequest) -> RegistryState:
        return await done(lambda registry: registry.rollback(body.stage))

    return router


def state_of(registry: Registry) -> RegistryState:
    """The registry as pages see it. Raises CheckpointError when its state is damaged."""
    found = registry.versions()
    versions = [
        VersionState(
            ref=version.ref,
            stage=version.stage,
            current=version.current,
            created=version.created.isoformat(),
            about=", ".join(f"{key} {_short(value)}" for key, value in version.info.items()),
        )
        for version in found
    ]
    current: dict[str, str | None] = dict.fromkeys(version.stage for version in found)
    current |= {version.stage: version.ref for version in found if version.current}
    return RegistryState(versions=versions, current=current, history=registry.promotions.history()[::-1])


def _short(value: object) -> str:
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    return text if len(text) <= _SHORT else text[: _SHORT - 1] + "…"
