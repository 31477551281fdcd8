"""Colours of the plots: custom properties on the page, so that they follow light and dark; fixed ones in a file."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Palette:
    """One colour per part. ``card`` fills what must cover a line behind it."""

    ink: str
    soft: str
    line: str
    track: str
    card: str
    base: str
    sft: str
    rlf: str
    bad: str
    background: str | None = None

    def of(self, contestant: str) -> str:
        """The colour of a stage, a version of one, or a verdict."""
        stage = contestant.partition("@")[0]
        return {"base": self.base, "sft": self.sft, "rlf": self.rlf, "bad": self.bad}.get(stage, self.soft)


PAGE = Palette(
    ink="var(--sw-ink)",
    soft="var(--sw-soft)",
    line="var(--sw-line)",
    track="var(--sw-track)",
    card="var(--sw-card)",
    base="var(--sw-base)",
    sft="var(--sw-sft)",
    rlf="var(--sw-rlf)",
    bad="var(--sw-bad)",
)

# The light values of assets/frame.css: a downloaded picture goes onto paper and slides.
FILE = Palette(
    ink="#24282c",
    soft="#62676b",
    line="#e4dfd6",
    track="#ebe7df",
    card="#ffffff",
    base="#98866d",
    sft="#3f78ad",
    rlf="#2c8a6f",
    bad="#a8452f",
    background="#ffffff",
)


def shades(contestants: Sequence[str]) -> dict[str, float]:
    """How strongly each is drawn: versions of one stage share its colour, the later ones are stronger."""
    stages = [contestant.partition("@")[0] for contestant in contestants]
    found = {}
    for place, (contestant, stage) in enumerate(zip(contestants, stages, strict=True)):
        later = stages[place + 1 :].count(stage)
        found[contestant] = max(1 - 0.3 * later, 0.25)
    return found
