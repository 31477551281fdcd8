"""The statistics of an evaluation: numbers in, numbers out. No model, no file; hand-computed cases in the tests.

Stages answer the same prompts, so comparisons are paired: every test looks at one difference a prompt.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

from sawyer.estimates import Estimate, wilson

RESAMPLES = 10_000
# With 7 pairs the smallest two-sided p of a Wilcoxon test is 2/2^7 = 0.016: a test at 0.01 could never be passed.
FEWEST_PAIRS = 8
_ROUNDING = 1e-6  # scores are float32: differences that vary by less do not vary


@dataclass(frozen=True)
class PairedTests:
    """Differences ``after - before`` over the same prompts; both p-values are two-sided.

    ``t_p`` and ``wilcoxon_p`` are None where no test is possible; ``note`` then says why. ``effect_size`` is the mean
    difference over the differences' deviation (Cohen's d for pairs).
    """

    difference: Estimate
    t_p: float | None
    wilcoxon_p: float | None
    effect_size: float | None
    mann_whitney_p: float | None
    variance_p: float | None
    win_rate: Estimate
    wins: int
    ties: int
    losses: int
    note: str | None


def bootstrap(values: Sequence[float] | np.ndarray, statistic: str, *, seed: int, level: float = 0.95) -> Estimate:
    """A ``mean``, ``median`` or ``deviation`` (n − 1 in the divisor) with its bootstrap interval.

    The interval is BCa (Efron 1987), which corrects for bias and skew; the median's is the plain percentile interval,
    because the jackknife behind BCa is not valid for it. Values that do not vary give an interval of no width.
    """
    data = np.asarray(values, dtype=np.float64)
    function: Any = {"mean": np.mean, "median": np.median, "deviation": _deviation}[statistic]
    value = float(function(data, axis=-1))
    if len(data) < 2 or np.ptp(data) == 0:
        return Estimate(value, value, value, level)
    interval = stats.bootstrap(
        (data,),
        function,
        n_resamples=RESAMPLES,
        batch=1000,
        vectorized=True,
        confidence_level=level,
        method="percentile" if statistic == "median" else "BCa",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return Estimate(value, float(interval.low), float(interval.high), level)


def compare(before: Sequence[float] | np.ndarray, after: Sequence[float] | np.ndarray) -> PairedTests:
    """Compare two stages' scores of the same prompts.

    Args:
        before, after: ``[n]`` scores, prompt by prompt.

    Returns:
        The mean difference with its 95 % t interval, the paired t-test, the Wilcoxon signed-rank test, and the win rate
        (ties count half) with its 90 % interval. Differences that are all equal admit no test, and a note says so.
        Mann and Whitney's test and Brown and Forsythe's (of equal spread) treat the two lists as independent: they are
        here because published results use them.
    """
    first, second = np.asarray(before, dtype=np.float64), np.asarray(after, dtype=np.float64)
    if first.shape != second.shape or first.ndim != 1 or len(first) == 0:
        raise ValueError(f"paired scores must be two lists of one length, not {first.shape} and {second.shape}")
    differences = second - first
    wins, losses = int((differences > 0).sum()), int((differences < 0).sum())
    ties = len(differences) - wins - losses
    win_rate = wilson(wins + ties / 2, len(differences))
    mean = float(differences.mean())
    note = _untestable(differences)
    if note is not None:
        return PairedTests(
            difference=Estimate(mean, mean, mean, 0.95),
            t_p=None,
            wilcoxon_p=None,
            effect_size=None,
            mann_whitney_p=None,
            variance_p=None,
            win_rate=win_rate,
            wins=wins,
            ties=ties,
            losses=losses,
            note=note,
        )
    result = stats.ttest_1samp(differences, 0.0)
    interval = result.confidence_interval(0.95)
    return PairedTests(
        difference=Estimate(mean, float(interval.low), float(interval.high), 0.95),
        t_p=float(result.pvalue),
        wilcoxon_p=float(stats.wilcoxon(differences).pvalue),
        effect_size=mean / float(_deviation(differences)),
        mann_whitney_p=float(stats.mannwhitneyu(second, first).pvalue),
        variance_p=_finite(stats.levene(first, second, center="median").pvalue),
        win_rate=win_rate,
        wins=wins,
        ties=ties,
        losses=losses,
        note=None,
    )


def holm(values: Sequence[float | None]) -> list[float | None]:
    """p-values corrected for being several (Holm 1979): the k-th smallest of m times m − k + 1, never falling.

    None, where no test was possible, is no member of the family and stays None.
    """
    order = sorted((index for index, p in enumerate(values) if p is not None), key=lambda index: values[index] or 0.0)
    corrected: list[float | None] = [None] * len(values)
    largest = 0.0
    for rank, index in enumerate(order):
        largest = max(largest, min(1.0, (len(order) - rank) * (values[index] or 0.0)))
        corrected[index] = largest
    return corrected


def prompts_needed(effect_size: float | None, *, p: float = 0.01, power: float = 0.8) -> int | None:
    """Prompts for a paired t-test to fall below ``p`` with ``power``, by the normal approximation; None without effect.

    The effect is the mean difference over the differences' deviation; two of Student's degrees are added as usual.
    """
    if not effect_size:
        return None
    quantiles = float(stats.norm.ppf(1 - p / 2) + stats.norm.ppf(power))
    needed = (quantiles / abs(effect_size)) ** 2 + float(stats.norm.ppf(1 - p / 2)) ** 2 / 2
    return max(FEWEST_PAIRS, math.ceil(needed)) if needed < 10**9 else None


def rank_correlation(left: Sequence[float] | np.ndarray, right: Sequence[float] | np.ndarray) -> float | None:
    """Spearman's; None where one side does not vary or is shorter than three."""
    if len(left) < 3 or np.ptp(left) == 0 or np.ptp(right) == 0:
        return None
    return float(stats.spearmanr(left, right).statistic)


