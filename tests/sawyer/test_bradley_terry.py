"""Bradley–Terry against hand-computed cases, choix, scipy, and the truth in simulations."""

import choix
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import optimize, special, stats

from sawyer.preferences.bradley_terry import bradley_terry, fit_logistic
from sawyer.preferences.clusters import bootstrap_interval, small_sample_stretch
from sawyer.preferences.ladder import ladder, length_controlled
from tests.sawyer.preference_makers import comparisons, people

NAMES = ("base", "sft", "rlf")


def strengths(found, k):
    return bradley_terry(found, k, 0, 0).strengths


def test_two_contestants_by_hand():
    """7 wins, 2 losses, 2 ties: log((7 + 1 + ½) / (2 + 1 + ½)), half of it to each side of 0."""
    found = strengths(comparisons([(0, 1, 1)] * 7 + [(0, 1, 0)] * 2 + [(0, 1, 0.5)] * 2), 2)
    assert found == pytest.approx([np.log(8.5 / 3.5) / 2, -np.log(8.5 / 3.5) / 2])


def test_a_cycle_by_hand():
    """Each beats the next one as often: all are equal."""
    rows = [(0, 1, 1)] * 6 + [(0, 1, 0)] * 2 + [(1, 2, 1)] * 6 + [(1, 2, 0)] * 2 + [(0, 2, 0)] * 6 + [(0, 2, 1)] * 2
    assert strengths(comparisons(rows), 3) == pytest.approx([0, 0, 0], abs=1e-9)


def some_votes(seed, k=4, n=120):
    generator = np.random.default_rng(seed)
    truth = generator.normal(0, 1, k)
    pairs = np.sort([generator.choice(k, 2, replace=False) for _ in range(n)], axis=1)
    wins = generator.random(n) < 1 / (1 + np.exp(truth[pairs[:, 1]] - truth[pairs[:, 0]]))
    scores = np.where(generator.random(n) < 0.15, 0.5, wins)
    return [(int(one), int(two), float(score)) for (one, two), score in zip(pairs, scores, strict=True)]


@pytest.mark.parametrize("seed", range(4))
def test_the_strengths_are_those_of_choix(seed):
    """choix counts whole wins: every comparison twice, a tie once each way, the prior's halves as whole ones."""
    rows, doubled = some_votes(seed), []
    for first, second, score in rows:
        doubled += [(first, second)] * int(2 * score) + [(second, first)] * int(2 * (1 - score))
    for first, second in {row[:2] for row in rows}:
        doubled += [(first, second), (second, first)]
    ours = strengths(comparisons(rows), 4)
    assert ours == pytest.approx(choix.mm_pairwise(4, doubled, tol=1e-12, max_iter=100_000), abs=1e-6)
    assert ours == pytest.approx(choix.opt_pairwise(4, doubled), abs=1e-4)


def test_the_effect_of_length_is_what_scipy_finds():
    generator, rows = np.random.default_rng(2), some_votes(2, k=3)
    z = np.round(generator.normal(0, 1, len(rows)) / 0.05) * 0.05
    fit = bradley_terry(comparisons(rows), 3, 0, 0, z)

    def loss(at):
        total = 0.0
        priors = [(first, second, 0.5, 0.0) for first, second in {row[:2] for row in rows}]
        for first, second, score, length in [(*row, each) for row, each in zip(rows, z, strict=True)] + priors:
            logit = at[first] - at[second] + at[3] * length
            total += np.logaddexp(0, logit) - score * logit
        total += np.logaddexp(0, at[3]) - 0.5 * at[3]  # equals, one of them longer by a deviation
        return total + at[:3].sum() ** 2

    best = optimize.minimize(loss, np.zeros(4), method="BFGS", options={"gtol": 1e-8}).x
    assert [*fit.strengths, fit.effect] == pytest.approx(best, abs=1e-4)


def test_newton_finds_the_optimum_where_whole_steps_would_leave_it():
    """A million wins against half a loss; the second regression ends where the first began."""
    design = np.array([[1.0, 0.0], [1.0, -1.0], [0.0, 1.0]])
    wins, losses = np.array([[1e6, 0.5, 0.5], [1, 1, 1]]), np.array([[0.5, 1e6, 1e6], [1, 1, 1]])
    found = fit_logistic(design, wins, losses)
    shares = 1 / (1 + np.exp(-found @ design.T))
    gradient = (wins - (wins + losses) * shares) @ design
    assert np.abs(gradient).max() < 1e-3 and found[1] == pytest.approx([0, 0])


