"""Server-sent events: lines in, ``data`` payloads out (WHATWG HTML, section 9.2.6)."""

from collections.abc import AsyncIterable, AsyncIterator


async def payloads(lines: AsyncIterable[str]) -> AsyncIterator[str]:
    """The ``data`` of each event, lines of one event joined by a newline.

    Comments (keep-alives), event names, ids and retry hints are skipped: the API says everything in the data. An
    event that the end of the stream cut off before its blank line is dropped, as the standard asks.
    """
    data: list[str] = []
    async for line in lines:
        line = line.rstrip("\r\n")
        if not line:
            if data:
                yield "\n".join(data)
                data = []
            continue
        field, _, value = line.partition(":")
        if field == "data":
            data.append(value.removeprefix(" "))
