"""The API as the page sees it: one coroutine or async iterator per route, failures as ``ApiFailure``."""

import json
from collections.abc import AsyncGenerator
from typing import Literal

import httpx
from pydantic import BaseModel, ValidationError

from sawyer.types import (
    Board,
    CompareRequest,
    DeltaEvent,
    DoneEvent,
    EndEvent,
    ErrorEvent,
    Health,
    QueuedEvent,
    RatingRequest,
    RatingResponse,
    ServerInfo,
    TurnEvent,
    UndoRequest,
    UndoResponse,
    VoteRequest,
    VoteResponse,
    parse_event,
)
from ui import failures, texts
from ui.failures import ApiFailure
from ui.http import Model, answer, connect, parsed
from ui.sse import payloads

Event = TurnEvent | QueuedEvent | DeltaEvent | DoneEvent | ErrorEvent | EndEvent
KNOWN_EVENTS = frozenset({"turn", "queued", "delta", "done", "error", "end"})


class ApiClient:
    """Speaks to the API at ``api_url``.

    ``transport`` replaces the network, which tests use. ``api_key`` is the page's own, where the API asks for one.
    ``visitor`` arguments carry the address of the person in
    front of the page as X-Forwarded-For, so that per-client limits count people and not this page.
    """

    def __init__(self, api_url: str, transport: httpx.AsyncBaseTransport | None = None, api_key: str | None = None):
        self.api_url = api_url.rstrip("/")
        self._http = connect(api_url, transport, api_key)

    async def info(self) -> ServerInfo:
        """``GET /v1/info``."""
        return parsed(ServerInfo, await answer(self._http, "GET", "/v1/info"))

    async def board(
        self, by: Literal["stage", "version"], blind: bool | None = None, visitor: str | None = None
    ) -> Board:
        """``GET /v1/feedback/board``; ``blind``: blind votes alone, open ones alone, or all (None)."""
        chosen = {"by": by} | ({} if blind is None else {"blind": str(blind).lower()})
        route = "/v1/feedback/board"
        return parsed(Board, await answer(self._http, "GET", route, params=chosen, headers=_forwarded(visitor)))

    async def readiness(self) -> Health:
        """``GET /readyz``, whose answer explains itself when it is not ready (503)."""
        try:
            response = await self._http.get("/readyz")
        except httpx.HTTPError as error:
            raise failures.from_transport(error, answering=False) from error
        return parsed(Health, response)

    async def compare(self, request: CompareRequest, visitor: str | None = None) -> AsyncGenerator[Event, None]:
        """``POST /v1/compare``: the events as they arrive, the last one ``EndEvent``.

        Closing the iterator closes the connection, which tells the server to stop generating.

        Raises:
            ApiFailure: refused, unreachable, garbled, or broken off before ``EndEvent``.
        """
        answering = False
        body = request.model_dump_json(exclude_none=True)
        headers = {"Content-Type": "application/json", "Accept": "text/event-stream", **_forwarded(visitor)}
        try:
            async with self._http.stream("POST", "/v1/compare", content=body, headers=headers) as response:
                if response.status_code >= 400:
                    await response.aread()
                    raise failures.from_response(response)
                answering = True
                async for payload in payloads(response.aiter_lines()):
                    event = _event(payload)
                    if event is None:
                        continue
                    yield event
                    if isinstance(event, EndEvent):
                        return
        except httpx.HTTPError as error:
            raise failures.from_transport(error, answering=answering) from error
        raise ApiFailure(texts.BROKEN_OFF)

    async def vote(self, vote: VoteRequest, key: str, visitor: str | None = None) -> VoteResponse:
        """``POST /v1/feedback/votes``. Arguments as :meth:`_store`."""
        return await self._store("votes", vote, VoteResponse, key, visitor)

    async def undo(self, undo: UndoRequest, key: str, visitor: str | None = None) -> UndoResponse:
        """``POST /v1/feedback/undo``. Arguments as :meth:`_store`."""
        return await self._store("undo", undo, UndoResponse, key, visitor)

    async def rate(self, rating: RatingRequest, key: str, visitor: str | None = None) -> RatingResponse:
        """``POST /v1/feedback/ratings``. Arguments as :meth:`_store`."""
        return await self._store("ratings", rating, RatingResponse, key, visitor)

    async def _store(self, route: str, sent: BaseModel, expected: type[Model], key: str, visitor: str | None) -> Model:
        """Feedback that is on the server's disk when this returns; asked once more if the connection broke.

        ``key`` is the Idempotency-Key: one per click, so that a vote whose answer got lost is not counted twice.
        """
        headers = {"Content-Type": "application/json", "Idempotency-Key": key, **_forwarded(visitor)}
        # Only what was set: a thumb that is taken back is an explicit null.
        body = sent.model_dump_json(exclude_unset=True)
        try:
            try:
                response = await self._http.post(f"/v1/feedback/{route}", content=body, headers=headers)
            except (httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError):
                response = await self._http.post(f"/v1/feedback/{route}", content=body, headers=headers)
        except httpx.HTTPError as error:
            raise failures.from_transport(error, answering=False) from error
        if response.status_code >= 400:
            raise failures.from_response(response)
        return parsed(expected, response)

    async def aclose(self) -> None:
        """Give the connections back."""
        await self._http.aclose()


def _event(payload: str) -> Event | None:
    """One payload as its event; None for kinds that only a newer server knows.

    An error sent in mid-stream in OpenAI's bare shape, without ``event``, fails the whole comparison.
    """
    if payload == "[DONE]":
        return None
    try:
        return parse_event(payload)
    except ValidationError as error:
        detail = failures.error_detail(payload)
        if detail is not None:
            return ErrorEvent(error=detail)
        if _is_newer(payload):
            return None
        raise ApiFailure(texts.GARBLED) from error


def _is_newer(payload: str) -> bool:
    try:
        event = json.loads(payload)
    except ValueError:
        return False
    return isinstance(event, dict) and isinstance(event.get("event"), str) and event["event"] not in KNOWN_EVENTS


def _forwarded(visitor: str | None) -> dict[str, str]:
    return {"X-Forwarded-For": visitor} if visitor else {}
