"""Server-sent events, whole and broken."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from ui.sse import payloads


def read(*lines: str) -> list[str]:
    async def stream() -> AsyncIterator[str]:
        for line in lines:
            yield line

    async def collect() -> list[str]:
        return [payload async for payload in payloads(stream())]

    return asyncio.run(collect())


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (["data: a", "", "data: b", ""], ["a", "b"]),
        (["data:a", ""], ["a"]),
        (["data:  a", ""], [" a"]),
        (["data: a", "data: b", ""], ["a\nb"]),
        (["event: delta", "id: 7", "retry: 10", "data: a", ""], ["a"]),
        ([": keep-alive", "", "data: a", ""], ["a"]),
        (["data: a\r", "\r"], ["a"]),
        (["", "", ""], []),
        ([], []),
    ],
)
def test_payloads(lines: list[str], expected: list[str]) -> None:
    assert read(*lines) == expected


def test_an_event_cut_off_before_its_blank_line_is_dropped() -> None:
    assert read("data: whole", "", 'data: {"event": "del') == ["whole"]
