"""A figure with its interval, and the interval of a share. Light: no torch, so that the server may import it."""

import math
from dataclasses import dataclass

from scipy import stats


@dataclass(frozen=True)
class Estimate:
    """A figure and its interval at ``level`` (0.95: 95 %)."""

    value: float
    low: float
    high: float
    level: float


def wilson(successes: float, trials: float, level: float = 0.90) -> Estimate:
    """A share with its Wilson score interval (Wilson 1927); a tie may count as half a success.

    ``trials`` need not be whole: dependent observations are worth fewer independent ones.
    """
    share = successes / trials
    z = normal_quantile(level)
    middle = (share + z * z / (2 * trials)) / (1 + z * z / trials)
    half = z / (1 + z * z / trials) * math.sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials))
    # Rounding may carry the bounds of a share of 0 or 1 past it.
    return Estimate(share, max(0.0, min(share, middle - half)), min(1.0, max(share, middle + half)), level)


def normal_quantile(level: float) -> float:
    """Half the width of a two-sided interval at ``level``, in standard deviations: 1.645 for 0.90."""
    return float(stats.norm.ppf(0.5 + level / 2))
