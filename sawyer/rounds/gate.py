"""The gate: what was measured of a candidate against what the recipe allows. Numbers in, conditions out.

Two questions are asked. Is it better: by the reward it was trained on and by a judge it was not, at equal length? And
was the teacher sound: do both reward models know what people prefer, has the new one kept what the earlier one knew,
does the earlier one find the candidate worse? The second is what stops votes that were cast to do harm.
"""

from dataclasses import dataclass, field

import numpy as np

from sawyer.evaluation.stats import Estimate, at_equal_length, mean_with_ends, wilson
from sawyer.recipe.rounds import GateSpec
from sawyer.types.rounds import GateCondition


@dataclass(frozen=True)
class Scores:
    """One reward model's scores of both versions' replies to the same prompts, ``[n]`` each."""

    current: np.ndarray
    candidate: np.ndarray

    @property
    def differences(self) -> np.ndarray:
        """In deviations of the current version's scores, so that reward models of any scale compare."""
        deviation = float(self.current.std()) or 1.0
        return (self.candidate - self.current) / deviation


@dataclass(frozen=True)
class Trust:
    """How often a reward model agrees with people's held-out votes.

    ``shares``: for each held-out conversation the share of its pairs in which the preferred reply scores higher (pairs
    of one conversation are no independent witnesses). ``pairs`` counts them all.
    """

    shares: np.ndarray
    pairs: int

    def accuracy(self, level: float) -> Estimate:
        """With a one-sided Wilson bound at each end."""
        if not len(self.shares):
            return Estimate(0.0, 0.0, 1.0, level)
        found = wilson(float(self.shares.sum()), len(self.shares), level=2 * level - 1)
        return Estimate(found.value, found.low, found.high, level)


@dataclass(frozen=True)
class Knowledge:
    """Questions with one right answer, ``[n]`` of 1 and 0 for each version."""

    name: str
    current: np.ndarray
    candidate: np.ndarray


@dataclass(frozen=True)
class Examination:
    """Everything that was measured. ``before`` and ``kept`` are None where there was no reward model before.

    ``kept`` holds for each earlier held-out pair the new reward model's success (1, 0, ½) less the earlier one's.
    Lengths are in tokens; ``kl`` in nats a response; ``repetition`` a share, current then candidate.
    """

    reward: Scores
    judge: Scores
    before: Scores | None
    current_lengths: np.ndarray
    candidate_lengths: np.ndarray
    trust: Trust
    judge_trust: Trust
    kept: np.ndarray | None
    kl: float | None
    repetition: tuple[float, float]
    distinct_ratio: float | None
    knowledge: list[Knowledge] = field(default_factory=list)


def sound(name: str, trust: Trust, spec: GateSpec) -> GateCondition:
    """Whether a reward model agrees with held-out votes more often than chance."""
    found = trust.accuracy(spec.chance)
    return GateCondition(
        name=name,
        measured=f"{found.value:.0%}, surely above {found.low:.0%} ({trust.pairs} pairs of {len(trust.shares)} chats)",
        allowed="surely above 50%",
        met=found.low > 0.5,
    )


