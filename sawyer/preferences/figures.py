"""Estimates in the form of the board."""

from sawyer.estimates import Estimate
from sawyer.types import Interval


def interval(estimate: Estimate) -> Interval:
    return Interval(value=estimate.value, low=estimate.low, high=estimate.high, level=estimate.level)
