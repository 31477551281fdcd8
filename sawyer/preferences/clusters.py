"""Votes of one person are not independent. What that costs an interval is worked out here; numbers in, numbers out.

Sources: the design effect (Kish 1965; Rao and Scott 1992 for shares, Korn and Graubard 1998 for their intervals), the
leave-one-cluster-out variance (the jackknife; CR3 in regression), the proper Bayesian bootstrap (Rubin 1981; Muliere
and Secchi 1996) over clusters, and the widening of bootstrap intervals for few clusters (Hesterberg 2015).
"""

import math

import numpy as np
from scipy import stats

from sawyer.estimates import Estimate, normal_quantile, wilson

LEVEL = 0.9
# Half a win and half a loss: Jeffreys' prior of a share.
PRIOR = 0.5
# Weight of one made-up cluster of mean size, half of it all wins and half all losses, in the design effect. Where all
# votes agree, nothing can be seen of how voters differ; this then counts voters instead of votes. In simulations
# (such as tests/sawyer/test_preferences_shares.py) 0 gave intervals too narrow near 0 and 1, 0.25 needlessly wide ones.
_DISAGREEMENT = 0.1
_LEAST_PRIOR = 1e-3  # a gamma variable may be next to 0, and a strength with it next to infinity


def effective_clusters(cluster: np.ndarray) -> float:
    """How many clusters of equal size are worth as much as these: n² / Σ nᵢ² (Kish). ``cluster``: [n] numbers."""
    sizes = np.bincount(cluster)
    return float(len(cluster) ** 2 / (sizes**2).sum())


def clustered_share(score: np.ndarray, cluster: np.ndarray, level: float = LEVEL) -> Estimate:
    """The mean of scores with an interval that allows for clusters.

    Wilson's interval for as many independent observations as these are worth: more where ties (0.5) make scores vary
    less than wins and losses do, fewer by the design effect. That is the variance between clusters, by leaving out one
    at a time, over the variance of as many independent scores, and never below 1. With several observations a cluster,
    a t quantile stands for the normal one, with :func:`effective_clusters` − 1 degrees of freedom.

    Args:
        score: [n] 1, 0.5 or 0, at least one. cluster: [n] numbers from 0.

    Returns:
        The share; its interval is all of [0, 1] where one cluster is all there is.
    """
    count, share, z = len(score), float(score.mean()), normal_quantile(level)
    sizes = np.bincount(cluster)
    clusters = np.count_nonzero(sizes)
    if clusters < 2 and count > 1:
        return Estimate(share, 0.0, 1.0, level)
    # The centre of Wilson's interval: half of z² made-up wins, half made-up losses, so that nothing is exactly 0 or 1.
    centre = (score.sum() + z * z / 2) / (count + z * z)
    spread = centre**2 + (1 - centre) ** 2
    variance = (((score - centre) ** 2).sum() + z * z / 2 * spread) / (count + z * z)
    worth = count * centre * (1 - centre) / variance
    effective = effective_clusters(cluster)
    if clusters < count:
        left_out = (np.bincount(cluster, weights=score) - centre * sizes) / (1 - sizes / count)
        unseen = _DISAGREEMENT * (count / effective) ** 2 * spread
        between = (clusters - 1) / clusters * (left_out**2).sum() + unseen
        independent = count * variance + unseen * effective / count
        worth /= max(1.0, between / independent) * (_t_quantile(effective, level) / z) ** 2
    interval = wilson(share * worth, worth, level)
    return Estimate(share, interval.low, interval.high, level)


def resampled_weights(clusters: int, resamples: int, generator: np.random.Generator) -> np.ndarray:
    """[resamples, clusters] weights of a Bayesian bootstrap: gamma(1), which normalised are Dirichlet(1, …, 1)."""
    return generator.standard_exponential((resamples, clusters))


def resampled_prior(rows: int, resamples: int, cluster: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """[resamples, rows] weights of made-up observations, of mass :data:`PRIOR` in the mean, beside those of clusters.

    With them, the share of wins among n independent comparisons is distributed over the resamples as Beta(wins + ½,
    losses + ½), whose quantiles are Jeffreys' interval: no share is ever 0 or 1, and none has an interval of no width.
    Where clusters are larger than one comparison, the same mass varies more, by :data:`_DISAGREEMENT` of a cluster.
    """
    size = len(cluster) / effective_clusters(cluster)
    # Two made-up observations, one for each side, share the variance of _DISAGREEMENT · size².
    shape = min(PRIOR, 2 * PRIOR**2 / (_DISAGREEMENT * size**2))
    return np.maximum(generator.standard_gamma(shape, (resamples, rows)) * (PRIOR / shape), _LEAST_PRIOR)


def bootstrap_interval(value: float, resampled: np.ndarray, stretch: float, level: float = LEVEL) -> Estimate:
    """The interval between two quantiles of the resampled values, stretched about ``value`` for few clusters."""
    low, high = np.quantile(resampled, [0.5 - level / 2, 0.5 + level / 2])
    return Estimate(value, value + stretch * min(low - value, 0.0), value + stretch * max(high - value, 0.0), level)


def small_sample_stretch(cluster: np.ndarray, level: float = LEVEL) -> float:
    """By how much bootstrap intervals are too narrow: t over z, and √(g / (g − 1)), g the clusters' effective number.

    Resampling g clusters gives a variance of (g − 1)/g of the unbiased one, and a normal quantile where t's is due.
    Independent comparisons (a cluster each) need neither: the prior sees to them.
    """
    effective = effective_clusters(cluster)
    if effective >= len(cluster):
        return 1.0
    return _t_quantile(effective, level) / normal_quantile(level) * math.sqrt(effective / max(effective - 1, 0.5))


def _t_quantile(effective: float, level: float) -> float:
    return float(stats.t.ppf(0.5 + level / 2, max(effective - 1, 0.5)))
