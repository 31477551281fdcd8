"""What benchmark results prove: intervals of each stage, and tests between stages on the same questions."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from scipy import stats as scipy_stats

from sawyer.estimates import Estimate, wilson
from sawyer.evaluation import stats
from sawyer.evaluation.figures import interval
from sawyer.evaluation.report import BenchmarkComparison, BenchmarkFigures

CHANCE = {"mmlu": 0.25}


def benchmark_figures(
    found: Mapping[str, Mapping[str, np.ndarray]],
    metrics: Mapping[str, str],
    pairs: Sequence[tuple[str, str]],
    seed: int,
) -> list[BenchmarkFigures]:
    """Figures of each benchmark; several subjects of MMLU are also taken together, every question counting once.

    Args:
        found: benchmark -> stage -> ``[n]`` score of each question. pairs: (before, after).
    """
    subjects = [name for name in found if name.startswith("mmlu_")]
    whole = dict(found)
    if len(subjects) > 1:
        stages = found[subjects[0]]
        whole["mmlu"] = {stage: np.concatenate([found[name][stage] for name in subjects]) for stage in stages}
    made = [_figures(name, scores, metrics.get(name, "acc"), pairs, seed) for name, scores in whole.items()]
    corrected = iter(stats.holm([each.p for figures in made for each in figures.comparisons]))
    return [_with_holm(figures, corrected) for figures in made]


def _with_holm(figures: BenchmarkFigures, corrected: Iterator[float | None]) -> BenchmarkFigures:
    told = [each.model_copy(update={"p_holm": next(corrected)}) for each in figures.comparisons]
    return figures.model_copy(update={"comparisons": told})


def _figures(
    name: str, scores: Mapping[str, np.ndarray], metric: str, pairs: Sequence[tuple[str, str]], seed: int
) -> BenchmarkFigures:
    return BenchmarkFigures(
        name=name,
        metric=metric,
        n=len(next(iter(scores.values()))),
        chance=CHANCE.get(name.split("_")[0]),
        scores={stage: interval(share(values, seed)) for stage, values in scores.items()},
        comparisons=[_comparison(scores[one], scores[other], one, other, seed) for one, other in pairs],
    )


def share(values: np.ndarray, seed: int) -> Estimate:
    """A mean score with its 95 % interval: Wilson's where each question is right or wrong, else by bootstrap."""
    if is_right_or_wrong(values):
        return wilson(float(values.sum()), len(values), 0.95)
    return stats.bootstrap(values, "mean", seed=seed)


def is_right_or_wrong(values: np.ndarray) -> bool:
    return bool(np.isin(values, (0.0, 1.0)).all())


def _comparison(before: np.ndarray, after: np.ndarray, one: str, other: str, seed: int) -> BenchmarkComparison:
    difference = after - before
    gained, lost = int((difference > 0).sum()), int((difference < 0).sum())
    binary = is_right_or_wrong(before) and is_right_or_wrong(after)
    return BenchmarkComparison(
        before=one,
        after=other,
        difference=interval(stats.bootstrap(difference, "mean", seed=seed)),
        gained=gained,
        lost=lost,
        test="McNemar" if binary else "paired bootstrap",
        p=mcnemar(gained, lost) if binary else paired_bootstrap(difference, seed),
    )


def mcnemar(gained: int, lost: int) -> float | None:
    """McNemar's exact test, two-sided: of the questions answered differently, is half gained? None without any."""
    return float(scipy_stats.binomtest(gained, gained + lost).pvalue) if gained + lost else None


def paired_bootstrap(differences: np.ndarray, seed: int, resamples: int = 10_000) -> float | None:
    """Two-sided p of a mean difference of 0: resampled about 0, how often it is as far off. None without any."""
    if not differences.any():
        return None
    centred = differences - differences.mean()
    generator = np.random.default_rng(seed)
    farther = 0
    for _ in range(resamples // 1000):
        drawn = generator.integers(0, len(centred), (1000, len(centred)))
        farther += int((np.abs(centred[drawn].mean(axis=1)) >= abs(differences.mean())).sum())
    return (farther + 1) / (resamples + 1)
