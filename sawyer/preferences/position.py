"""Do people prefer a place on the screen? A test on blind votes."""

from collections import defaultdict
from collections.abc import Iterable

import numpy as np
from scipy import stats

from sawyer.preferences.ballots import Ballot
from sawyer.types import MAX_PANES, PositionBias

_FEWEST = 5  # expected preferred panes a place, the usual bound below which a chi-square is not trusted


def position_bias(ballots: Iterable[Ballot]) -> PositionBias:
    """Count the preferred panes by place and test whether all places are preferred equally often.

    The panes of a blind turn are shuffled, each turn for itself. Whoever chooses by what the replies say therefore
    picks each place equally often, independently from turn to turn, whatever the voter's taste: voters need no
    allowance here, and only the votes on the same turn, which see the same order, are taken together. The statistic is
    Pearson's chi-square with the covariance that the shuffling gives; with one vote a turn it is Pearson's own.
    Turns of two and of three panes may be mixed.
    """
    turns: dict[str, np.ndarray] = defaultdict(lambda: np.zeros(MAX_PANES))
    panes: dict[str, int] = {}
    for ballot in ballots:
        if ballot.blind and ballot.place is not None and ballot.place < ballot.panes and ballot.panes > 1:
            turns[ballot.turn][ballot.place] += 1
            panes[ballot.turn] = ballot.panes
    if not turns:
        return PositionBias(n=0, note="No blind votes for one reply yet: the places of open votes are those of stages.")
    table = np.stack([turns[turn] for turn in panes])
    sizes = np.array([panes[turn] for turn in panes])
    places = int(sizes.max())
    counts = table.sum(axis=0)[:places]
    expected, covariance = _under_shuffling(table, sizes, places)
    found = PositionBias(n=int(counts.sum()), counts=[int(count) for count in counts])
    if expected.min() < _FEWEST:
        note = f"Too few to test: {expected.min():.1f} preferred panes are expected at a place, {_FEWEST} are needed."
        return found.model_copy(update={"note": note})
    excess = counts - expected
    statistic = excess @ np.linalg.pinv(covariance, hermitian=True) @ excess
    p = stats.chi2.sf(statistic, np.linalg.matrix_rank(covariance, hermitian=True))
    return found.model_copy(update={"p": float(p)})


def _under_shuffling(table: np.ndarray, sizes: np.ndarray, places: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean and covariance of the counts by place when each turn's counts are put in random order.

    Args:
        table: [turns, panes] votes by place. sizes: [turns] panes.
    """
    mean, covariance = np.zeros(places), np.zeros((places, places))
    for size in np.unique(sizes):
        votes = table[sizes == size, :size]
        average = votes.mean(axis=1)
        spread = ((votes - average[:, None]) ** 2).mean(axis=1).sum()
        mean[:size] += average.sum()
        # Numbers in random order: variance σ² at each place, −σ²/(k − 1) between two of k places.
        covariance[:size, :size] += spread * (np.eye(size) * size - 1) / (size - 1)
    return mean, covariance
