"""The API's routes with answers from a script, speaking the server's events: ``python -m tests.ui.fake_api 7861``."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, StreamingResponse

from sawyer.types import (
    CompareRequest,
    DeltaEvent,
    DoneEvent,
    EndEvent,
    ErrorDetail,
    ErrorEvent,
    Sampling,
    ServerInfo,
    TurnEvent,
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
    """

    replies: dict[str, tuple[str, float | None]] = field(default_factory=lambda: dict(REPLIES))
    failing: dict[str, str] = field(default_factory=dict)
    pause: float = 0.02
    ready: bool = True
    breaks_after: int | None = None
    holds_after: int | None = None
    refusal: tuple[int, dict[str, str], dict[str, Any]] | None = None
    vote_refusal: tuple[int, dict[str, Any]] | None = None
    asked: list[CompareRequest] = field(default_factory=list)
    forwarded: list[str | None] = field(default_factory=list)
    votes: list[tuple[str | None, VoteRequest]] = field(default_factory=list)
    hung_up: int = 0

    def info(self) -> ServerInfo:
        return ServerInfo(
            name="fake",
            stages=[stage for stage in ("base", "sft", "rlf") if stage in self.replies] if self.ready else [],
            ready=self.ready,
            rewards=True,
            sampling=Sampling(),
            context=512,
            max_tokens=256,
        )

    async def events(self, turn: int) -> AsyncIterator[str]:
        sent = 0
        try:
            stages = list(self.replies)
            yield _sse(TurnEvent(turn_id=f"turn-{turn}", conversation_id="conversation-1", stages=stages))
            words = {stage: _pieces(text) for stage, (text, _) in self.replies.items()}
            for step in range(max(len(pieces) for pieces in words.values()) + 1):
                for stage, pieces in words.items():
                    if sent == self.breaks_after:
                        return
                    event = self._event(stage, pieces, step)
                    if event is not None:
                        yield _sse(event)
                        sent += 1
                    while sent == self.holds_after:
                        await asyncio.sleep(0.02)
                await asyncio.sleep(self.pause)
            yield _sse(EndEvent())
        except asyncio.CancelledError:
            self.hung_up += 1
            raise

    def _event(self, stage: str, pieces: list[str], step: int) -> DeltaEvent | DoneEvent | ErrorEvent | None:
        if stage in self.failing:
            return ErrorEvent(stage=stage, error=ErrorDetail(message=self.failing[stage])) if step == 2 else None
        if step < len(pieces):
            return DeltaEvent(stage=stage, delta=pieces[step])
        if step > len(pieces):
            return None
        return DoneEvent(
            stage=stage,
            completion_id=f"completion-{stage}",
            reward=self.replies[stage][1],
            tokens=len(pieces),
            seconds=round(len(pieces) * 0.031, 2),
            finish_reason="length" if stage == "base" else "stop",
            version=None if stage == "base" else f"{stage}@1",
        )

    def app(self) -> FastAPI:
        """The routes the page uses."""
        app = FastAPI()
        app.get("/v1/info")(self._info)
        app.get("/readyz")(self._readyz)
        app.post("/v1/compare")(self._compare)
        app.post("/v1/feedback/votes")(self._vote)
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
        return StreamingResponse(self.events(len(self.asked)), media_type="text/event-stream")

    async def _vote(self, request: Request) -> Any:
        if self.vote_refusal is not None:
            return JSONResponse(self.vote_refusal[1], status_code=self.vote_refusal[0])
        vote = VoteRequest.model_validate_json(await request.body())
        self.votes.append((request.headers.get("idempotency-key"), vote))
        answer = VoteResponse(vote_id="vote-1", turn_id=vote.turn_id, choice=vote.choice, panes={})  # type: ignore[arg-type]
        return JSONResponse(answer.model_dump(), status_code=201)


def _pieces(text: str) -> list[str]:
    """Words with the blank before them, as tokens come."""
    words = text.split(" ")
    return [words[0], *(f" {word}" for word in words[1:])]


def _sse(event: TurnEvent | DeltaEvent | DoneEvent | ErrorEvent | EndEvent) -> str:
    return f"data: {json.dumps(event.model_dump(mode='json'))}\n\n"


if __name__ == "__main__":
    import uvicorn

    from ui.app import mount_ui

    port = int(sys.argv[1]) if len(sys.argv) > 1 else 7861
    uvicorn.run(mount_ui(FakeApi().app(), f"http://127.0.0.1:{port}"), port=port, log_level="info")
