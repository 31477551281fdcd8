"""Statistics and text figures against numbers worked out by hand."""

import math

import numpy as np
import pytest
from scipy import stats as reference

from sawyer.estimates import Estimate
from sawyer.evaluation.second_opinion import parting, standardised
from sawyer.evaluation.stats import bootstrap, compare, holm, prompts_needed, rank_correlation, wilson
from sawyer.evaluation.text_metrics import distinct, distinct_matched, mean_repetition, ngrams, repetition, words


def test_mean_median_and_deviation_by_hand() -> None:
    values = [1.0, 2.0, 3.0, 10.0]
    assert bootstrap(values, "mean", seed=0).value == 4.0
    assert bootstrap(values, "median", seed=0).value == 2.5
    # squared distances from 4: 9 + 4 + 1 + 36 = 50, over n - 1 = 3
    assert bootstrap(values, "deviation", seed=0).value == pytest.approx(math.sqrt(50 / 3))


def test_bootstrap_interval_of_a_mean_is_close_to_the_t_interval() -> None:
    values = np.random.default_rng(1).normal(5.0, 2.0, 200)
    estimate = bootstrap(values, "mean", seed=0)
    exact = reference.t.interval(0.95, 199, values.mean(), reference.sem(values))
    assert (estimate.low, estimate.high) == pytest.approx(exact, abs=0.04)
    assert estimate == bootstrap(values, "mean", seed=0), "the seed fixes the interval"


@pytest.mark.parametrize("statistic", ["mean", "median", "deviation"])
def test_bootstrap_of_values_that_do_not_vary_has_no_width(statistic: str) -> None:
    estimate = bootstrap([2.0] * 9, statistic, seed=0)
    assert estimate.low == estimate.value == estimate.high == (0.0 if statistic == "deviation" else 2.0)


def test_wilson_by_hand_and_against_scipy() -> None:
    # z = 1.6449 for 90 %: (0.8 + z²/20) / (1 + z²/10) ∓ z/(1 + z²/10) · sqrt(0.16/10 + z²/400)
    estimate = wilson(8, 10)
    assert (estimate.value, estimate.low, estimate.high) == pytest.approx((0.8, 0.5408, 0.9315), abs=1e-4)
    for wins, count in ((0, 12), (12, 12), (5, 40)):
        exact = reference.binomtest(wins, count).proportion_ci(0.90, method="wilson")
        mine = wilson(wins, count)
        assert (mine.low, mine.high) == pytest.approx((exact.low, exact.high))
        assert mine.low <= mine.value <= mine.high


def test_paired_comparison_by_hand() -> None:
    before = [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]
    steps = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, -7.0, 0.0]
    after = [value + step for value, step in zip(before, steps, strict=True)]
    tests = compare(before, after)
    # steps: sum 14, mean 1.75; squares sum 140; variance (140 - 8 · 1.75²) / 7 = 16.5
    deviation = math.sqrt(16.5)
    assert tests.difference.value == 1.75
    assert tests.effect_size == pytest.approx(1.75 / deviation)
    t = 1.75 / (deviation / math.sqrt(8))
    assert tests.t_p == pytest.approx(2 * reference.t.sf(t, 7))
    half = 2.364624 * deviation / math.sqrt(8)  # t quantile 0.975 at 7 degrees of freedom, from a table
    assert (tests.difference.low, tests.difference.high) == pytest.approx((1.75 - half, 1.75 + half), abs=1e-5)
    assert (tests.wins, tests.ties, tests.losses) == (6, 1, 1)
    assert tests.win_rate.value == 6.5 / 8
    assert tests.note is None


def test_wilcoxon_by_hand() -> None:
    # Eight rises of different size: of the 2^8 sign patterns only all-plus and all-minus are as extreme.
    tests = compare([0.0] * 8, [1, 2, 3, 4, 5, 6, 7, 8])
    assert tests.wilcoxon_p == pytest.approx(2 / 256)


def test_a_comparison_without_spread_says_why() -> None:
    same = compare([1.0] * 10, [1.0] * 10)
    assert (same.t_p, same.wilcoxon_p, same.effect_size) == (None, None, None)
    assert "exactly the same" in (same.note or "")
    assert same.win_rate.value == 0.5
    shifted = compare([1.0] * 10, [2.0] * 10)
    assert shifted.t_p is None and "spread is zero" in (shifted.note or "")
    few = compare([1.0, 2.0], [2.0, 4.0])
    assert few.t_p is None and "at least 8" in (few.note or "")


