"""The events of one request on an event loop, whichever engine makes them."""

import asyncio
from typing import Self

from serve.engine import Event, Failed, Finished

CLOSING = "The server is shutting down. Try again when it is back."


class RowEvents:
    """Rows' events in the order they were told; ends after every row has finished or failed."""

    def __init__(self, rows: int) -> None:
        self._loop = asyncio.get_running_loop()
        self._events: asyncio.Queue[Event] = asyncio.Queue()
        self._open = set(range(rows))

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        if not self._open and self._events.empty():
            raise StopAsyncIteration
        event = await self._events.get()
        if isinstance(event, Finished | Failed):
            self._open.discard(event.row)
        return event
