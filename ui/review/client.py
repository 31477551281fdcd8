"""The admin routes as the page sees them. The reviewer's key goes with each request and is kept nowhere."""

from typing import Any, TypeVar

import httpx
from pydantic import BaseModel

from sawyer.types import (
    FeedbackFilter,
    FeedbackPage,
    PromoteRequest,
    RedactRequest,
    RedactResponse,
    RegistryState,
    ReviewRequest,
    ReviewResponse,
    RollbackRequest,
    RoundDetail,
    RoundList,
    RoundSummary,
    StartRound,
    VoterList,
)
from ui.http import answer, connect, parsed

Model = TypeVar("Model", bound=BaseModel)

PAGE = 25
"""Votes at a time: about what one reads before a rest, and little to send when one of them changes."""


class AdminClient:
    """``/v1/admin/…`` of the API at ``api_url``; every coroutine raises ``ApiFailure``.

    ``transport`` replaces the network between page and API.
    """

    def __init__(self, api_url: str, transport: httpx.AsyncBaseTransport | None = None):
        self._http = connect(api_url, transport)

    async def feedback(self, key: str, chosen: FeedbackFilter, before: str | None = None) -> FeedbackPage:
        """One page of the votes that a filter shows, newest first."""
        asked = query(chosen) | {"limit": str(PAGE)} | ({"before": before} if before else {})
        return await self._ask(FeedbackPage, key, "GET", "feedback", params=asked)

    async def export(self, key: str, chosen: FeedbackFilter, form: str) -> bytes:
        """The training data in what a filter shows, as JSON lines."""
        asked = query(chosen) | {"form": form, "format": "jsonl"}
        return (await self._answer(key, "GET", "export", params=asked)).content

    async def voters(self, key: str) -> VoterList:
        return await self._ask(VoterList, key, "GET", "voters")

    async def review(self, key: str, request: ReviewRequest) -> ReviewResponse:
        return await self._send(ReviewResponse, key, "reviews", request)

    async def redact(self, key: str, request: RedactRequest) -> RedactResponse:
        return await self._send(RedactResponse, key, "redact", request)

    async def versions(self, key: str) -> RegistryState:
        return await self._ask(RegistryState, key, "GET", "versions")

    async def promote(self, key: str, request: PromoteRequest) -> RegistryState:
        return await self._send(RegistryState, key, "promote", request)

    async def rollback(self, key: str, request: RollbackRequest) -> RegistryState:
        return await self._send(RegistryState, key, "rollback", request)

    async def rounds(self, key: str) -> RoundList:
        return await self._ask(RoundList, key, "GET", "rounds")

    async def round(self, key: str, number: int) -> RoundDetail:
        return await self._ask(RoundDetail, key, "GET", f"rounds/{number}")

    async def start(self, key: str, request: StartRound) -> RoundSummary:
        return await self._send(RoundSummary, key, "rounds", request)

    async def stop(self, key: str, number: int) -> None:
        await self._answer(key, "POST", f"rounds/{number}/stop")

    async def _send(self, model: type[Model], key: str, route: str, request: BaseModel) -> Model:
        body = request.model_dump_json(exclude_none=True)
        return await self._ask(model, key, "POST", route, content=body, headers={"Content-Type": "application/json"})

    async def _ask(self, model: type[Model], key: str, method: str, route: str, **options: Any) -> Model:
        return parsed(model, await self._answer(key, method, route, **options))

    async def _answer(self, key: str, method: str, route: str, **options: Any) -> httpx.Response:
        headers = {"Authorization": f"Bearer {key}", **options.pop("headers", {})}
        return await answer(self._http, method, f"/v1/admin/{route}", headers=headers, **options)


def query(chosen: FeedbackFilter) -> dict[str, str]:
    """A filter as query parameters; what it leaves open is left out."""
    given = chosen.model_dump(exclude_none=True)
    return {name: str(value).lower() if isinstance(value, bool) else str(value) for name, value in given.items()}
