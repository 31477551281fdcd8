"""Events on their way to a browser: none is lost, whoever is slow, and a stopped stream hangs up."""

import asyncio
from collections.abc import AsyncGenerator

import pytest

from ui.pacing import batches


async def counting(count: int, closed: list[bool]) -> AsyncGenerator[int, None]:
    try:
        for number in range(count):
            yield number
            await asyncio.sleep(0.0005)
    finally:
        closed.append(True)


@pytest.mark.parametrize("slow", [0.0, 0.05])
def test_a_slow_reader_gets_every_event(slow: float) -> None:
    async def read() -> list[int]:
        seen: list[int] = []
        async for batch in batches(counting(60, []), asyncio.Event(), interval=0.0005):
            seen += batch
            await asyncio.sleep(slow)  # meanwhile the stream goes on, and ends
        return seen

    assert asyncio.run(read()) == list(range(60))


def test_an_error_comes_after_everything_that_was_sent_before_it() -> None:
    async def failing() -> AsyncGenerator[int, None]:
        yield 1
        await asyncio.sleep(0.01)
        yield 2
        raise ValueError("broken off")

    async def read() -> list[int]:
        seen: list[int] = []
        with pytest.raises(ValueError, match="broken off"):
            async for batch in batches(failing(), asyncio.Event(), interval=0.001):
                seen += batch
                await asyncio.sleep(0.05)
        return seen

    assert asyncio.run(read()) == [1, 2]


def test_a_thrown_switch_ends_the_stream_and_hangs_up() -> None:
    async def read() -> tuple[int, list[bool]]:
        stop, closed, seen = asyncio.Event(), [], 0
        async for batch in batches(counting(10**6, closed), stop, interval=0.001):
            seen += len(batch)
            stop.set()
        return seen, closed

    seen, closed = asyncio.run(read())
    assert 0 < seen < 10**6 and closed == [True]
