"""The application: parts are handed to it, nothing is global.

``create_app`` puts together an engine, a store and a scorer, whatever they are. ``build_app`` makes the usual
ones for a recipe: models load in the background, ``/healthz`` answers at once and ``/readyz`` says when replies
can be made.
"""

import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI

from sawyer.current_reward import current_scorer
from sawyer.errors import UsageError
from sawyer.home import Home
from sawyer.recipe import Recipe
from sawyer.registry import Registry
from sawyer.rounds import RoundBook
from sawyer.store import FeedbackStore
from sawyer.types import ErrorBody
from serve import admin, board_api, compare, completions_api, errors, feedback_api, models_api, openai_api, rounds_api
from serve.access import Access, AccessMiddleware
from serve.body import MAX_BODY
from serve.cors import CorsMiddleware, origins_from_environment
from serve.drain import Drain, DrainMiddleware
from serve.engine import Engine
from serve.envelope import EnvelopeMiddleware
from serve.heap import settle_heap
from serve.hosts import HostMiddleware, hosts_from_environment
from serve.kernels import keep_few_kernels
from serve.limits import LimitMiddleware, RateLimit, rate_limit_from_environment
from serve.local.catalog import Catalog
from serve.local.engine import Loaded, LocalEngine
from serve.logs import bodies_from_environment
from serve.metrics import Metrics
from serve.recorder import Recorder
from serve.scorer import BackgroundScorer, NoScorer, Scorer
from serve.service import Service
from serve.telemetry import telemetry_from_environment

if TYPE_CHECKING:  # torch takes seconds to import
    from sawyer.scoring import Scores, TextScorer


STORE_PATIENCE = 10.0
"""Seconds that a vote waits for another writer of the database before it is answered 503."""


def create_app(
    engine: Engine,
    store: FeedbackStore,
    *,
    recipe: Recipe,
    scorer: Scorer | None = None,
    rate_limit: RateLimit | None = None,
    max_body: int = MAX_BODY,
    access: Access | None = None,
    metrics: Metrics | None = None,
    registry: Registry | None = None,
    on_close: Callable[[], None] | None = None,
    rounds: RoundBook | None = None,
    start_round: rounds_api.Starter | None = None,
) -> FastAPI:
    """The API over these parts. It starts and closes the engine and the scorer; the store stays the caller's.

    Args:
        scorer: scores replies; default: none are scored.
        rate_limit: default: as ``SAWYER_RATE_LIMIT`` says.
        max_body: largest request, in bytes.
        access: who may ask; default: everybody.
        metrics: those that the engine reports to; default: new ones.
        registry: whose versions administrators may promote; default: none.
        on_close: called last when the application ends.
        rounds: the recipe's feedback rounds; default: there are no routes for them.
        start_round: begins one and returns at once; default: this server cannot.

    Raises:
        UsageError: an environment variable of the server has a value that is not allowed.
    """
    scorer, metrics, drain = scorer or NoScorer(), metrics or Metrics(), Drain()
    metrics.watch(engine, lambda: drain.draining)
    recorder = Recorder(store, scorer, metrics, recipe.name)
    service = Service(engine, recorder, scorer, metrics, recipe, started=int(time.time()))

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        engine.start()
        scorer.start()
        try:
            yield
        finally:
            await drain.settled()
            await recorder.drain()  # the engine must still tell what cut replies had said
            engine.close()
            await recorder.drain()
            scorer.close()
            if on_close is not None:
                on_close()

    app = FastAPI(
        title="SAWYER",
        description="Three stages of one model side by side, and what people think of them.",
        lifespan=lifespan,
        responses={"4XX": {"model": ErrorBody}, "5XX": {"model": ErrorBody}},
        docs_url=None,  # FastAPI's pages fetch their scripts from the network
        redoc_url=None,
        telemetry=telemetry_from_environment(),
    )
    routers = [
        openai_api.make_router(service),
        completions_api.make_router(service),
        compare.make_router(service),
        feedback_api.make_router(service),
        board_api.make_router(service, rounds.summaries if rounds else tuple),
        models_api.make_router(service),
        models_api.make_health_router(service, drain),
        admin.make_router(store, registry),
        *([] if rounds is None else [rounds_api.make_router(rounds, start_round)]),
    ]
    for router in routers:
        app.include_router(router)
    errors.install(app, [route for router in routers for route in router.routes])
    # The last added is the outermost.
    app.add_middleware(LimitMiddleware, rate_limit=rate_limit or rate_limit_from_environment(), max_body=max_body)
    app.add_middleware(AccessMiddleware, access=access or Access())
    app.add_middleware(DrainMiddleware, drain=drain)
    if access is not None and access.local:
        app.add_middleware(HostMiddleware, allowed=hosts_from_environment())
    if origins := origins_from_environment():
        app.add_middleware(CorsMiddleware, origins=origins)
    app.add_middleware(EnvelopeMiddleware, metrics=metrics, log_bodies=bodies_from_environment())
    app.state.drain = drain  # for whoever runs the server
    return app


