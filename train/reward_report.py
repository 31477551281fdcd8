"""How good a reward model is on prompts it has never seen, and how much of that is more than reply length."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from sawyer.data import Pair
from sawyer.scoring import reward_text
from train.reward_pairs import PairRow

# Two replies are of like length when the shorter has at least 80 % of the longer one's tokens.
LENGTH_TOLERANCE = 0.2


def report(
    rows: Sequence[PairRow],
    chosen: np.ndarray,
    rejected: np.ndarray,
    *,
    train_rows: Sequence[PairRow],
    shuffled: tuple[np.ndarray, np.ndarray] | None,
) -> dict[str, Any]:
    """Accuracies on held-out pairs.

    Args:
        rows: held-out pairs. chosen, rejected: their rewards, float32 [n].
        train_rows: training pairs; they decide which way the length baseline bets.
        shuffled: rewards of the same replies under other pairs' prompts. A model that reads prompts loses accuracy.

    Returns:
        ``overall``, ``by_source``, ``length_matched``, ``length_only``, ``shuffled_prompt`` (each ``accuracy``, ``n``
        and a 95 % ``interval``), the rewards' mean and deviation, their correlation with length, and ``calibration``.
    """
    if not len(rows):
        return {
            "overall": accuracy(np.zeros(0)),
            "note": "no pair is held out: raise reward.held_out or add pairs",
        }
    won = wins(chosen, rejected)
    lengths = np.array([(row.chosen_length, row.rejected_length) for row in rows], dtype=np.float64)
    like = np.abs(lengths[:, 0] - lengths[:, 1]) <= LENGTH_TOLERANCE * lengths.max(axis=1)
    sources = np.array([row.pair.source for row in rows])
    rewards = np.concatenate([chosen, rejected]).astype(np.float64)
    both = np.concatenate([lengths[:, 0], lengths[:, 1]])
    result = {
        "overall": accuracy(won),
        "by_source": {str(source): accuracy(won[sources == source]) for source in sorted(set(sources))},
        "length_matched": {**accuracy(won[like]), "tolerance": LENGTH_TOLERANCE},
        "length_only": length_baseline(lengths, train_rows),
        "loss": float(np.logaddexp(0.0, -(chosen - rejected).astype(np.float64)).mean()),
        "reward": {
            "mean": float(rewards.mean()),
            "deviation": float(rewards.std()),
            "chosen_mean": float(chosen.mean()),
            "rejected_mean": float(rejected.mean()),
        },
        "reward_length_correlation": correlation(rewards, both),
        "calibration": calibration(chosen, rejected),
    }
    if shuffled is not None:
        result["shuffled_prompt"] = accuracy(wins(*shuffled))
    return result


def wins(chosen: np.ndarray, rejected: np.ndarray) -> np.ndarray:
    """1 where the chosen reply has the higher value, 0 where the rejected one has, 1/2 for ties; float64 [n]."""
    return np.where(chosen == rejected, 0.5, (chosen > rejected).astype(np.float64))


def accuracy(won: np.ndarray) -> dict[str, Any]:
    """Share of pairs won with its 95 % Wilson interval; None where there is no pair."""
    n = len(won)
    if not n:
        return {"accuracy": None, "n": 0, "interval": None}
    p, z = float(won.mean()), 1.959964
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z * np.sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return {"accuracy": p, "n": n, "interval": [float(centre - half), float(centre + half)]}


def calibration(chosen: np.ndarray, rejected: np.ndarray, parts: int = 10) -> dict[str, Any]:
    """How often the higher reward is right, against how sure the model is of it: σ of the difference in reward.

    Returns:
        ``bins`` of equal size, from the least to the most sure (``confidence``, ``accuracy``, ``n``, ``interval``), and
        ``expected_error``, the mean distance of the two (Guo et al. 2017, arXiv 1706.04599).
    """
    margins = chosen.astype(np.float64) - rejected
    sure, won = 1 / (1 + np.exp(-np.abs(margins))), wins(chosen, rejected)
    groups = [group for group in np.array_split(np.argsort(sure, kind="stable"), parts) if len(group)]
    bins = [{"confidence": float(sure[group].mean()), **accuracy(won[group])} for group in groups]
    error = sum(one["n"] * abs(one["accuracy"] - one["confidence"]) for one in bins) / len(margins)
    return {"bins": bins, "expected_error": float(error)}


def length_baseline(lengths: np.ndarray, train_rows: Sequence[PairRow]) -> dict[str, Any]:
    """Accuracy of betting on the longer reply, or on the shorter where that wins in training; lengths [n, 2]."""
    train = np.array([(row.chosen_length, row.rejected_length) for row in train_rows], dtype=np.float64)
    longer = wins(train[:, 0], train[:, 1]).mean() >= 0.5
    sign = 1.0 if longer else -1.0
    return {
        **accuracy(wins(sign * lengths[:, 0], sign * lengths[:, 1])),
        "bet": "longer" if longer else "shorter",
    }


def correlation(left: np.ndarray, right: np.ndarray) -> float | None:
    """Pearson's correlation, or None where one side does not vary."""
    if left.std() < 1e-12 or right.std() < 1e-12:
        return None
    return float(np.corrcoef(left, right)[0, 1])


def with_other_prompts(pairs: Sequence[Pair], seed: int) -> list[Pair] | None:
    """The pairs, each under another pair's prompt; None when all prompts are the same."""
    texts = [reward_text(pair.prompt) for pair in pairs]
    if len(set(texts)) < 2:
        return None
    order = np.random.default_rng(seed).permutation(len(pairs))
    place = {int(index): position for position, index in enumerate(order)}
    moved = []
    for index, pair in enumerate(pairs):
        step = next(s for s in range(1, len(pairs)) if texts[order[(place[index] + s) % len(pairs)]] != texts[index])
        other = pairs[int(order[(place[index] + step) % len(pairs)])]
        moved.append(Pair(other.prompt, pair.chosen, pair.rejected, pair.margin, pair.source))
    return moved


def score_in_batches(
    texts: Sequence[list[int]], score: Callable[[list[list[int]]], np.ndarray], batch_size: int
) -> np.ndarray:
    """Score token lists in batches of like length; float32 [n] in the given order."""
    scores = np.zeros(len(texts), dtype=np.float32)
    order = sorted(range(len(texts)), key=lambda index: len(texts[index]))
    for start in range(0, len(order), batch_size):
        indices = order[start : start + batch_size]
        scores[indices] = score([texts[index] for index in indices])
    return scores
