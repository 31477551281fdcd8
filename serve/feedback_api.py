"""Votes, ratings and their counts. An answer of 201 means: it is on the disk."""

from typing import Annotated

from fastapi import APIRouter, Header
from starlette.concurrency import run_in_threadpool

from sawyer.store import FeedbackStore, Turn, is_blind, panes_of
from sawyer.store.panes import named
from sawyer.types import (
    VERDICTS,
    FeedbackStats,
    RatingRequest,
    RatingResponse,
    UndoRequest,
    UndoResponse,
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

    @router.post("/undo", status_code=201, summary="Take back one's vote on a turn")
    async def undo(body: UndoRequest, idempotency_key: IdempotencyKey = None) -> UndoResponse:
        row = await run_in_threadpool(store.undo_vote, body.turn_id, body.voter, idempotency_key=idempotency_key)
        return UndoResponse(vote_id=row.vote_id, turn_id=body.turn_id, created=row.created)

    @router.post("/ratings", status_code=201, summary="Thumb up or down for one answer")
    async def rating(body: RatingRequest, idempotency_key: IdempotencyKey = None) -> RatingResponse:
        row = await run_in_threadpool(
            store.add_rating, body.completion_id, body.up, body.voter, idempotency_key, consent=body.consent
        )
        if row.created:
            service.metrics.ratings.labels("none" if body.up is None else str(body.up).lower()).inc()
        return RatingResponse(
            rating_id=row.rating_id, completion_id=body.completion_id, up=body.up, created=row.created
        )

    @router.get("/stats", summary="Counts of everything stored")
    async def stats() -> FeedbackStats:
        return FeedbackStats.model_validate(await run_in_threadpool(store.stats))

    return router


def _store_vote(store: FeedbackStore, body: VoteRequest, key: str | None) -> VoteResponse:
    """Store, and reveal which pane was which.

    Raises:
        NotFound: no such turn, or no answers in it yet. Conflict: the key was used for something else.
        ApiError: the vote names something that was not shown.
    """
    turn = store.turn(body.turn_id)
    panes = panes_of(turn)
    for param, names in (("choice", [body.choice]), ("ranking", body.ranking or [])):
        for name in names:
            if name not in VERDICTS or param == "ranking":
                _require_shown(name, turn, param)
    chosen = None if body.choice in VERDICTS else named(turn, body.choice)[0]
    position = body.position
    if position is None and chosen is not None:
        position = [answer.id for answer in panes.values()].index(chosen.id)
    row = store.add_vote(
        turn.id,
        body.choice,
        voter=body.voter,
        comment=body.comment,
        ranking=body.ranking,
        edited=body.edited,
        position=position,
        idempotency_key=key,
        name=body.name,
        consent=body.consent,
    )
    return VoteResponse(
        vote_id=row.vote_id,
        turn_id=turn.id,
        choice=chosen.stage if chosen else body.choice,  # type: ignore[arg-type]
        panes={pane: answer.stage for pane, answer in panes.items()},  # type: ignore[misc]
        versions={pane: answer.adapter_version for pane, answer in panes.items()},
        created=row.created,
    )


def _require_shown(name: str, turn: Turn, param: str) -> None:
    """ApiError unless the name means exactly one pane; in a blind turn, only letters do."""
    panes = panes_of(turn)
    if not panes:
        raise ApiError(404, "This turn has no answers yet, so there is nothing to vote on.", code="not_found")
    found = named(turn, name)
    if len(found) == 1 and (name in panes or not is_blind(turn)):
        return
    reason = "means several panes of this turn" if len(found) > 1 else "was not shown in this turn"
    allowed = [*panes, *VERDICTS] if param == "choice" else list(panes)
    message = f"{param} {name!r} {reason}. Allowed: {', '.join(allowed)}."
    raise ApiError(400, message, code="invalid_choice", param=param)
