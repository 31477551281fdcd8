"""The parts of a reward and its guard, each by itself: means by stage and paired tests between stages."""

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np

from sawyer.evaluation import stats
from sawyer.evaluation.figures import Answers, interval
from sawyer.evaluation.report import Interval, PairFigures, PartComparison, PartFigures
from sawyer.scoring import TextScorer, TotalScorer

Role = Literal["reward", "guard", "judge"]


def part_figures(
    answers: Sequence[Answers], pairs: Sequence[PairFigures], scorer: TextScorer, roles: Mapping[str, Role], seed: int
) -> list[PartFigures]:
    """Figures of every part, in its own units; empty for a reward of one part without a guard.

    Args:
        answers: with ``parts`` filled in.
        roles: of those among them that are no part of the reward, by name.
    """
    weights = {part.name: part.weight for part in scorer.reward.parts} if isinstance(scorer, TotalScorer) else {}
    return [
        PartFigures(
            name=name,
            role=roles.get(name, "reward"),
            weight=weights.get(name),
            means={answer.stage: _mean(answer.parts[name], seed) for answer in answers},
            comparisons=[_comparison(name, pair, answers) for pair in pairs],
        )
        for name in answers[0].parts
    ]


def _mean(scores: np.ndarray, seed: int) -> Interval:
    return interval(stats.bootstrap(scores[np.isfinite(scores)], "mean", seed=seed))


def _comparison(name: str, pair: PairFigures, answers: Sequence[Answers]) -> PartComparison:
    """A paired comparison over the prompts that both stages answered with some text."""
    scores = {answer.stage: answer.parts[name] for answer in answers}
    both = np.isfinite(scores[pair.before]) & np.isfinite(scores[pair.after])
    tests = stats.compare(scores[pair.before][both], scores[pair.after][both])
    return PartComparison(
        before=pair.before,
        after=pair.after,
        n=int(both.sum()),
        difference=interval(tests.difference),
        t_p=tests.t_p,
        wilcoxon_p=tests.wilcoxon_p,
    )