def judge_candidate(found: Examination, spec: GateSpec) -> tuple[list[GateCondition], dict[str, float]]:
    """All conditions, and their figures by name."""
    lengths = found.candidate_lengths - found.current_lengths
    ratio = float(found.candidate_lengths.mean() / max(found.current_lengths.mean(), 1e-9))
    before, after = found.repetition
    gains = {
        "reward": at_equal_length(found.reward.differences, lengths, spec.level),
        "judge": at_equal_length(found.judge.differences, lengths, spec.level),
    }
    conditions = [
        _better("better by the reward, at equal length", gains["reward"], spec),
        _better("better by the judge, at equal length", gains["judge"], spec),
        sound("reward agrees with held-out votes", found.trust, spec),
        sound("judge agrees with held-out votes", found.judge_trust, spec),
    ]
    figures = {f"{name}_gain": gain.value for name, gain in gains.items()}
    figures |= {
        "reward_accuracy": found.trust.accuracy(spec.chance).value,
        "judge_accuracy": found.judge_trust.accuracy(spec.chance).value,
        "length_ratio": ratio,
        "repetition": after,
        "prompts": float(len(lengths)),
    }
    if found.kept is not None:
        kept = mean_with_ends(found.kept, spec.level)
        conditions.append(_kept(kept, len(found.kept), spec))
        figures["accuracy_change_on_earlier_pairs"] = kept.value
    if found.before is not None:
        fall = at_equal_length(found.before.differences, lengths, spec.level)
        conditions.append(_not_fallen(fall, spec))
        figures["gain_by_the_reward_of_before"] = fall.value
    if found.kl is not None:
        figures["kl"] = found.kl
    if found.distinct_ratio is not None:
        figures["distinct_2_ratio"] = found.distinct_ratio
    conditions += [
        _limit("KL from the reference", found.kl, f"{spec.kl:g} nats a reply", "at most", high=spec.kl, unit=" nats"),
        _limit("length over the current one's", ratio, f"{spec.shortest:g} to {spec.longest:g}", "",
               low=spec.shortest, high=spec.longest),
        GateCondition(
            name="repetition",
            measured=f"{after:.3f}, {before:.3f} before",
            allowed=f"at most {spec.repetition:g} more",
            met=after <= before + spec.repetition,
        ),
        _limit("distinct-2 over the current one's", found.distinct_ratio, f"{spec.distinct:g}", "at least",
               low=spec.distinct),
    ]  # fmt: skip
    for test in found.knowledge:
        change = mean_with_ends(test.candidate - test.current, spec.level)
        conditions.append(_no_worse(test, change))
        figures[f"{test.name}_change"] = change.value
    return conditions, figures


def reasons(conditions: list[GateCondition]) -> list[str]:
    """Each condition that does not hold, in a sentence."""
    return [f"{c.name[:1].upper()}{c.name[1:]}: {c.measured}; allowed: {c.allowed}." for c in conditions if not c.met]


def _better(name: str, gain: Estimate, spec: GateSpec) -> GateCondition:
    return GateCondition(
        name=name,
        measured=f"{gain.value:+.2f} deviations, surely above {gain.low:+.2f}",
        allowed=f"surely above {spec.margin:g}",
        met=gain.low > spec.margin,
    )


def _kept(change: Estimate, n: int, spec: GateSpec) -> GateCondition:
    return GateCondition(
        name="reward keeps its accuracy on earlier pairs",
        measured=f"{change.value:+.1%}, surely below {change.high:+.1%} ({n} pairs)",
        allowed=f"no loss, or at most {spec.forget:.0%}, or within noise",
        met=change.value >= -spec.forget or change.high >= 0,
    )


def _not_fallen(change: Estimate, spec: GateSpec) -> GateCondition:
    return GateCondition(
        name="no worse by the reward of before these votes",
        measured=f"{change.value:+.2f} deviations, surely below {change.high:+.2f}",
        allowed=f"no fall, or at most {spec.fall:g}, or within noise",
        met=change.value >= -spec.fall or change.high >= 0,
    )


def _no_worse(test: Knowledge, change: Estimate) -> GateCondition:
    return GateCondition(
        name=f"{test.name} no worse",
        measured=f"{test.candidate.mean():.1%}, {test.current.mean():.1%} before ({len(test.current)} questions)",
        allowed="no fall beyond noise",
        met=change.high >= 0,
    )


def _limit(
    name: str,
    value: float | None,
    limit: str,
    word: str,
    *,
    low: float = -np.inf,
    high: float = np.inf,
    unit: str = "",
) -> GateCondition:
    return GateCondition(
        name=name,
        measured="not measurable" if value is None else f"{value:.2f}{unit}",
        allowed=f"{word} {limit}".strip(),
        met=value is not None and low <= value <= high,
    )
