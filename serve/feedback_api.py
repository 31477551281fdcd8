"""Votes, ratings and their counts. An answer of 201 means: it is on the disk."""

from collections.abc import Mapping
from typing import Annotated

from fastapi import APIRouter, Header
from starlette.concurrency import run_in_threadpool

from sawyer.store import Completion, FeedbackStore, Turn
from sawyer.types import (
    STAGES,
    VERDICTS,
    FeedbackStats,
    RatingRequest,
    RatingResponse,
    Stage,
    VoteRequest,
    VoteResponse,
)
from serve.errors import ApiError
from serve.service import Service

IdempotencyKey = Annotated[
    str | None,
    Header(description="any text of the client's; a repeated request with the same key stores nothing twice"),
]


def make_router(service: Service) -> APIRouter:
    """Routes under ``/v1/feedback``."""
    router, store = APIRouter(prefix="/v1/feedback"), service.recorder.store

    @router.post("/votes", status_code=201, summary="Vote on the answers of a turn")
    async def vote(body: VoteRequest, idempotency_key: IdempotencyKey = None) -> VoteResponse:
        response = await run_in_threadpool(_store_vote, store, body, idempotency_key)
        if response.created:
            service.metrics.votes.labels(response.choice).inc()
        return response

    @router.post("/ratings", status_code=201, summary="Thumb up or down for one answer")
    async def rating(body: RatingRequest, idempotency_key: IdempotencyKey = None) -> RatingResponse:
        row = await run_in_threadpool(store.add_rating, body.completion_id, body.up, body.voter, idempotency_key)
        if row.created:
            service.metrics.ratings.labels(str(body.up).lower()).inc()
        return RatingResponse(
            rating_id=row.rating_id, completion_id=body.completion_id, up=body.up, created=row.created
        )

    @router.get("/stats", summary="Counts of everything stored")
    async def stats() -> FeedbackStats:
        return FeedbackStats.model_validate(await run_in_threadpool(store.stats))

    return router


def _store_vote(store: FeedbackStore, body: VoteRequest, key: str | None) -> VoteResponse:
    """Translate panes to stages, store, and reveal which pane was which.

    Raises:
        NotFound: no such turn, or no answer of that stage in it. Conflict: the key was used for something else.
        ApiError: the vote names something that was not shown.
    """
    turn = store.turn(body.turn_id)
    answers = panes_of(turn)
    panes: dict[str, Stage] = {pane: answer.stage for pane, answer in answers.items()}  # type: ignore[misc]
    choice = body.choice if body.choice in VERDICTS else _stage(body.choice, panes, "choice")
    ranking: list[str] | None = [_stage(pane, panes, "ranking") for pane in body.ranking] if body.ranking else None
    position = body.position
    if position is None and body.choice in panes:
        position = list(panes).index(body.choice)
    row = store.add_vote(
        turn.id,
        choice,
        voter=body.voter,
        comment=body.comment,
        ranking=ranking,
        edited=body.edited,
        position=position,
        idempotency_key=key,
    )
    return VoteResponse(
        vote_id=row.vote_id,
        turn_id=turn.id,
        choice=choice,  # type: ignore[arg-type]
        panes=panes,
        versions={pane: answer.adapter_version for pane, answer in answers.items()},
        created=row.created,
    )


def panes_of(turn: Turn) -> dict[str, Completion]:
    """Pane name -> the newest answer shown in it, in showing order: A, B, C for a blind turn, else the stages."""
    blind = any(answer.sampling.get("pane") for answer in turn.completions)
    newest: dict[str, Completion] = {}
    for answer in turn.completions:
        pane = answer.sampling.get("pane") if blind else answer.stage
        if pane:
            newest[pane] = answer
    return {pane: newest[pane] for pane in sorted(newest, key=lambda pane: (_order(pane), pane))}


def _order(pane: str) -> int:
    return STAGES.index(pane) if pane in STAGES else 0


def _stage(name: str, panes: Mapping[str, Stage], param: str) -> Stage:
    if name in panes:
        return panes[name]
    if not panes:
        raise ApiError(404, "This turn has no answers yet, so there is nothing to vote on.", code="not_found")
    raise ApiError(
        400,
        f"{param} {name!r} was not shown in this turn. Allowed: {', '.join(panes)}"
        + (f", {', '.join(VERDICTS)}." if param == "choice" else "."),
        code="invalid_choice",
        param=param,
    )
