"""The reward model beside people: how it scores what they were shown, and how often it agrees with them."""

from collections.abc import Iterable, Sequence

import numpy as np

from sawyer.preferences.ballots import Ballot, By
from sawyer.preferences.clusters import clustered_share
from sawyer.preferences.comparisons import Comparisons
from sawyer.preferences.figures import interval
from sawyer.types import Agreement, RewardDistribution

_BINS = (8, 40)  # fewest and most bars


def reward_distributions(ballots: Iterable[Ballot], contestants: Sequence[str], by: By) -> list[RewardDistribution]:
    """The rewards of every reply that a vote compared, each reply once, with the same edges for all contestants."""
    found: dict[str, dict[str, float]] = {name: {} for name in contestants}
    for ballot in ballots:
        for reply in ballot.replies:
            if reply.reward is not None:
                found[reply.name(by)][reply.id] = reply.reward
    values = {name: np.array(list(rewards.values())) for name, rewards in found.items() if rewards}
    if not values:
        return []
    edges = _edges(np.concatenate(list(values.values())))
    return [
        RewardDistribution(
            contestant=name,
            n=len(rewards),
            mean=float(rewards.mean()),
            median=float(np.median(rewards)),
            deviation=float(rewards.std(ddof=1)) if len(rewards) > 1 else None,
            edges=edges.tolist(),
            counts=np.histogram(rewards, edges)[0].tolist(),
        )
        for name, rewards in values.items()
    ]


def agreement(comparisons: Comparisons) -> Agreement:
    """The share of comparisons with a winner in which the winner's reward is the higher one."""
    scored = comparisons.take((comparisons.score != 0.5) & ~np.isnan(comparisons.reward))
    if not len(scored):
        return Agreement(n=0, note="No reply was preferred to another where both have a reward.")
    differing = scored.take(scored.reward != 0)
    if not len(differing):
        return Agreement(n=0, note="All rewards of preferred replies equal those of the others.")
    agrees = (differing.score == 1) == (differing.reward > 0)
    share = clustered_share(agrees.astype(np.float64), differing.cluster)
    return Agreement(n=len(differing), share=interval(share))


def _edges(values: np.ndarray) -> np.ndarray:
    """Edges by the rule of Freedman and Diaconis, within bounds."""
    low, high = values.min(), values.max()
    if low == high:
        return np.array([low - 0.5, high + 0.5])
    wanted = len(np.histogram_bin_edges(values, "fd")) - 1 if len(values) < 10**6 else _BINS[1]
    return np.linspace(low, high, int(np.clip(wanted, *_BINS)) + 1)
