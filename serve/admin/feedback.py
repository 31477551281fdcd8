"""Reading feedback through and deciding on it."""

from itertools import islice
from typing import Annotated

from fastapi import APIRouter, Query, Request
from pydantic import Field
from starlette.concurrency import run_in_threadpool

from sawyer.curation.ballot import seconds_to_vote
from sawyer.store import FeedbackStore, Turn, Vote, is_blind, panes_of
from sawyer.store.browse import (
    Decision,
    count_standing,
    newest_decisions,
    standing_votes,
)
from sawyer.store.redact import redact
from sawyer.types import (
    AnswerShown,
    FeedbackFilter,
    FeedbackItem,
    FeedbackPage,
    Finding,
    Message,
    RedactRequest,
    RedactResponse,
    ReviewRequest,
    ReviewResponse,
    VoterList,
)
from serve.access import caller_of
from serve.admin.insight import Insight

MOST = 200


class FeedbackQuery(FeedbackFilter):
    """The filter, and which page of what it shows."""

    before: int | None = Field(None, ge=1, description="`next` of the page before this one")
    limit: int = Field(50, ge=1, le=MOST)


def make_router(store: FeedbackStore, insight: Insight) -> APIRouter:
    """Routes ``feedback``, ``reviews``, ``redact`` and ``voters``."""
    router = APIRouter()

    @router.get("/feedback", summary="Standing votes, newest first, with what a machine noticed about them")
    async def feedback(query: Annotated[FeedbackQuery, Query()]) -> FeedbackPage:
        return await run_in_threadpool(_page, store, insight, query)

    @router.post("/reviews", status_code=201, summary="Approve, reject or flag votes")
    async def reviews(body: ReviewRequest, request: Request) -> ReviewResponse:
        reviewer = caller_of(request.scope).key_id or ""
        count = await run_in_threadpool(store.review, body.vote_ids, body.state, reviewer=reviewer, note=body.note)
        return ReviewResponse(reviewed=count, state=body.state)

    @router.post("/redact", summary="Black a text out wherever a conversation holds it")
    async def black_out(body: RedactRequest, request: Request) -> RedactResponse:
        reviewer = caller_of(request.scope).key_id or ""

        def work() -> int:
            return redact(store, body.conversation_id, body.text, reviewer=reviewer, note=body.note)

        places = await run_in_threadpool(work)
        insight.clear()
        return RedactResponse(conversation_id=body.conversation_id, places=places)

    @router.get("/voters", summary="Who voted, the most suspicious first")
    async def voters() -> VoterList:
        return VoterList(voters=(await run_in_threadpool(insight.analysis)).voters)

    return router


def _page(store: FeedbackStore, insight: Insight, query: FeedbackQuery) -> FeedbackPage:
    found = insight.analysis().findings
    total = count_standing(store, query, found)
    votes = standing_votes(store, query, found, newest_first=True, before=query.before)
    shown = list(islice(votes, query.limit + 1))
    more, shown = len(shown) > query.limit, shown[: query.limit]
    decisions = newest_decisions(store, [vote.id for vote, _ in shown])
    return FeedbackPage(
        total=total,
        items=[_item(vote, turn, found.get(vote.id, []), decisions.get(vote.id)) for vote, turn in shown],
        next=str(shown[-1][0].seq) if more else None,
    )


def _item(vote: Vote, turn: Turn, found: list[Finding], decision: Decision | None) -> FeedbackItem:
    by_id = {answer.id: answer for answer in turn.completions}
    blind, panes = is_blind(turn), {answer.id: pane for pane, answer in panes_of(turn).items()}
    shown = [by_id[answer] for answer in vote.shown if answer in by_id]
    # What an answer was called: now, or by itself where it has been made anew since.
    names = {a.id: panes.get(a.id) or a.sampling.get("pane") or a.stage for a in shown}
    return FeedbackItem(
        vote_id=vote.id,
        turn_id=turn.id,
        conversation_id=turn.conversation_id,
        created=vote.created,
        voter=vote.voter,
        name=vote.name,
        choice=vote.choice,  # type: ignore[arg-type]
        completion_id=vote.completion_id,
        messages=[Message.model_validate(message) for message in turn.messages],
        answers=[
            AnswerShown(
                completion_id=answer.id,
                stage=answer.stage,  # type: ignore[arg-type]
                version=answer.adapter_version,
                pane=names[answer.id] if blind else None,
                text=answer.text,
                tokens=answer.tokens,
                reward=answer.reward,
            )
            for answer in shown
        ],
        ranking=None if vote.ranking is None else [names[answer] for answer in vote.ranking if answer in names],
        edited=vote.edited,
        comment=vote.comment,
        position=vote.position,
        blind=blind,
        consent=vote.consent,
        seconds=seconds_to_vote(vote, turn),
        findings=found,
        state=vote.state,  # type: ignore[arg-type]
        note=decision.note if decision else None,
        reviewer=decision.reviewer if decision else None,
    )