rows_of_three = st.lists(
    st.tuples(st.sampled_from([(0, 1), (0, 2), (1, 2)]), st.sampled_from([0.0, 0.5, 1.0])), min_size=3, max_size=40
)


@settings(max_examples=40, deadline=None)
@given(rows_of_three, st.permutations([0, 1, 2]))
def test_names_and_orientation_do_not_matter(rows, order):
    """Renaming the contestants renames the strengths; they are centred and finite whatever was voted."""
    plain = [(*pair, score) for pair, score in rows]
    renamed = []
    for (first, second), score in rows:
        one, two = order[first], order[second]
        renamed.append((one, two, score) if one < two else (two, one, 1 - score))
    assume({place for pair, _ in rows for place in pair} == {0, 1, 2})
    found, other = strengths(comparisons(plain), 3), strengths(comparisons(renamed), 3)
    assert found == pytest.approx(other[list(order)], abs=1e-6)
    assert np.isfinite(found).all() and found.sum() == pytest.approx(0, abs=1e-9)


@settings(max_examples=25, deadline=None)
@given(rows_of_three)
def test_winning_once_more_never_weakens(rows):
    """Where the pair was compared before: the first comparison brings the pair's prior as well."""
    plain = [(*pair, score) for pair, score in rows] + [(0, 1, 1), (1, 2, 0), (0, 2, 0.5)]
    before, after = strengths(comparisons(plain), 3), strengths(comparisons([*plain, (0, 2, 1)]), 3)
    assert after[0] >= before[0] - 1e-9 and after[2] <= before[2] + 1e-9


def test_a_ladder_names_what_is_apart():
    rows = [(0, 1, 0)] * 45 + [(0, 1, 1)] * 5 + [(1, 2, 1)] * 26 + [(1, 2, 0)] * 24
    found = ladder(comparisons(rows), NAMES)
    by_name = {each.contestant: each for each in found.strengths}
    assert (found.n, by_name["sft"].n, by_name["base"].n) == (100, 100, 50)
    assert not found.separable and by_name["sft"].apart_from == ["base"]
    assert set(by_name["base"].apart_from) == {"sft", "rlf"} and by_name["base"].strength.high < 0
    assert found == ladder(comparisons(rows), NAMES), "the same votes give the same figures"


def test_who_never_won_has_finite_bounds_and_a_note():
    found = ladder(comparisons([(0, 1, 0)] * 20 + [(1, 2, 1)] * 10 + [(1, 2, 0)] * 10), NAMES)
    base = found.strengths[-1]
    assert base.contestant == "base" and "base and sft, rlf went one way" in (found.note or "")
    # The difference to sft is that of 20 losses: Jeffreys' bounds of a share of 0 of 20 are far apart.
    assert -10 < base.strength.low < base.strength.value - 0.5


def test_contestants_without_a_common_scale_are_left_out():
    rows = [(0, 1, 1), (0, 1, 0)] * 10 + [(2, 3, 1)] * 3
    found = ladder(comparisons(rows), ("base", "sft", "rlf@1", "rlf@2"))
    assert [each.contestant for each in found.strengths] == ["base", "sft"] and found.n == 20
    assert "Not estimable: rlf@1, rlf@2" in (found.note or "")


def test_too_few_voters_give_no_strengths():
    assert "no vote has compared" in (ladder(comparisons([(0, 1, 1)]).take(np.array([False])), NAMES).note or "")
    few = ladder(comparisons([(0, 1, 1), (0, 1, 0)] * 20, clusters=[0, 1, 2, 3] * 10), NAMES)
    assert few.strengths == [] and not few.separable and "4 of the 5 voters" in (few.note or "")


def test_length_explains_a_preference_for_long_replies():
    """Two equals, one of whom talks more: apart at first sight, together at equal length."""
    generator = np.random.default_rng(0)
    length = np.round(generator.normal(20, 25, 600))
    score = (generator.random(600) < 1 / (1 + np.exp(-1.2 * length / 32))).astype(float)
    found = comparisons([(0, 1, each) for each in score], lengths=length)
    assert ladder(found, NAMES[:2]).separable
    controlled = length_controlled(found, NAMES[:2])
    assert not controlled.separable and controlled.note is None
    effect = controlled.length_effect
    assert effect is not None and 0 < effect.low < 1.2 < effect.high


