"""A board as a server would count it after a good evening: figures made up, but consistent with each other."""

from typing import Any

from sawyer.types import (
    Agreement,
    Board,
    DayVotes,
    Interval,
    Ladder,
    PairResult,
    PositionBias,
    RewardDistribution,
    RoundSummary,
    Strength,
)

NOW = 1_795_300_000.0


def interval(value: float, low: float, high: float) -> Interval:
    return Interval(value=value, low=low, high=high)


def board(**changed: Any) -> Board:
    """118 votes of 31 people: RLF and SFT beat base, RLF is ahead of SFT by what may still be chance."""
    days = [("2026-11-18", 6, 9, 12, 3, 2), ("2026-11-19", 4, 11, 10, 2, 1), ("2026-11-21", 5, 19, 26, 5, 3)]
    return Board(
        **{
            "votes": 118,
            "voters": 31,
            "contestants": ["base", "sft", "rlf"],
            "choices": {"base": 15, "sft": 39, "rlf": 48, "tie": 10, "bad": 6},
            "pairs": pairs(),
            "ladder": Ladder(
                n=224, strengths=strengths(("rlf", 0.61, 0.36, 0.88), ("sft", 0.34, 0.1, 0.6)), separable=False
            ),
            "ladder_length_controlled": Ladder(
                n=224,
                strengths=strengths(("sft", 0.47, 0.2, 0.76), ("rlf", 0.45, 0.17, 0.75)),
                length_effect=interval(0.31, 0.12, 0.5),
            ),
            "days": [
                DayVotes(day=day, choices={"base": b, "sft": s, "rlf": r, "tie": t, "bad": x}, n=b + s + r + t + x)
                for day, b, s, r, t, x in days
            ],
            "position": PositionBias(n=64, counts=[26, 18, 20], p=0.44),
            "rewards": rewards(),
            "agreement": Agreement(n=187, share=interval(0.66, 0.6, 0.72)),
            "rounds": rounds(),
            "updated": NOW,
            **changed,
        }
    )


def pairs() -> list[PairResult]:
    return [
        PairResult(first="rlf", second="sft", wins=42, ties=10, losses=33, n=85, win_rate=interval(0.553, 0.46, 0.64)),
        PairResult(first="rlf", second="base", wins=48, ties=10, losses=13, n=71, win_rate=interval(0.746, 0.66, 0.82)),
        PairResult(first="sft", second="base", wins=41, ties=10, losses=17, n=68, win_rate=interval(0.676, 0.58, 0.76)),
    ]


def strengths(*leaders: tuple[str, float, float, float]) -> list[Strength]:
    """The leaders, separable from base alone, and base."""
    base = Strength(contestant="base", n=139, strength=interval(-0.95, -1.28, -0.65), apart_from=["rlf", "sft"])
    ahead = [
        Strength(contestant=name, n=150, strength=interval(value, low, high), apart_from=["base"])
        for name, value, low, high in leaders
    ]
    return [*ahead, base]


def rewards() -> list[RewardDistribution]:
    edges = [-4.0, -3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0, 4.0]
    shapes = {
        "base": ([3, 17, 34, 29, 19, 10, 5, 1], -1.14, -1.3),
        "sft": ([0, 4, 14, 31, 36, 22, 9, 2], 0.09, 0.07),
        "rlf": ([0, 1, 5, 17, 31, 36, 22, 6], 1.08, 1.21),
    }
    return [
        RewardDistribution(contestant=name, n=118, mean=mean, median=median, deviation=1.4, edges=edges, counts=counts)
        for name, (counts, mean, median) in shapes.items()
    ]


def rounds() -> list[RoundSummary]:
    common = {"recipe": "nano", "votes": 104, "voters": 27, "created": NOW - 7200, "ended": NOW - 5000}
    return [
        RoundSummary(
            number=3,
            method="ppo",
            state="refused",
            candidate="rlf@3",
            current="rlf@2",
            reasons=["The candidate's replies are 1.93 times as long; allowed is below 1.8."],
            **common,
        ),
        RoundSummary(number=2, method="dpo", state="promoted", candidate="rlf@2", current="rlf@1", **common),
        RoundSummary(number=1, method="ppo", state="dry", candidate="rlf@2", current="rlf@1", **common),
    ]


def nothing(**changed: Any) -> Board:
    """The board of a server that nobody has voted on."""
    return Board(
        **{
            "votes": 0,
            "voters": 0,
            "ladder": Ladder(n=0),
            "ladder_length_controlled": Ladder(n=0),
            "position": PositionBias(n=0),
            "agreement": Agreement(n=0),
            "updated": NOW,
            **changed,
        }
    )
