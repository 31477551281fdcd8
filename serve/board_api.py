"""``GET /v1/feedback/board``: what the votes say. Worked out off the event loop, and no more often than it must be."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Query
from starlette.concurrency import run_in_threadpool

from sawyer.preferences import BallotBox, make_board
from sawyer.store import FeedbackStore
from sawyer.types import Board, BoardQuery, RoundSummary
from serve.errors import ApiError
from serve.service import Service

FRESH_SECONDS = 2.0
"""A board is not looked at again before it is this old, whatever was voted meanwhile."""
SHARE = 0.1
"""A board that took t seconds is kept for t / SHARE: many viewers of a large store cost a tenth of one core."""
KEPT = 32
"""Boards of different queries in memory, at most."""
WAITING = 32
"""Requests that may wait for a board, at most; each query beside the usual ones takes a second of a core or more."""


def make_router(service: Service, rounds: Callable[[], Sequence[RoundSummary]] = tuple) -> APIRouter:
    """Route ``/v1/feedback/board``. ``rounds`` reads the rounds, newest first, each time the board is asked for."""
    router, boards = APIRouter(), Boards(service.recorder.store)

    @router.get("/v1/feedback/board", summary="What the votes say, every figure with its n and interval")
    async def board(query: Annotated[BoardQuery, Query()]) -> Board:
        found = await boards.get(query)
        return found.model_copy(update={"rounds": list(await run_in_threadpool(rounds))})

    return router


@dataclass(frozen=True)
class _Entry:
    board: Board
    revision: tuple[int, int, int]
    until: float  # monotonic: not looked at again before


class Boards:
    """The newest boards of one store.

    One is worked out at a time; who asks for it meanwhile waits on the event loop and holds no thread.
    """

    def __init__(self, store: FeedbackStore) -> None:
        self._entries: OrderedDict[str, _Entry] = OrderedDict()
        self._box = BallotBox(store)
        self._working = asyncio.Lock()
        self._waiting = 0

    async def get(self, query: BoardQuery) -> Board:
        """The board of a query, of this moment or nearly so.

        Raises:
            StoreError: the store cannot be read. ApiError: too many wait for boards.
        """
        key = query.model_dump_json()
        if (entry := self._fresh(key)) is not None:
            return entry.board
        if self._waiting >= WAITING:
            text = f"{WAITING} requests wait for a board already. Try again in a moment."
            raise ApiError(429, text, code="board_busy", retry_after=FRESH_SECONDS)
        self._waiting += 1
        try:
            async with self._working:
                return (self._fresh(key) or await self._renew(key, query)).board
        finally:
            self._waiting -= 1

    async def _renew(self, key: str, query: BoardQuery) -> _Entry:
        entry = self._entries[key] = await run_in_threadpool(self._look, query, self._entries.get(key))
        self._entries.move_to_end(key)
        while len(self._entries) > KEPT:
            self._entries.popitem(last=False)
        return entry

    def _fresh(self, key: str) -> _Entry | None:
        entry = self._entries.get(key)
        return entry if entry is not None and time.monotonic() < entry.until else None

    def _look(self, query: BoardQuery, before: _Entry | None) -> _Entry:
        began = time.monotonic()
        revision, ballots = self._box.ballots()
        if before is not None and before.revision == revision:
            return _Entry(before.board, revision, began + FRESH_SECONDS)
        board = make_board(ballots, query, updated=time.time())
        seconds = time.monotonic() - began
        return _Entry(board, revision, began + seconds + max(FRESH_SECONDS, seconds / SHARE))
