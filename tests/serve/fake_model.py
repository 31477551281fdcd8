"""What the fakes of TGI and vLLM share: a real tokenizer, a fixed reply for each adapter, and troubles on demand."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

REPLIES = {
    None: "The base goes on",
    "sawyer-sft-1": "Tea is made with hot water",
    "sawyer-rlf-1": "I am fine, thank you",
}


class FakeModel:
    """Says its replies token by token, as ids and pieces of text.

    ``trouble`` lists, by adapter (None: the base), what goes wrong with the next requests, one word each: a status,
    ``slow`` (silence in the middle), ``broken`` (the connection is cut in the middle), ``eof`` (the stream ends in the
    middle), ``garbled`` (no JSON), ``endless``. ``requests`` records bodies, ``headers`` those of the last request.
    """

    def __init__(self, folder: Path, context: int = 256) -> None:
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.bos, self.eos = (self.tokenizer.token_to_id(token) for token in ("<s>", "</s>"))
        self.context = context
        self.replies: dict[str | None, str] = dict(REPLIES)
        self.trouble: dict[str | None, list[str]] = {}
        self.requests: list[dict[str, Any]] = []
        self.headers: dict[str, str] = {}
        self.healthy = True
        self.adds_bos = True
        self.streams = 0
        """Streams that are open."""

    def encode(self, text: str) -> list[int]:
        """Tokens of a text, names of control tokens read as such."""
        return self.tokenizer.encode(text, add_special_tokens=self.adds_bos).ids

    def next_trouble(self, name: str | None) -> str | None:
        listed = self.trouble.get(name) or []
        return listed.pop(0) if listed else None

    def reply(self, name: str | None) -> list[tuple[int, str]]:
        """(id, text) of each token; a piece is empty until its character is whole, as both servers do."""
        ids = self.tokenizer.encode(self.replies[name], add_special_tokens=False).ids
        pieces, known = [], ""
        for end in range(1, len(ids) + 1):
            text = self.tokenizer.decode(ids[:end])
            text = known if text.endswith("\ufffd") else text
            pieces.append((ids[end - 1], text[len(known) :]))
            known = text
        return pieces

    async def said(self, name: str | None, most: int, trouble: str | None) -> AsyncIterator[tuple[int, str]]:
        """The tokens of a reply with EOS at its end, at most ``most``; and the troubles that lie in its middle."""
        tokens = [*self.reply(name), (self.eos, "")]
        for place, token in enumerate(tokens[:most]):
            middle = place == len(tokens) - 3
            if middle and trouble == "broken":
                raise ConnectionError("cut on purpose")
            if middle and trouble == "eof":
                return
            if middle and trouble == "slow":
                await asyncio.sleep(60)
            await asyncio.sleep(0)
            yield token
        while trouble == "endless":
            await asyncio.sleep(0)
            yield tokens[0]