def test_length_that_cannot_be_told_from_strength():
    rows = [(0, 1, 1), (0, 1, 0)] * 10
    for lengths, why in (([0] * 20, "equal length"), ([30] * 20, "cannot be told from strength")):
        found = length_controlled(comparisons(rows, lengths=lengths), NAMES[:2])
        assert found.strengths == [] and found.length_effect is None and why in (found.note or "")


def test_independent_votes_on_two_have_jeffreys_interval():
    """3 wins of 10: the quantiles of Beta(3.5, 7.5), as log-odds."""
    fit = bradley_terry(comparisons([(0, 1, 1)] * 3 + [(0, 1, 0)] * 7), 2, 4000, 0)
    found = bootstrap_interval(fit.strengths[0], fit.resampled[:, 0], small_sample_stretch(np.arange(10)))
    low, high = special.logit(stats.beta.ppf([0.05, 0.95], 3.5, 7.5)) / 2
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.04)


def test_only_ties_prove_no_equality():
    found = ladder(comparisons([(0, 1, 0.5)] * 8), NAMES[:2])
    assert not found.separable and found.strengths[0].strength.high - found.strengths[0].strength.low > 0.3


def holds(found, fit, truth):
    """For each contestant whether the interval of its strength holds the truth."""
    stretch = small_sample_stretch(found.cluster)
    intervals = [bootstrap_interval(value, fit.resampled[:, each], stretch) for each, value in enumerate(fit.strengths)]
    return np.array([low.low <= true <= low.high for low, true in zip(intervals, truth, strict=True)])


def coverage_of_three(voters, mean_votes, rounds):
    """How often the intervals of three strengths hold the truth. Each vote is for one of three, by Luce's rule."""
    generator, truth, held = np.random.default_rng(7), np.array([-0.8, 0.1, 0.7]), np.zeros(3)
    for number in range(rounds):
        owner = people(generator, voters, mean_votes)
        utilities = truth + generator.gumbel(size=(len(owner), 3))
        rows = []
        for best in map(int, utilities.argmax(axis=1)):
            rows += [(min(best, other), max(best, other), float(best < other)) for other in range(3) if other != best]
        found = comparisons(rows, clusters=np.repeat(owner, 2))
        held += holds(found, bradley_terry(found, 3, 200, number), truth)
    return held / rounds


def coverage_of_two(voters, mean_votes, rate, likeness, rounds):
    """The same for two contestants and voters who differ: two votes of one of them are correlated by ``likeness``."""
    generator, held = np.random.default_rng(9), 0.0
    for number in range(rounds):
        owner, scale = people(generator, voters, mean_votes), (1 - likeness) / likeness
        own = generator.beta(rate * scale, (1 - rate) * scale, voters)
        rows = [(0, 1, float(won)) for won in generator.random(len(owner)) < own[owner]]
        found = comparisons(rows, clusters=owner)
        half = np.log(rate / (1 - rate)) / 2
        held += holds(found, bradley_terry(found, 2, 200, number), [half, -half]).mean()
    return held / rounds


def test_intervals_hold_the_truth_about_as_often_as_they_say():
    for voters, mean_votes in ((60, 1), (20, 6)):
        held = coverage_of_three(voters, mean_votes, 100)
        assert held.min() >= 0.82 and held.mean() <= 0.97, (voters, held)  # 100 rounds: a deviation of 0.03
    assert 0.82 <= coverage_of_two(30, 6, 0.65, 0.3, 100) <= 0.97


@pytest.mark.slow
def test_intervals_hold_the_truth_over_a_grid():
    """What docs/board.md says of strengths."""
    found = {
        (voters, rate, likeness): coverage_of_two(voters, 6, rate, likeness, 300)
        for voters in (5, 10, 30, 100)
        for rate in (0.5, 0.8, 0.95)
        for likeness in (0.05, 0.2, 0.6)
    }
    usual = [held for (_, rate, _), held in found.items() if rate < 0.95]
    assert min(usual) > 0.8 and 0.87 < np.mean(usual) < 0.96, found
    assert min(found.values()) > 0.72, found
    for voters in (5, 10, 30, 100):
        for mean_votes in (1, 6):
            held = coverage_of_three(voters, mean_votes, 300)
            assert held.min() > 0.85, (voters, mean_votes, held)
