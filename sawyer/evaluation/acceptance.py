"""The acceptance line: what an rlf stage must show against its reference before anyone calls it better.

The limits are the project's own: a reward gain that a paired test confirms, bought neither with drift, nor with length,
nor with sameness.
"""

from collections.abc import Sequence

from sawyer.evaluation.report import Criterion, PairFigures, PartFigures

P_LIMIT = 0.01
KL_LIMIT = 15.0  # nats a response
LENGTH_RATIO = (0.7, 1.8)
DISTINCT_RATIO = 0.8


def deciding_pair(pairs: Sequence[PairFigures], stages: Sequence[str]) -> PairFigures | None:
    """The comparison that decides: the last rlf named against its reference, which is the one with a KL."""
    measured = [pair for pair in pairs if pair.kl is not None]
    return max(measured, key=lambda pair: stages.index(pair.after), default=None)


def judge(pair: PairFigures, parts: Sequence[PartFigures] = ()) -> list[Criterion]:
    """The four conditions of ``pair.after`` against ``pair.before``, and one for each guard among ``parts``.

    What could not be measured is not met.
    """
    guards = [part for part in parts if part.role == "guard"]
    return [_gain(pair), _kl(pair), _length(pair), _variety(pair), *(_guard(pair, part) for part in guards)]


def _gain(pair: PairFigures) -> Criterion:
    better = pair.difference.value > 0
    explanation = f"Mean reward of {pair.after} above {pair.before}, paired t-test (two-sided) p < {P_LIMIT:g}."
    if pair.t_p is None:
        explanation += f" {pair.note}"
    elif not better:
        explanation += f" The mean is lower by {-pair.difference.value:.3f}."
    return Criterion(
        name="reward gain, paired p",
        measured=pair.t_p,
        high=P_LIMIT,
        met=pair.t_p is not None and pair.t_p < P_LIMIT and better,
        explanation=explanation,
    )


def _kl(pair: PairFigures) -> Criterion:
    kl = pair.kl.k1.value if pair.kl else None
    return Criterion(
        name="KL",
        measured=kl,
        unit="nats",
        high=KL_LIMIT,
        met=kl is not None and kl < KL_LIMIT,
        explanation=f"KL({pair.after} ‖ {pair.before}) below {KL_LIMIT:g} nats a response.",
    )


def _length(pair: PairFigures) -> Criterion:
    low, high = LENGTH_RATIO
    return Criterion(
        name="length ratio",
        measured=pair.length_ratio,
        low=low,
        high=high,
        met=low <= pair.length_ratio <= high,
        explanation=f"Mean length of {pair.after} over that of {pair.before} from {low:g} to {high:g}.",
    )


def _variety(pair: PairFigures) -> Criterion:
    ratio = pair.distinct_2_ratio
    return Criterion(
        name="distinct-2 ratio",
        measured=ratio,
        low=DISTINCT_RATIO,
        met=ratio is not None and ratio >= DISTINCT_RATIO,
        explanation=f"Distinct-2 of {pair.after} at least {DISTINCT_RATIO:g} of that of {pair.before}.",
    )


def _guard(pair: PairFigures, part: PartFigures) -> Criterion:
    found = next(c.difference for c in part.comparisons if (c.before, c.after) == (pair.before, pair.after))
    return Criterion(
        name=f"{part.name}, upper end",
        measured=found.high,
        low=0.0,
        met=found.high >= 0,
        explanation=(
            f"{part.name} of {pair.after} not below that of {pair.before}: the paired difference is "
            f"{found.value:+.3f} [{found.low:+.3f}, {found.high:+.3f}], and its 95 % interval must reach 0."
        ),
    )
