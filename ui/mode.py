"""The ways to talk: with open eyes, blind, or to a model that summarises. One page each, the same parts."""

from dataclasses import dataclass

from ui import texts


@dataclass(frozen=True)
class Mode:
    """``hint`` is for a first visit, ``prompt`` asks for the vote.

    ``single``: every question stands for itself, there is no conversation. ``blind``: panes are named by letters.
    """

    path: str
    title: str
    tagline: str
    placeholder: str
    ask: str
    hint: tuple[str, ...] = texts.HINT
    prompt: str = texts.VOTE_PROMPT
    blind: bool = False
    single: bool = False


COMPARE = Mode("", texts.COMPARE, texts.TAGLINE, texts.PLACEHOLDER, texts.ASK)
ARENA = Mode("arena", texts.ARENA, texts.ARENA_TAGLINE, texts.PLACEHOLDER, texts.ASK, blind=True)
SUMMARIES = Mode(
    "summaries",
    texts.SUMMARIES,
    texts.SUMMARIES_TAGLINE,
    texts.ARTICLE_PLACEHOLDER,
    texts.SUMMARISE,
    texts.SUMMARIES_HINT,
    texts.SUMMARIES_PROMPT,
    single=True,
)
