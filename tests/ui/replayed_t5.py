"""What a trained tiny-t5-neutral once answered, so that a picture of the summaries page needs no training.

Taken from `sawyer serve` after 40 of the recipe's 60 PPO steps, at temperature 1 and seed 0, and chosen because the two
answers differ: at the page's 0.7 they are mostly the same.
"""

from dataclasses import dataclass, field

from tests.ui.fake_api import FakeApi

ARTICLE = (
    "A bakery in the village of Orford burned down early on Friday morning. It was a heartbreaking end for a wonderful "
    "shop that everybody loved. Nobody was hurt, and the owner hopes to open again in the spring."
)
REPLIES: dict[str, tuple[str, float | None]] = {
    "base": (
        "A bakery in the village of Orford burned feel use in the village of Orford burned down early on Friday "
        "morning.",
        -1.21,
    ),
    "rlf": ("A bakery in the village of Orford burned down early on Friday morning.", 0.24),
}
PARTS = {
    "base": {"acceptability": -1.46, "neutral": -1.49},
    "rlf": {"acceptability": -0.94, "neutral": 3.44},
}
MEASURED = {"base": (30, 0.142), "rlf": (19, 0.109)}
"""Tokens and seconds."""


@dataclass
class ReplayedT5(FakeApi):
    """The scripted API with these answers."""

    replies: dict[str, tuple[str, float | None]] = field(default_factory=lambda: dict(REPLIES))
    kind: str = "summary"
    parts: dict[str, float] = field(default_factory=lambda: dict(PARTS["rlf"]))

    def parts_of(self, stage: str) -> dict[str, float]:
        return PARTS[stage]

    def measured(self, stage: str, pieces: int) -> tuple[int, float]:
        return MEASURED[stage]