def test_unequal_lists_are_refused() -> None:
    with pytest.raises(ValueError, match="one length"):
        compare([1.0], [1.0, 2.0])


def test_words_and_ngrams() -> None:
    assert words("Don't panic, SAWYER!") == ["don't", "panic", ",", "sawyer", "!"]
    assert list(ngrams("abc", 2)) == [("a", "b"), ("b", "c")]
    assert list(ngrams("a", 2)) == []


def test_distinct_by_hand() -> None:
    replies = ["the cat sat", "the cat ran", "the"]
    assert distinct(replies, 1) == 4 / 7  # the cat sat ran, of 7 words
    assert distinct(replies, 2) == 3 / 4  # the-cat, cat-sat, cat-ran, of 4 pairs
    assert distinct(["", "one"], 2) == 0.0


def test_distinct_at_equal_length_by_hand() -> None:
    # The second stage's reply is cut to "a b": one pair of one, although "a b a b" has 2 of 3.
    assert distinct(["a b a b"], 2) == 2 / 3
    assert distinct_matched(["c d"], ["a b a b"], 2) == (1.0, 1.0)


def test_repetition_by_hand() -> None:
    assert repetition("a b c a b c") == pytest.approx(1 / 4)  # abc bca cab abc
    assert repetition("no no no no no no") == pytest.approx(3 / 4)
    assert repetition("too short") == 0.0
    assert mean_repetition(["a b c a b c", "too short"]) == pytest.approx(1 / 8)
    assert mean_repetition([]) == 0.0


def test_holm_by_hand() -> None:
    # Sorted 0.01, 0.03, 0.04: times 3, 2, 1 gives 0.03, 0.06, 0.04, and no later one may be smaller.
    assert holm([0.04, None, 0.01, 0.03]) == pytest.approx([0.06, None, 0.03, 0.06], nan_ok=True)
    assert holm([0.9, 0.8]) == [1.0, 1.0] and holm([]) == [] and holm([None]) == [None]


def test_prompts_needed_reach_the_power() -> None:
    """At the n it names, a paired t-test has the power asked; with a tenth fewer prompts it has not."""

    def power(n: int, effect: float) -> float:
        limit, shift = reference.t.ppf(1 - 0.01 / 2, n - 1), effect * math.sqrt(n)
        return float(reference.nct.sf(limit, n - 1, shift) + reference.nct.cdf(-limit, n - 1, shift))

    for effect in (0.2, 0.5, -0.9):
        needed = prompts_needed(effect)
        assert needed is not None and power(needed, abs(effect)) > 0.79 and power(int(0.9 * needed), abs(effect)) < 0.79
    assert prompts_needed(0.0) is None and prompts_needed(None) is None and prompts_needed(1e-9) is None
    assert prompts_needed(50.0) == 8, "never fewer than a Wilcoxon test can decide"


def test_rank_correlation_by_hand() -> None:
    assert rank_correlation([1, 2, 3], [1, 10, 100]) == pytest.approx(1.0)
    assert rank_correlation([1, 1, 1], [1, 2, 3]) is None and rank_correlation([1, 2], [1, 2]) is None


def test_when_two_reward_models_part() -> None:
    def about(value: float, width: float = 0.1) -> Estimate:
        return Estimate(value, value - width, value + width, 0.95)

    assert parting(about(0.0), about(-1.0), about(1.0), "x") is None, "nothing was gained, nothing is hacked"
    assert "hacking" in (parting(about(1.0), about(-1.0), about(2.0), "x") or "")
    assert "confirms no gain" in (parting(about(1.0), about(0.05), about(0.95), "x") or "")
    assert "less than half" in (parting(about(1.0), about(0.4), about(0.6), "x") or "")
    assert parting(about(1.0), about(0.4), about(0.6, 0.7), "x") is None, "the gap is not sure"
    assert parting(about(1.0), about(0.9), about(0.1, 0.2), "x") is None


def test_gains_count_in_deviations_of_the_stage_before() -> None:
    assert standardised(np.array([0.0, 2.0]), np.array([2.0, 4.0])) == pytest.approx([math.sqrt(2)] * 2)
    assert standardised(np.array([1.0, 1.0]), np.array([2.0, 4.0])) == pytest.approx([1.0, 3.0])
