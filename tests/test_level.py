"""The judge of the soak: level series pass, whatever their noise and saw teeth; leaks and late steps do not."""

import math
import random

import pytest

from benchmarks.level import level
from benchmarks.soak import ALLOWED

SECONDS = 300


def series(rise: float = 0.0, noise: float = 4.0, tooth: float = 0.0, step: float = 0.0, seed: int = 1) -> list[float]:
    """Two values a second: warming up for a fifth of the time, then ``rise`` MiB a minute on the whole."""
    draw = random.Random(seed)
    values = []
    for half in range(2 * SECONDS):
        at = half / 2
        value = 1000 - 300 * math.exp(-at / 12) + rise * at / 60 + draw.gauss(0, noise)
        values.append(value + tooth * (at % 20) / 20 + (step if at > 200 else 0.0))
    return values


@pytest.mark.parametrize("seed", range(5))
def test_noise_and_saw_teeth_are_no_growth(seed: int) -> None:
    for values in (series(seed=seed), series(noise=15, seed=seed), series(tooth=30, seed=seed)):
        assert not level(values, SECONDS).rises(ALLOWED)


def test_memory_given_back_is_no_growth() -> None:
    assert not level(series(step=-60), SECONDS).rises(ALLOWED)


@pytest.mark.parametrize("seed", range(5))
def test_a_leak_and_a_late_step_are_growth(seed: int) -> None:
    for values in (series(rise=6, seed=seed), series(rise=10, noise=10, seed=seed), series(step=30, seed=seed)):
        assert level(values, SECONDS).rises(ALLOWED)


def test_the_slope_is_a_minute_s_and_its_interval_holds_it() -> None:
    found = level(series(rise=6, noise=2), SECONDS)
    assert found.low < 6 < found.high and found.high - found.low < 2
    assert len(found.windows) == 30 and found.minutes == pytest.approx(19 / 6)


def test_too_few_values_are_refused() -> None:
    with pytest.raises(ValueError, match="nine windows"):
        level([1.0] * 20, 10)
