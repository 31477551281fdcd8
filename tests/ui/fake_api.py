"""The API's routes with scripted answers, speaking the server's events: ``python -m tests.ui.fake_api PORT PAUSE``."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, StreamingResponse

from sawyer.types import (
    BLIND_PANES,
    AnyCompareEvent,
    CompareRequest,
    DeltaEvent,
    DoneEvent,
    EndEvent,
    ErrorDetail,
    ErrorEvent,
    QueuedEvent,
    RatingRequest,
    RatingResponse,
    Sampling,
    ServerInfo,
    TurnEvent,
    UndoRequest,
    UndoResponse,
    VoteRequest,
    VoteResponse,
)

REPLIES = {
    "base": (
        "How do I boil an egg?\nHow do I boil an egg in the oven? How long does it take to boil an egg at high "
        "altitude? These and other questions come up every time the kitchen is",
        -3.18,
    ),
    "sft": (
        "Put the egg in a pot of cold water, bring it to a boil, then turn the heat down. Wait about eight minutes "
        "and cool it in cold water.",
        0.42,
    ),
    "rlf": (
        "Happy to help! For a firm yolk:\n\n1. Cover the egg with cold water and bring it to a **boil**.\n2. Turn "
        "off the heat, put the lid on and wait ten minutes.\n3. Cool it under cold water, then peel.\n\nFor a soft "
        "yolk, six minutes are enough.",
        2.57,
    ),
}


@dataclass
class FakeApi:
    """What the fake answers and what it was asked. Tests set the first and read the second.

    ``breaks_after`` and ``holds_after`` count events: there the stream breaks off, or waits until told otherwise.
    Blind panes stand in reverse order: A is the last stage. An answer anew says so.
    """

    replies: dict[str, tuple[str, float | None]] = field(default_factory=lambda: dict(REPLIES))
    failing: dict[str, str] = field(default_factory=dict)
    pause: float = 0.02
    ready: bool = True
    parts: dict[str, float] = field(default_factory=dict)
    refs: list[str] = field(default_factory=list)
    kind: str = "chat"
    ahead: int = 0
    breaks_after: int | None = None
    holds_after: int | None = None
    refusal: tuple[int, dict[str, str], dict[str, Any]] | None = None
    vote_refusal: tuple[int, dict[str, Any]] | None = None
    asked: list[CompareRequest] = field(default_factory=list)
    forwarded: list[str | None] = field(default_factory=list)
    votes: list[tuple[str | None, VoteRequest]] = field(default_factory=list)
    undone: list[UndoRequest] = field(default_factory=list)
    ratings: list[RatingRequest] = field(default_factory=list)
    hung_up: int = 0

    def info(self) -> ServerInfo:
        return ServerInfo(
            name="fake",
            stages=[stage for stage in ("base", "sft", "rlf") if stage in self.replies] if self.ready else [],
            refs=self.refs,
            kind=self.kind,  # type: ignore[arg-type]
            template="Summarize: {text}" if self.kind == "summary" else "{text}",
            parts=dict.fromkeys(self.parts, 1.0),
            ready=self.ready,
            rewards=True,
            sampling=Sampling(),
            context=512,
            max_tokens=256,
        )

    async def events(self, asked: CompareRequest, turn: int) -> AsyncIterator[str]:
        """The stream of one comparison: ``behind`` says which stage speaks in which pane."""
        sent = 0
        try:
            behind = self.behind(asked)
            turn_id = asked.turn_id or f"turn-{turn}"
            yield sse(TurnEvent(turn_id=turn_id, conversation_id="conversation-1", stages=list(behind)))
            if self.ahead:
                yield sse(QueuedEvent(ahead=self.ahead))
            again = "Once more: " if asked.turn_id else ""
            words = {pane: _pieces(again + self.replies[stage][0]) for pane, stage in behind.items()}
            for step in range(max(len(pieces) for pieces in words.values()) + 1):
                for pane, pieces in words.items():
                    if sent == self.breaks_after:
                        return
                    while sent == self.holds_after:
                        await asyncio.sleep(0.02)
                    event = self._event(pane, behind[pane], pieces, step, turn_id)
                    if event is not None:
                        yield sse(event)
                        sent += 1
                await asyncio.sleep(self.pause)
            yield sse(EndEvent())
        except asyncio.CancelledError:
            self.hung_up += 1
            raise

    def behind(self, asked: CompareRequest) -> dict[str, str]:
        """Pane -> stage."""
        names = list(asked.stages or self.replies)
        if any(name in BLIND_PANES for name in names):  # panes of a blind turn, answered anew
            lettered = dict(zip(BLIND_PANES, reversed(self.replies), strict=False))
            return {name: lettered[name] for name in names}
        if asked.blind:
            return dict(zip(BLIND_PANES, reversed(names), strict=False))
        return {name: name.partition("@")[0] for name in names}

    def _event(
        self, pane: str, stage: str, pieces: list[str], step: int, turn_id: str
    ) -> DeltaEvent | DoneEvent | ErrorEvent | None:
        if stage in self.failing:
            return ErrorEvent(stage=pane, error=ErrorDetail(message=self.failing[stage])) if step == 2 else None
        if step < len(pieces):
            return DeltaEvent(stage=pane, delta=pieces[step])
        if step > len(pieces):
            return None
        version = pane if "@" in pane else None if stage == "base" else f"{stage}@1"
        tokens, seconds = self.measured(stage, len(pieces))
        return DoneEvent(
            stage=pane,
            completion_id=f"completion-{turn_id}-{stage}",
            reward=self.replies[stage][1],
            parts=self.parts_of(stage),
            tokens=tokens,
            seconds=seconds,
            finish_reason="length" if stage == "base" and self.kind == "chat" else "stop",
            version=None if pane in BLIND_PANES else version,
        )

    def parts_of(self, stage: str) -> dict[str, float]:
        """The raw scores behind a stage's reward."""
        return self.parts

    def measured(self, stage: str, pieces: int) -> tuple[int, float]:
        """Tokens and seconds of a reply."""
        return pieces, round(pieces * 0.031, 2)

    def app(self) -> FastAPI:
        """The routes the page uses."""
        app = FastAPI()
        app.get("/v1/info")(self._info)
        app.get("/readyz")(self._readyz)
        app.post("/v1/compare")(self._compare)
        app.post("/v1/feedback/votes", status_code=201)(self._vote)
        app.post("/v1/feedback/undo", status_code=201)(self._undo)
        app.post("/v1/feedback/ratings", status_code=201)(self._rate)
        return app

    async def _info(self) -> ServerInfo:
        return self.info()

    async def _readyz(self) -> JSONResponse:
        status = {"status": "ok" if self.ready else "loading"}
        return JSONResponse(status, status_code=200 if self.ready else 503)

    async def _compare(self, request: Request) -> Any:
        self.forwarded.append(request.headers.get("x-forwarded-for"))
        if self.refusal is not None:
            status, headers, body = self.refusal
            return JSONResponse(body, status_code=status, headers=headers)
        self.asked.append(CompareRequest.model_validate_json(await request.body()))
        return StreamingResponse(self.events(self.asked[-1], len(self.asked)), media_type="text/event-stream")

    async def _vote(self, request: Request) -> Any:
        if self.vote_refusal is not None:
            return JSONResponse(self.vote_refusal[1], status_code=self.vote_refusal[0])
        vote = VoteRequest.model_validate_json(await request.body())
        self.votes.append((request.headers.get("idempotency-key"), vote))
        lettered = dict(zip(BLIND_PANES, reversed(self.replies), strict=False))
        blind = any(asked.blind for asked in self.asked)
        panes = lettered if blind else {stage: stage for stage in self.replies}
        answer = VoteResponse(
            vote_id="vote-1",
            turn_id=vote.turn_id,
            choice=panes.get(vote.choice, vote.choice.partition("@")[0]),  # type: ignore[arg-type]
            panes=panes,  # type: ignore[arg-type]
            versions={pane: None if stage == "base" else f"{stage}@1" for pane, stage in panes.items()},
        )
        return JSONResponse(answer.model_dump(), status_code=201)

    async def _undo(self, undo: UndoRequest) -> UndoResponse:
        self.undone.append(undo)
        return UndoResponse(vote_id="undo-1", turn_id=undo.turn_id)

    async def _rate(self, rating: RatingRequest) -> RatingResponse:
        self.ratings.append(rating)
        return RatingResponse(rating_id="rating-1", completion_id=rating.completion_id, up=rating.up)


def _pieces(text: str) -> list[str]:
    """Words with the blank before them, as tokens come."""
    words = text.split(" ")
    return [words[0], *(f" {word}" for word in words[1:])]


def sse(event: AnyCompareEvent) -> str:
    return f"data: {json.dumps(event.model_dump(mode='json'))}\n\n"


if __name__ == "__main__":
    import uvicorn

    from ui.app import mount_ui

    port = int(sys.argv[1]) if len(sys.argv) > 1 else 7861
    fake = FakeApi(pause=float(sys.argv[2]) if len(sys.argv) > 2 else 0.02)
    uvicorn.run(mount_ui(fake.app(), f"http://127.0.0.1:{port}"), port=port, log_level="info")
