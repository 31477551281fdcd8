"""What votes say of two replies to the same prompt, as columns of numbers."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from sawyer.preferences.ballots import Ballot, By, Reply


@dataclass(frozen=True)
class Comparisons:
    """``n`` comparisons of two contestants, ``first`` before ``second`` in the order of the contestants.

    Attributes:
        first, second: [n] contestants, by number.
        score: [n] 1 where first was preferred, 0 where second was, 0.5 for a tie.
        cluster: [n] whose they are, by number: comparisons of one cluster depend on each other.
        length: [n] tokens of first's reply less those of second's.
        reward: [n] reward of first's reply less that of second's; nan where one has none.
    """

    first: np.ndarray
    second: np.ndarray
    score: np.ndarray
    cluster: np.ndarray
    length: np.ndarray
    reward: np.ndarray

    def __len__(self) -> int:
        return len(self.score)

    def take(self, keep: np.ndarray) -> "Comparisons":
        """Those where ``keep`` is true, with clusters numbered anew."""
        cluster = np.unique(self.cluster[keep], return_inverse=True)[1]
        columns = (self.first, self.second, self.score, self.length, self.reward)
        first, second, score, length, reward = (column[keep] for column in columns)
        return Comparisons(first, second, score, cluster, length, reward)

    def between(self, first: int, second: int) -> "Comparisons":
        return self.take((self.first == first) & (self.second == second))


def compare(ballots: Sequence[Ballot], clusters: Sequence[int], contestants: Sequence[str], by: By) -> Comparisons:
    """Every comparison that the votes make.

    One of k panes chosen: k − 1 wins. A ranking: each earlier reply over each later one. A tie: ties among all shown.
    All bad: none. Replies of the same text are tied whatever was clicked: nobody can prefer one of them. Two versions
    of a stage are no comparison where stages compete.

    Args:
        clusters: [len(ballots)] whose each ballot is, by number.
    """
    number = {name: place for place, name in enumerate(contestants)}
    rows = []
    for ballot, cluster in zip(ballots, clusters, strict=True):
        for one, other, score in _comparisons(ballot):
            first, second = number[one.name(by)], number[other.name(by)]
            if first > second:
                one, other, first, second, score = other, one, second, first, 1.0 - score
            if first != second:
                rows.append((first, second, score, cluster, one.tokens - other.tokens, _gap(one, other)))
    table = np.array(rows, dtype=np.float64).reshape(-1, 6)
    places, owners = table[:, :2].astype(np.intp), np.unique(table[:, 3], return_inverse=True)[1]
    return Comparisons(places[:, 0], places[:, 1], table[:, 2], owners, table[:, 4], table[:, 5])


def _comparisons(ballot: Ballot) -> Iterator[tuple[Reply, Reply, float]]:
    """(reply, other reply, score of the first one): each pair of replies that the vote orders or ties, once."""
    for place, one in enumerate(ballot.replies):
        for other in ballot.replies[place + 1 :]:
            if one.rank is None or other.rank is None:
                continue
            if one.rank == other.rank and ballot.chosen:
                continue  # both behind the chosen one, in no order
            if one.rank == other.rank or one.text == other.text:
                yield one, other, 0.5
            else:
                yield one, other, float(one.rank < other.rank)


def _gap(one: Reply, other: Reply) -> float:
    return np.nan if one.reward is None or other.reward is None else one.reward - other.reward
