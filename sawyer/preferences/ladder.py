"""The contestants by strength: how sure the order is, and whether length explains it."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from sawyer.preferences.bradley_terry import Fit, bradley_terry, groups
from sawyer.preferences.clusters import bootstrap_interval, effective_clusters, small_sample_stretch
from sawyer.preferences.comparisons import Comparisons
from sawyer.preferences.figures import interval
from sawyer.types import Ladder, Strength

RESAMPLES = 1000
FEWEST_CLUSTERS = 5
_SEED = 0  # the same votes give the same figures
# Less than this part of the differences in length lies within pairs of contestants: it cannot be told from strength.
_FEWEST_VARIATION = 0.01


def ladder(comparisons: Comparisons, contestants: Sequence[str], *, resamples: int = RESAMPLES) -> Ladder:
    """Bradley–Terry strengths, with intervals and separation from a bootstrap over clusters.

    Contestants that are not connected with the others by comparisons are left out and named in the note.
    """
    kept, names, left_out = _connected(comparisons, contestants)
    if note := _too_few(kept):
        return Ladder(n=len(kept), note=note)
    fit = bradley_terry(kept, len(names), resamples, _SEED)
    return _ladder(kept, names, fit, _notes(kept, names, left_out))


def length_controlled(comparisons: Comparisons, contestants: Sequence[str], *, resamples: int = RESAMPLES) -> Ladder:
    """The same for replies of equal length: the difference of their lengths is a covariate.

    As in length-controlled AlpacaEval (Dubois et al. 2024), with the difference itself, in tokens, over its root mean
    square, where they take a tanh of it, and with votes where they have a judge.
    """
    kept, names, left_out = _connected(comparisons, contestants)
    if note := _too_few(kept) or _length_unclear(kept, len(names)):
        return Ladder(n=len(kept), note=note)
    fit = bradley_terry(kept, len(names), resamples, _SEED, kept.length / _root_mean_square(kept.length))
    found = _ladder(kept, names, fit, _notes(kept, names, left_out))
    effect = bootstrap_interval(fit.effect, fit.resampled_effects, small_sample_stretch(kept.cluster))
    return found.model_copy(update={"length_effect": interval(effect)})


def _ladder(comparisons: Comparisons, names: Sequence[str], fit: Fit, note: str | None) -> Ladder:
    stretch = small_sample_stretch(comparisons.cluster)
    order = np.argsort(-fit.strengths.round(9), kind="stable")  # equals in the contestants' own order
    strengths = []
    for one in map(int, order):
        taking_part = (comparisons.first == one) | (comparisons.second == one)
        strengths.append(
            Strength(
                contestant=names[one],
                n=int(taking_part.sum()),
                strength=interval(bootstrap_interval(fit.strengths[one], fit.resampled[:, one], stretch)),
                apart_from=[names[other] for other in map(int, order) if _apart(fit, one, other, stretch)],
            )
        )
    separable = strengths[1].contestant in strengths[0].apart_from
    return Ladder(n=len(comparisons), strengths=strengths, separable=separable, note=note)


def _apart(fit: Fit, one: int, other: int, stretch: float) -> bool:
    if one == other:
        return False
    difference = bootstrap_interval(
        fit.strengths[one] - fit.strengths[other], fit.resampled[:, one] - fit.resampled[:, other], stretch
    )
    return difference.low > 0 or difference.high < 0


def _connected(comparisons: Comparisons, contestants: Sequence[str]) -> tuple[Comparisons, list[str], list[str]]:
    """The comparisons of the largest group that has a common scale, the names of its members, and of the others."""
    if not len(comparisons):
        return comparisons, [], list(contestants)
    group = groups(comparisons, len(contestants))
    largest = np.bincount(group[comparisons.first]).argmax()
    inside: list[int] = np.flatnonzero(group == largest).tolist()
    number = np.zeros(len(contestants), dtype=np.intp)
    number[inside] = np.arange(len(inside))
    kept = comparisons.take(group[comparisons.first] == largest)
    kept = replace(kept, first=number[kept.first], second=number[kept.second])
    outside = [name for place, name in enumerate(contestants) if place not in inside]
    return kept, [contestants[place] for place in inside], outside


def _too_few(comparisons: Comparisons) -> str | None:
    if not len(comparisons):
        return "Not estimable: no vote has compared two contestants yet."
    clusters = int(comparisons.cluster.max()) + 1
    if clusters < FEWEST_CLUSTERS:
        return (
            f"Not estimable yet: the comparisons come from {clusters} of the {FEWEST_CLUSTERS} voters or conversations "
            "that are needed to say how sure a strength is."
        )
    return None


def _length_unclear(comparisons: Comparisons, contestants: int) -> str | None:
    """Why the effect of length cannot be told from the strengths, if so."""
    lengths = comparisons.length
    if not lengths.any():
        return "Not estimable: the replies that were compared are of equal length."
    columns = np.zeros((len(lengths), contestants))
    columns[np.arange(len(lengths)), comparisons.first] += 1
    columns[np.arange(len(lengths)), comparisons.second] -= 1
    rest = lengths - columns @ np.linalg.lstsq(columns, lengths, rcond=None)[0]
    if (rest**2).sum() < _FEWEST_VARIATION * (lengths**2).sum():
        return (
            "Not estimable: the lengths of replies differ between contestants and hardly within, so that what length "
            "does cannot be told from strength."
        )
    return None


def _notes(comparisons: Comparisons, names: Sequence[str], left_out: Sequence[str]) -> str | None:
    notes = []
    if left_out:
        notes.append(f"Not estimable: {', '.join(left_out)}, not connected with the others by any comparison.")
    group = groups(comparisons, len(names), directed=True)
    if group.max() > 0:
        sides = [
            ", ".join(names[place] for place in np.flatnonzero(group == each).tolist()) for each in np.unique(group)
        ]
        notes.append(
            f"Every comparison between {' and '.join(sides)} went one way: how far apart they are rests on the prior "
            "of half a win each way."
        )
    if effective_clusters(comparisons.cluster) < FEWEST_CLUSTERS:
        notes.append("Most comparisons come from a few voters, so the intervals are wide.")
    return " ".join(notes) or None


def _root_mean_square(values: np.ndarray) -> float:
    return float(np.sqrt((values**2).mean()))
