"""From a stream of small events to batches at the rate a browser can paint, and the switch that ends them."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from typing import TypeVar

Item = TypeVar("Item")

INTERVAL = 0.08
"""Seconds between two paints: fast enough to look like typing, slow enough for three panes on a phone."""


class StopSwitches:
    """One switch per visitor whose answers are streaming.

    The stop button runs as its own event while the streaming one holds the chat; it only throws the switch, and the
    streaming event, sole writer of the chat, ends itself.
    """

    def __init__(self) -> None:
        self._switches: dict[str, asyncio.Event] = {}

    def arm(self, visitor: str) -> asyncio.Event:
        self._switches[visitor] = asyncio.Event()
        return self._switches[visitor]

    def throw(self, visitor: str) -> None:
        """Nothing happens when nothing is streaming."""
        if visitor in self._switches:
            self._switches[visitor].set()

    def disarm(self, visitor: str, switch: asyncio.Event) -> None:
        """Forget ``switch``, unless the visitor has meanwhile armed another one."""
        if self._switches.get(visitor) is switch:
            del self._switches[visitor]


async def batches(
    items: AsyncGenerator[Item, None], stop: asyncio.Event, interval: float = INTERVAL
) -> AsyncIterator[list[Item]]:
    """What ``items`` yields, gathered into lists at least ``interval`` seconds apart.

    Ends early when ``stop`` is set; ``items`` is then closed, and with it the connection behind it. An exception of
    ``items`` is raised after everything that came before it was yielded.
    """
    queue: asyncio.Queue[Item] = asyncio.Queue()
    pump = asyncio.create_task(_pump(items, queue))
    stopped = asyncio.create_task(stop.wait())
    try:
        while not stop.is_set():
            await asyncio.wait({pump, stopped}, timeout=interval, return_when=asyncio.FIRST_COMPLETED)
            # Asked before the queue is emptied: what comes while a slow reader has the batch is for the next one.
            ended = pump.done()
            batch = [queue.get_nowait() for _ in range(queue.qsize())]
            if batch and not stop.is_set():
                yield batch
            if ended:
                await pump
                return
    finally:
        # Also on the way out of a cancelled page: a pump left behind would keep the model busy for nobody.
        pump.cancel()
        stopped.cancel()
        await asyncio.gather(pump, stopped, return_exceptions=True)


async def _pump(items: AsyncGenerator[Item, None], queue: asyncio.Queue[Item]) -> None:
    try:
        async for item in items:
            queue.put_nowait(item)
    finally:
        await items.aclose()