def at_equal_length(
    differences: Sequence[float] | np.ndarray, lengths: Sequence[float] | np.ndarray, level: float
) -> Estimate:
    """The mean difference of scores where two replies are equally long, with a one-sided interval at each end.

    It is the intercept of a straight line through (difference in length, difference in score): what is left once the
    part that goes with length is taken out (the idea of AlpacaEval's length control, arXiv 2404.04475, on scores).

    Args:
        differences: ``[n]`` after − before. lengths: ``[n]``, likewise in any unit.
        level: one-sided confidence; the interval between both ends has 2·level − 1.
    """
    y, x = np.asarray(differences, dtype=np.float64), np.asarray(lengths, dtype=np.float64)
    if len(y) < FEWEST_PAIRS:
        return Estimate(float(y.mean()) if len(y) else 0.0, -math.inf, math.inf, level)
    columns = np.ones((len(y), 1)) if np.ptp(x) == 0 else np.column_stack([np.ones(len(y)), x / np.abs(x).max()])
    solution, _, rank, _ = np.linalg.lstsq(columns, y, rcond=None)
    freedom = len(y) - int(rank)
    variance = float(((y - columns @ solution) ** 2).sum()) / freedom
    error = math.sqrt(variance * float(np.linalg.pinv(columns.T @ columns)[0, 0]))
    half = float(stats.t.ppf(level, freedom)) * error
    return Estimate(float(solution[0]), float(solution[0]) - half, float(solution[0]) + half, level)


def mean_with_ends(values: Sequence[float] | np.ndarray, level: float) -> Estimate:
    """A mean with a one-sided t interval at each end; ends without limit where there are fewer than two values."""
    data = np.asarray(values, dtype=np.float64)
    if len(data) < 2:
        return Estimate(float(data.mean()) if len(data) else 0.0, -math.inf, math.inf, level)
    half = float(stats.t.ppf(level, len(data) - 1)) * float(_deviation(data)) / math.sqrt(len(data))
    return Estimate(float(data.mean()), float(data.mean()) - half, float(data.mean()) + half, level)


def _untestable(differences: np.ndarray) -> str | None:
    if not differences.any():
        return "Every reply scores exactly the same in both stages, so no test is possible."
    if len(differences) < FEWEST_PAIRS:
        return f"A paired test needs at least {FEWEST_PAIRS} prompts; there are {len(differences)}."
    if np.ptp(differences) <= _ROUNDING * float(np.abs(differences).max()):
        return "The difference is the same for every prompt, so its spread is zero and no test is possible."
    return None


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _deviation(values: np.ndarray, axis: int = -1) -> np.ndarray:
    return np.std(values, axis=axis, ddof=1)
