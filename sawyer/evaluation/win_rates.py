"""Win rates between stages: by a reward model, by the judge, by a language model, by people's votes."""

from collections.abc import Sequence

import numpy as np
from scipy.special import expit

from sawyer.estimates import Estimate, wilson
from sawyer.evaluation.figures import Answers, interval
from sawyer.evaluation.report import Interval, PairFigures, WinRate
from sawyer.preferences.bradley_terry import bradley_terry
from sawyer.preferences.comparisons import Comparisons
from sawyer.types import Board

LEVEL = 0.90
RESAMPLES = 1000
FEWEST = 8


def by_scores(
    by: str, answers: Sequence[Answers], pairs: Sequence[PairFigures], scores: dict[str, np.ndarray], seed: int
) -> list[WinRate]:
    """Win rates by a model's scores, ``[n]`` of each stage: the higher one wins, equal ones tie."""
    by_stage = {answer.stage: answer for answer in answers}
    found = []
    for pair in pairs:
        before, after = by_stage[pair.before], by_stage[pair.after]
        difference = scores[pair.after] - scores[pair.before]
        worth = np.where(difference == 0, 0.5, (difference > 0).astype(np.float64))
        lengths = [len(a.ids) - len(b.ids) for a, b in zip(after.replies, before.replies, strict=True)]
        found.append(win_rate(by, pair.before, pair.after, worth, np.array(lengths, dtype=np.float64), seed))
    return found


def by_votes(board: Board, answers: Sequence[Answers], pairs: Sequence[PairFigures]) -> list[WinRate]:
    """What people said of the same versions, from a board by version; comparisons nobody voted on are left out."""
    version = {answer.stage: answer.version for answer in answers}
    results = {frozenset((result.first, result.second)): result for result in board.pairs}
    found = []
    for pair in pairs:
        result = results.get(frozenset((version[pair.before], version[pair.after])))
        if result is None:
            continue
        ours = result.first == version[pair.after]
        rate = result.win_rate
        value, low, high = (rate.value, rate.low, rate.high) if ours else (1 - rate.value, 1 - rate.high, 1 - rate.low)
        found.append(
            WinRate(
                by="people's votes",
                before=pair.before,
                after=pair.after,
                n=result.n,
                wins=result.wins if ours else result.losses,
                ties=result.ties,
                losses=result.losses if ours else result.wins,
                rate=interval(Estimate(value, low, high, rate.level)),
            )
        )
    return found


def win_rate(
    by: str, before: str, after: str, worth: np.ndarray, lengths: np.ndarray, seed: int, *, left_out: int = 0
) -> WinRate:
    """The share of prompts that ``after`` wins, ties half, with its 90 % Wilson interval.

    Args:
        worth: ``[n]`` 1 won, 0 lost, 1/2 tied. lengths: ``[n]`` tokens of after's reply less those of before's.
        left_out: prompts without a usable verdict.
    """
    return WinRate(
        by=by,
        before=before,
        after=after,
        n=len(worth),
        wins=int((worth == 1).sum()),
        ties=int((worth == 0.5).sum()),
        losses=int((worth == 0).sum()),
        left_out=left_out,
        rate=interval(wilson(float(worth.sum()), len(worth), LEVEL)) if len(worth) else None,
        length_controlled=_length_controlled(worth, lengths, seed),
    )


def _length_controlled(worth: np.ndarray, lengths: np.ndarray, seed: int) -> Interval | None:
    """The win rate between replies of equal length: a Bradley–Terry fit with the difference of lengths beside it."""
    if len(worth) < FEWEST or not lengths.any():
        return None
    places = np.arange(len(worth))
    one, other = np.ones(len(worth), dtype=np.intp), np.zeros(len(worth), dtype=np.intp)
    table = Comparisons(one, other, worth, places, lengths, np.full(len(worth), np.nan))
    scaled = lengths / np.sqrt((lengths**2).mean())
    fit = bradley_terry(table, 2, RESAMPLES, seed, scaled)
    drawn = expit(fit.resampled[:, 1] - fit.resampled[:, 0])
    low, high = np.quantile(drawn, [0.5 - LEVEL / 2, 0.5 + LEVEL / 2])
    value = float(expit(fit.strengths[1] - fit.strengths[0]))
    return interval(Estimate(value, min(float(low), value), max(float(high), value), LEVEL))
