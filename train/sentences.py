"""Sentences of running text, for tasks that are made of single ones."""

import re
from collections.abc import Iterable, Iterator, Sequence

from sawyer.data import load_texts
from sawyer.recipe import DataSource

END = re.compile(r"(?<=[.!?])\s+|\n+")
FEWEST, MOST = 3, 40  # words: shorter pieces are exclamations, longer ones lists without full stops


def sentences_of(text: str) -> list[str]:
    """The sentences of a text, split after full stops, question and exclamation marks and at line ends.

    Abbreviations ("Mr. Reece") are split too: what is made of sentences here bears it.
    """
    return [piece.strip() for piece in END.split(text) if piece.strip()]


def whole_sentences(texts: Iterable[str]) -> list[str]:
    """Every different sentence of the texts, in order of appearance, that is written out.

    It ends in a mark, does not begin with a small letter and has from 3 to 40 words.
    """
    found: dict[str, None] = {}
    for text in texts:
        for sentence in sentences_of(text):
            if sentence[-1] in ".!?" and not sentence[0].islower() and FEWEST <= len(sentence.split()) <= MOST:
                found.setdefault(sentence)
    return list(found)


def source_sentences(sources: Sequence[DataSource], seed: int) -> list[str]:
    """The written-out sentences of ``sources``; of conversations the assistant's alone, as people type carelessly.

    Raises:
        DataError: a source is missing or empty.
    """

    def texts() -> Iterator[str]:
        for source in sources:
            for document in load_texts(source, seed):
                yield document.text or "\n".join(m["content"] for m in document.messages if m["role"] == "assistant")

    return whole_sentences(texts())


def first_sentences(texts: Sequence[str]) -> list[str]:
    """The first sentence of each text: the summary that is hard to beat for news."""
    return [next(iter(sentences_of(text)), "") for text in texts]
