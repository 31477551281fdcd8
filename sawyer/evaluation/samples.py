"""Which prompts stand in the sample table: a third the best, a third the worst, a third drawn at random. No picking."""

import random
from collections.abc import Sequence
from typing import Literal

Kind = Literal["best", "worst", "random"]

RULE = (
    "Prompts are ordered by the change in reward from {before} to {after}: the {best} largest rises, the {worst} "
    "largest falls, and {random} of the rest drawn with seed {seed}."
)
RULE_ALONE = (
    "Prompts are ordered by reward: the {best} highest, the {worst} lowest, and {random} of the rest, seed {seed}."
)


def choose_rows(figures: Sequence[float], count: int, seed: int) -> list[tuple[Kind, int]]:
    """Choose at most ``count`` prompts by ``figures`` (one a prompt: the change in reward, or the reward).

    Returns:
        (kind, index): the best in falling order, the worst from the lowest up, then the random ones by index. No index
        comes twice; equal figures are ordered by index. Where a third is no whole number, the random ones get the rest.
    """
    count = min(count, len(figures))
    third = count // 3
    falling = sorted(range(len(figures)), key=lambda index: (-figures[index], index))
    best, worst = falling[:third], falling[len(falling) - third :][::-1]
    rest = sorted(set(falling) - set(best) - set(worst))
    drawn = sorted(random.Random(f"{seed}:samples").sample(rest, count - 2 * third))
    parts: list[tuple[Kind, list[int]]] = [("best", best), ("worst", worst), ("random", drawn)]
    return [(kind, index) for kind, indices in parts for index in indices]


def explain_rule(stages: Sequence[str], kinds: Sequence[Kind], seed: int) -> str:
    """The rule in words, for the report."""
    counts = {kind: list(kinds).count(kind) for kind in ("best", "worst", "random")}
    if len(stages) < 2:
        return RULE_ALONE.format(**counts, seed=seed)
    return RULE.format(before=stages[-2], after=stages[-1], **counts, seed=seed)
