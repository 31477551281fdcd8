"""Votes wait here while the disk is busy with those before them, and are then stored together."""

import asyncio
from collections import deque
from collections.abc import Sequence
from contextvars import Context

from starlette.concurrency import run_in_threadpool

from sawyer.store import CastVote, FeedbackStore, VoteRow

MOST = 256  # votes in one transaction: some 20 ms of work, and a bound for what one failure takes with it


class VoteQueue:
    """Stores votes of many requests in one transaction after the other, on one other thread.

    A vote whose client leaves while it waits is stored nevertheless: it was cast.
    """

    def __init__(self, store: FeedbackStore) -> None:
        self._store = store
        self._waiting: deque[tuple[CastVote, asyncio.Future[VoteRow]]] = deque()
        self._working: asyncio.Task[None] | None = None

    async def add(self, vote: CastVote) -> VoteRow:
        """The vote's receipt, once it is on the disk.

        Raises:
            StoreError: it is not stored, and why.
        """
        receipt: asyncio.Future[VoteRow] = asyncio.get_running_loop().create_future()
        self._waiting.append((vote, receipt))
        if self._working is None:
            # In a context of its own: what it logs is not the first request's.
            self._working = asyncio.create_task(self._work(), context=Context())
        return await receipt

    async def _work(self) -> None:
        try:
            while self._waiting:
                group = [self._waiting.popleft() for _ in range(min(MOST, len(self._waiting)))]
                await self._store_group(group)
        finally:
            self._working = None

    async def _store_group(self, group: list[tuple[CastVote, asyncio.Future[VoteRow]]]) -> None:
        told: Sequence[VoteRow | BaseException]
        try:
            told = await run_in_threadpool(self._store.add_votes, [vote for vote, _ in group])
        except BaseException as error:
            told = [error] * len(group)
            if not isinstance(error, Exception):  # the server ends
                raise
        finally:
            for (_, receipt), each in zip(group, told, strict=True):
                if receipt.done():  # its client has left
                    continue
                if isinstance(each, BaseException):
                    receipt.set_exception(each)
                else:
                    receipt.set_result(each)
