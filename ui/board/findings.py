"""What each figure says, in one sentence. A difference is called one only where its interval leaves chance out."""

from sawyer.types import (
    Agreement,
    DayVotes,
    Ladder,
    PairResult,
    PositionBias,
    RewardDistribution,
    RoundSummary,
    Strength,
)
from ui.board import texts
from ui.numbers import (
    away_from,
    contestant_name,
    counted,
    percent,
    signed,
)

SIGNIFICANT = 0.05
"""Below this p, equal places are doubted."""


def pair(result: PairResult) -> str:
    """Who is preferred to whom, if anybody is."""
    first, second = contestant_name(result.first), contestant_name(result.second)
    n = counted(result.n, "comparison")
    rate = result.win_rate
    if not away_from(rate, 0.5):
        return texts.PAIR_OPEN.format(first=first, second=second, share=percent(rate.value), n=n)
    if rate.value > 0.5:
        return texts.PAIR_APART.format(better=first, worse=second, share=percent(rate.value), n=n)
    return texts.PAIR_APART.format(better=second, worse=first, share=percent(1 - rate.value), n=n)


def pairs(results: list[PairResult]) -> str:
    return " ".join(pair(result) for result in results[:3]) or texts.PAIRS_NONE


def ladder(each: Ladder) -> str:
    """Who leads, and whether that can be told from chance; then what length does, where it is controlled for."""
    if not each.strengths:
        return each.note or texts.LADDER_NONE
    return " ".join(part for part in (_leader(each.strengths, each.separable), each.note or "", _length(each)) if part)


def _leader(strengths: list[Strength], separable: bool) -> str:
    first = contestant_name(strengths[0].contestant)
    if len(strengths) == 1:
        return texts.LADDER_ALONE.format(first=first)
    second = contestant_name(strengths[1].contestant)
    return (texts.LADDER_APART if separable else texts.LADDER_OPEN).format(first=first, second=second)


def _length(each: Ladder) -> str:
    effect = each.length_effect
    if effect is None:
        return ""
    sentence = texts.LENGTH_OPEN
    if away_from(effect, 0):
        sentence = texts.LENGTH_HELPS if effect.value > 0 else texts.LENGTH_HURTS
    return sentence.format(effect=signed(effect.value), interval=f"[{signed(effect.low)}, {signed(effect.high)}]")


def apart(strength: Strength) -> str:
    """From whom a contestant is separable."""
    names = ", ".join(contestant_name(name) for name in strength.apart_from)
    return texts.APART_FROM.format(names=names) if names else texts.APART_FROM_NONE


def days(each: list[DayVotes]) -> str:
    if not each:
        return texts.DAYS_NONE
    most = max(each, key=lambda day: day.n)
    total = counted(sum(day.n for day in each), "vote")
    return texts.DAYS_FINDING.format(votes=total, days=counted(len(each), "day"), day=most.day, most=most.n)


def position(each: PositionBias) -> str:
    if each.p is None:
        return each.note or texts.POSITION_NONE
    sentence = texts.POSITION_BIASED if each.p < SIGNIFICANT else texts.POSITION_FAIR
    p = "below 0.001" if each.p < 0.001 else f"{each.p:.2g}"
    return " ".join(part for part in (sentence.format(p=p).replace("= below", "below"), each.note or "") if part)


def rewards(each: list[RewardDistribution]) -> str:
    if not each:
        return texts.REWARDS_NONE
    best = max(each, key=lambda one: one.mean)
    return texts.REWARDS_FINDING.format(name=contestant_name(best.contestant), mean=signed(best.mean))


def agreement(each: Agreement) -> str:
    if each.share is None:
        return each.note or texts.AGREEMENT_NONE
    share = each.share
    sentence = texts.AGREEMENT_OPEN
    if away_from(share, 0.5):
        sentence = texts.AGREEMENT_ABOVE if share.value > 0.5 else texts.AGREEMENT_BELOW
    told = sentence.format(share=percent(share.value), n=counted(each.n, "pair"))
    return " ".join(part for part in (told, each.note or "") if part)


def rounds(each: list[RoundSummary]) -> str:
    if not each:
        return texts.ROUNDS_NONE
    promoted = sum(one.state == "promoted" for one in each)
    return texts.ROUNDS_FINDING.format(rounds=counted(len(each), "round"), promoted=promoted)
