"""The model of Bradley and Terry (1952), fitted by Newton's method to many resamples at once. Numbers in, numbers out.

    P(i preferred to j) = σ(sᵢ − sⱼ + γ · z)

s are strengths in log-odds whose mean is 0; z is a covariate of the comparison (the difference of lengths) and γ its
effect, where one is asked for. A tie is half a win and half a loss. Hunter (2004) gives the conditions under which
strengths exist; a prior of half a win each way makes them finite where one side has won everything.
"""

from dataclasses import dataclass

import numpy as np
from scipy import sparse, special
from scipy.sparse.csgraph import connected_components

from sawyer.preferences.clusters import PRIOR, resampled_prior, resampled_weights
from sawyer.preferences.comparisons import Comparisons

_STEPS = 60
_TOLERANCE = 1e-9
_BATCH = 100  # resamples fitted together: the arrays of [batch, cells] stay small
# The covariate is rounded to this part of a deviation, so that comparisons that are alike can be counted together.
_GRID = 0.05


@dataclass(frozen=True)
class Fit:
    """Strengths of ``[k]`` contestants and ``[b, k]`` of the resamples; effects of the covariate, 0 without one."""

    strengths: np.ndarray
    resampled: np.ndarray
    effect: float
    resampled_effects: np.ndarray


def bradley_terry(
    comparisons: Comparisons, contestants: int, resamples: int, seed: int, covariate: np.ndarray | None = None
) -> Fit:
    """Fit the strengths, and again for each of ``resamples`` resamples of the clusters.

    Each pair of contestants that were compared has a prior of half a win and half a loss, and so has the covariate (a
    comparison of equals at z = 1). For two contestants the strengths differ by log((wins + ½) / (losses + ½)),
    Haldane's and Anscombe's estimate of the log-odds, which has next to no bias (Firth 1993). In the resamples the
    prior's weights are random like those of the clusters.

    Args:
        comparisons: all connected with each other, see :func:`groups`.
        contestants: k. covariate: [n] z of each comparison, first's less second's.
    """
    z = np.zeros(len(comparisons)) if covariate is None else np.round(covariate / _GRID) * _GRID
    keys = np.stack([comparisons.first, comparisons.second, z], axis=1)
    cells, cell = np.unique(keys, axis=0, return_inverse=True)
    pairs = np.unique(cells[:, :2], axis=0)
    rows = np.concatenate([cells, np.column_stack([pairs, np.zeros(len(pairs))])])
    design = _design(rows, contestants)
    if covariate is not None:
        effect_column = np.append(rows[:, 2], 1.0)
        design = np.column_stack([np.vstack([design, np.zeros(contestants - 1)]), effect_column])
    made_up = len(design) - len(cells)

    shape = (comparisons.cluster.max() + 1, len(cells))
    where = (comparisons.cluster, cell.ravel())
    wins = sparse.csr_array((comparisons.score, where), shape)
    losses = sparse.csr_array((1.0 - comparisons.score, where), shape)
    generator = np.random.default_rng(seed)

    def counts(weights: np.ndarray, prior_wins: np.ndarray, prior_losses: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return np.hstack([weights @ wins, prior_wins]), np.hstack([weights @ losses, prior_losses])

    flat = np.full((1, made_up), PRIOR)
    found = [fit_logistic(design, *counts(np.ones((1, shape[0])), flat, flat))]
    for begin in range(0, resamples, _BATCH):
        size = min(_BATCH, resamples - begin)
        prior = [resampled_prior(made_up, size, comparisons.cluster, generator) for _ in range(2)]
        found.append(fit_logistic(design, *counts(resampled_weights(shape[0], size, generator), *prior)))
    solved = np.concatenate(found)
    free = solved[:, : contestants - 1]
    strengths = np.hstack([free, np.zeros((len(free), 1))])
    strengths -= strengths.mean(axis=1, keepdims=True)
    effects = solved[:, -1] if covariate is not None else np.zeros(len(solved))
    return Fit(strengths[0], strengths[1:], float(effects[0]), effects[1:])


def fit_logistic(design: np.ndarray, wins: np.ndarray, losses: np.ndarray) -> np.ndarray:
    """Maximum likelihood of logistic regressions that share a design.

    Args:
        design: [rows, p]. wins, losses: [b, rows], not necessarily whole, each regression's own.

    Returns:
        [b, p]
    """
    totals, products = wins + losses, design[:, :, None] * design[:, None, :]
    found = np.zeros((len(wins), design.shape[1]))
    likelihood = _likelihood(found, design, wins, totals)
    for _ in range(_STEPS):
        shares = special.expit(found @ design.T)
        gradient = (wins - totals * shares) @ design
        information = np.tensordot(totals * shares * (1 - shares), products, axes=1)
        step = np.linalg.solve(information, gradient[:, :, None])[:, :, 0]
        # Newton's step may go too far where a side wins nearly always; half of it, or a quarter …, does not.
        length = np.ones((len(found), 1))
        for _ in range(30):
            tried = _likelihood(found + length * step, design, wins, totals)
            worse = tried < likelihood - 1e-12 * np.abs(likelihood)
            if not worse.any():
                break
            length[worse] /= 2
        found, likelihood = found + length * step, tried
        if np.abs(length * step).max() < _TOLERANCE:
            break
    return found


def groups(comparisons: Comparisons, contestants: int, *, directed: bool = False) -> np.ndarray:
    """[k] number of each contestant's group: those connected by comparisons.

    Strengths of different groups have no common scale. ``directed``: those of whom each has been preferred (or tied) to
    each other one, if by way of others; between two such groups one side has won everything, and maximum likelihood
    would set them infinitely far apart (Ford 1957).
    """
    won, lost = comparisons.score > 0, comparisons.score < 1
    upper = np.concatenate([comparisons.first[won], comparisons.second[lost]])
    lower = np.concatenate([comparisons.second[won], comparisons.first[lost]])
    graph = sparse.coo_array((np.ones(len(upper)), (upper, lower)), (contestants, contestants))
    return connected_components(graph, directed=True, connection="strong" if directed else "weak")[1]


def _design(rows: np.ndarray, contestants: int) -> np.ndarray:
    """[rows, k − 1] +1 for first and −1 for second; the last contestant's strength is 0 until they are centred."""
    design, place = np.zeros((len(rows), contestants)), np.arange(len(rows))
    design[place, rows[:, 0].astype(int)] += 1.0
    design[place, rows[:, 1].astype(int)] -= 1.0
    return design[:, :-1]


def _likelihood(found: np.ndarray, design: np.ndarray, wins: np.ndarray, totals: np.ndarray) -> np.ndarray:
    logits = found @ design.T
    return (wins * logits - totals * np.logaddexp(0.0, logits)).sum(axis=1)
