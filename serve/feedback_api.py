"""Votes, ratings and their counts. An answer of 201 means: it is on the disk."""

from typing import Annotated

from fastapi import APIRouter, Header
from starlette.concurrency import run_in_threadpool

from sawyer.store import CastVote, VoteRow, panes_of
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
from serve.service import Service
from serve.vote_queue import VoteQueue

IdempotencyKey = Annotated[
    str | None,
    Header(description="any text of the client's; a repeated request with the same key stores nothing twice"),
]


def make_router(service: Service) -> APIRouter:
    """Routes under ``/v1/feedback``."""
    router, store = APIRouter(prefix="/v1/feedback"), service.recorder.store
    queue = VoteQueue(store)

    @router.post("/votes", status_code=201, summary="Vote on the answers of a turn")
    async def vote(body: VoteRequest, idempotency_key: IdempotencyKey = None) -> VoteResponse:
        response = _revealed(body.choice, await queue.add(_cast(body, idempotency_key)))
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


def _cast(body: VoteRequest, key: str | None) -> CastVote:
    """The request as the store takes it."""
    return CastVote.of(
        body.turn_id,
        body.choice,
        voter=body.voter,
        comment=body.comment,
        ranking=body.ranking,
        edited=body.edited,
        position=body.position,
        idempotency_key=key,
        name=body.name,
        consent=body.consent,
        as_shown=True,
    )


def _revealed(choice: str, row: VoteRow) -> VoteResponse:
    """The answer to a vote, which says which pane was which."""
    panes = panes_of(row.turn)
    return VoteResponse(
        vote_id=row.vote_id,
        turn_id=row.turn.id,
        choice=choice if choice in VERDICTS else named(row.turn, choice)[0].stage,  # type: ignore[arg-type]
        panes={pane: answer.stage for pane, answer in panes.items()},  # type: ignore[misc]
        versions={pane: answer.adapter_version for pane, answer in panes.items()},
        created=row.created,
    )