def build_app(
    recipe: Recipe,
    home: Home,
    *,
    access: Access | None = None,
    engine: Engine | None = None,
    start_round: rounds_api.Starter | None = None,
) -> FastAPI:
    """The API over a recipe's current versions (or the weights shipped with the package) and the home's store.

    Returns before anything heavy is loaded. The store is closed when the application ends.

    Args:
        access: who may ask; default: everybody.
        engine: makes the replies; default: this process does.
        start_round: begins a feedback round in a process of its own; default: this server cannot.

    Raises:
        UsageError: nothing has been trained yet, or the home cannot be written.
        StoreError: the store cannot be opened.
    """
    registry = Registry.of(recipe, home.ensure())
    if recipe.model.backbone is None and not registry.versions("base"):
        raise UsageError(
            f"Recipe {recipe.name} has no trained model in {home.registry} yet. Train it with `sawyer pipeline "
            f"{recipe.name}`, or name another home with --home DIR."
        )
    keep_few_kernels()
    # One at a time: transformers imports its parts when they are first used, which two threads at once break.
    loading = threading.Lock()

    usual: list[int] = []

    def use_threads(count: int | None) -> None:
        """Of this thread alone; None: as many as torch would choose."""
        import torch

        if not usual:
            usual.append(torch.get_num_threads())
        torch.set_num_threads(count or usual[0])

    def policy() -> Loaded:
        with loading:
            use_threads(recipe.threads)
            loaded = load_policy(recipe, registry)
            settle_heap()
            return loaded

    def reward() -> "TextScorer":
        with loading:
            use_threads(recipe.threads)
            scorer = current_scorer(recipe, registry)
            # Two threads with helpers of their own on the same cores: each would wait for the other's at every product
            # (decoding the nano model then takes nearly twice as long, from the first score on).
            use_threads(1)
            settle_heap()
            return scorer

    metrics = Metrics()
    engine = engine or LocalEngine(
        policy,
        context=recipe.model.context,
        catalog=catalog_of(recipe, registry),
        max_rows=recipe.serve.max_rows,
        on_step=metrics.step,
    )
    has_reward = registry.versions("reward") or (recipe.ppo and not any(part.trained for part in recipe.ppo.parts))
    scorer = BackgroundScorer(reward, explain=_explained) if has_reward else NoScorer()
    store = FeedbackStore.open(home.db_url, busy_seconds=STORE_PATIENCE)
    try:
        return create_app(
            engine,
            store,
            recipe=recipe,
            scorer=scorer,
            access=access,
            metrics=metrics,
            registry=registry,
            on_close=store.close,
            rounds=RoundBook(home, recipe.name),
            start_round=start_round,
        )
    except BaseException:
        store.close()
        raise


def _explained(scorer: "TextScorer", prompts: Any, replies: Any) -> "Scores":
    from sawyer.scoring import explain

    return explain(scorer, prompts, replies)


def catalog_of(recipe: Recipe, registry: Registry) -> Catalog:
    """What of a recipe's registry can be served."""
    return Catalog(registry, own_base=recipe.model.backbone is None)


def load_policy(recipe: Recipe, registry: Registry) -> Loaded:
    """The backbone with the current adapters. Slow; imports torch.

    Raises:
        ModelError, CheckpointError: something is missing, corrupt or does not fit.
    """
    from sawyer.compute import set_threads
    from sawyer.models import Policy

    set_threads(recipe.threads)
    catalog = catalog_of(recipe, registry)
    offer = catalog.offer()
    backbone = recipe.model.backbone or offer.base
    assert backbone is not None, recipe.name
    # By version, so that another one of a stage can be loaded beside it.
    adapters = {ref: catalog.folder(ref) for stage, ref in offer.current.items() if ref and stage != "base"}
    policy = Policy.load(backbone, adapters, spec=recipe.model)
    return Loaded(policy, offer.current, offer.refs)
