"""The gate on numbers made by hand: what is better, what is not, and each way to be refused."""

import dataclasses
from typing import Any

import numpy as np
import pytest

from sawyer.evaluation.stats import at_equal_length
from sawyer.recipe.rounds import GateSpec
from sawyer.rounds.gate import Examination, Knowledge, Scores, Trust, judge_candidate, reasons

SPEC = GateSpec()
N = 60


def scores(gain: float, seed: int = 0, lengths: np.ndarray | None = None) -> Scores:
    """Scores of the current version around 0 (deviation 1), and of a candidate that is ``gain`` better on average."""
    draw = np.random.default_rng(seed)
    current = draw.normal(size=N)
    current = (current - current.mean()) / current.std()
    noise = np.where(np.arange(N) // 3 % 2, 0.5, -0.5)  # of mean 0 at every length below
    by_length = 0.0 if lengths is None else lengths * 0.2
    return Scores(current, current + gain + noise + by_length)


def trust(right: int, of: int) -> Trust:
    return Trust(np.array([1.0] * right + [0.0] * (of - right)), of)


GOOD = Examination(
    reward=scores(0.5, 1),
    judge=scores(0.4, 2),
    before=scores(0.1, 3),
    current_lengths=np.full(N, 20.0),
    candidate_lengths=20.0 + np.arange(N) % 3,
    trust=trust(32, 40),
    judge_trust=trust(30, 40),
    kept=np.zeros(100),
    kl=4.0,
    repetition=(0.02, 0.03),
    distinct_ratio=1.0,
    knowledge=[Knowledge("TruthfulQA", np.tile([0.0, 1.0], 50), np.tile([1.0, 0.0], 50))],
)


def refused(**changes: Any) -> list[str]:
    conditions, _ = judge_candidate(dataclasses.replace(GOOD, **changes), SPEC)
    return [condition.name for condition in conditions if not condition.met]


def test_a_better_candidate_passes_with_its_figures() -> None:
    conditions, figures = judge_candidate(GOOD, SPEC)
    assert [c.name for c in conditions if not c.met] == [] and reasons(conditions) == []
    assert len(conditions) == 11 and len({c.name for c in conditions}) == 11
    assert figures["reward_gain"] == pytest.approx(0.5) and figures["length_ratio"] == pytest.approx(1.05)
    assert figures["reward_accuracy"] == 0.8 and figures["kl"] == 4.0


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"reward": scores(0.02, 1)}, "better by the reward, at equal length"),
        ({"judge": scores(-0.3, 2)}, "better by the judge, at equal length"),
        ({"before": scores(-0.8, 3)}, "no worse by the reward of before these votes"),
        ({"trust": trust(21, 40)}, "reward agrees with held-out votes"),
        ({"judge_trust": trust(10, 40)}, "judge agrees with held-out votes"),
        ({"judge_trust": trust(0, 0)}, "judge agrees with held-out votes"),
        ({"kept": np.array([-1.0] * 30 + [0.0] * 70)}, "reward keeps its accuracy on earlier pairs"),
        ({"kl": 15.1}, "KL from the reference"),
        ({"kl": None}, "KL from the reference"),
        ({"candidate_lengths": 40.0 + np.arange(N) % 3}, "length over the current one's"),
        ({"repetition": (0.02, 0.08)}, "repetition"),
        ({"distinct_ratio": 0.7}, "distinct-2 over the current one's"),
        ({"knowledge": [Knowledge("MMLU", np.ones(50), np.tile([1.0, 0.0], 25))]}, "MMLU no worse"),
    ],
)  # fmt: skip
def test_each_condition_refuses_by_itself_and_says_so(changes: dict[str, Any], name: str) -> None:
    assert name in refused(**changes)
    conditions, _ = judge_candidate(dataclasses.replace(GOOD, **changes), SPEC)
    assert any(sentence.startswith(name[:1].upper() + name[1:] + ": ") for sentence in reasons(conditions))


def test_a_fall_within_noise_or_within_the_limit_is_no_reason() -> None:
    assert refused(before=scores(-0.2, 3)) == []
    assert refused(kept=np.array([-1.0] * 4 + [0.0] * 96)) == []


def test_a_gain_that_is_all_length_is_no_gain() -> None:
    """Longer replies score higher by the reward's liking for length alone: 6 tokens more give 1.2 deviations."""
    longer = np.arange(N) % 13.0
    found = {"candidate_lengths": 20.0 + longer, "reward": scores(0.0, 1, longer), "judge": scores(0.4, 2)}
    assert refused(**found) == ["better by the reward, at equal length"]
    plain = found["reward"].differences  # type: ignore[attr-defined]
    assert plain.mean() > 1 and at_equal_length(plain, longer, 0.95).value == pytest.approx(0, abs=0.2)


def test_at_equal_length_by_hand() -> None:
    """y = 2 + 3x exactly: the intercept is 2 and the interval has no width. Without any x it is the mean."""
    x = np.array([-2.0, -1, 0, 1, 2, 3, 4, 5])
    exact = at_equal_length(2 + 3 * x, x, 0.95)
    assert (exact.value, exact.low, exact.high) == pytest.approx((2, 2, 2))
    y = np.array([1.0, 2, 3, 4, 5, 6, 7, 8])
    plain = at_equal_length(y, np.zeros(8), 0.95)
    # mean 4.5, deviation 2.449, standard error 0.866, t(0.95, 7) = 1.8946
    assert (plain.value, plain.low) == pytest.approx((4.5, 4.5 - 1.8946 * 0.8660), abs=1e-3)
    few = at_equal_length(y[:5], np.zeros(5), 0.95)
    assert few.low == -np.inf and few.high == np.inf
