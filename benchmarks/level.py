"""Is a series level, or does it rise? A slope with its interval, and the highest point late against that before."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean, median

Z = 1.645  # of a 90 % interval

WARM = 1 / 3
"""Share of the series that is warming up: caches fill, slots are used for the first time."""


@dataclass(frozen=True)
class Level:
    """What a series of values at equal distances did after warming up.

    Attributes:
        windows: medians of ``windows`` equal parts of the whole series.
        slope: of the windows after warming up, in units a minute, by least squares.
        low, high: its 90 % interval. Neighbours resemble each other, so they count for as many fewer as their lag-one
            correlation says.
        late: the highest window after warming up less the highest before.
        minutes: how long the part after warming up took.
    """

    windows: list[float]
    slope: float
    low: float
    high: float
    late: float
    minutes: float

    def rises(self, allowed: float) -> bool:
        """Whether it rose by more than ``allowed``: above all that was before, or steadily and not by chance."""
        return self.late > allowed or (self.low > 0 and self.slope * self.minutes > allowed)


def level(values: Sequence[float], seconds: float, windows: int = 30) -> Level:
    """``values`` were read at equal distances within ``seconds``.

    Raises:
        ValueError: fewer values than windows, or fewer than nine windows.
    """
    if windows < 9 or len(values) < windows:
        raise ValueError(
            f"{len(values)} values in {windows} windows; at least nine windows with a value each are needed"
        )
    edges = [round(part * len(values) / windows) for part in range(windows + 1)]
    medians = [median(values[start:end]) for start, end in pairwise(edges)]
    first = round(windows * WARM)
    warm, rest, width = medians[:first], medians[first:], seconds / windows / 60
    slope, error = _slope([width * place for place in range(len(rest))], rest)
    return Level(medians, slope, slope - Z * error, slope + Z * error, max(rest) - max(warm), width * (len(rest) - 1))


def _slope(times: Sequence[float], values: Sequence[float]) -> tuple[float, float]:
    """Least squares and its standard error."""
    at, mean = fmean(times), fmean(values)
    spread = sum((time - at) ** 2 for time in times)
    slope = sum((time - at) * (value - mean) for time, value in zip(times, values, strict=True)) / spread
    left = [value - mean - slope * (time - at) for time, value in zip(times, values, strict=True)]
    variance = sum(each**2 for each in left)
    if variance < 1e-12:
        return slope, 0.0
    alike = sum(one * other for one, other in pairwise(left)) / variance
    alike = min(max(alike, 0.0), 0.9)
    effective = max(3.0, len(values) * (1 - alike) / (1 + alike))
    return slope, math.sqrt(variance / (effective - 2) / (spread * effective / len(values)))
