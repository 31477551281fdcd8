"""A board's parts as figures: title, finding, n, table and how to draw them."""

from collections.abc import Callable
from dataclasses import dataclass

from sawyer.types import Board, DayVotes, Interval, Ladder, PairResult, PositionBias, RewardDistribution
from ui.board import findings, plots, texts
from ui.board.palette import Palette
from ui.board.plots import IntervalRow, Marks
from ui.numbers import MINUS, away_from, contestant_name, percent, percent_interval, signed_interval

Cell = str | int | float | None
AXES = (0.5, 1.0, 1.5, 2.0, 3.0, 5.0, 8.0)
"""Half-widths a log-odds axis can have. Steps, so that the picture does not breathe with every vote."""


@dataclass(frozen=True)
class Figure:
    """One figure. ``draw`` is None where there is nothing to draw yet; ``rows`` are what it is drawn from."""

    name: str
    title: str
    finding: str
    n: int
    unit: str
    header: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    draw: Callable[[Palette], Marks] | None


def figures(board: Board) -> list[Figure]:
    """All of a board's figures, in the order in which they are shown."""
    return [
        pairs(board),
        days(board.days, [*board.contestants, "tie", "bad"]),
        ladder(board.ladder, "strength", texts.LADDER),
        ladder(board.ladder_length_controlled, "strength-length-controlled", texts.LADDER_CONTROLLED),
        rewards(board.rewards),
        agreement(board),
        position(board.position),
    ]


def pairs(board: Board) -> Figure:
    rows = [
        IntervalRow(
            label=f"{contestant_name(one.first)} against {contestant_name(one.second)}",
            figures=percent_interval(one.win_rate),
            n=one.n,
            interval=one.win_rate,
            colour=one.first if one.win_rate.value >= 0.5 else one.second,
            apart=away_from(one.win_rate, 0.5),
            remark=_won(one) if away_from(one.win_rate, 0.5) else texts.NOT_SEPARABLE,
        )
        for one in board.pairs
    ]
    return Figure(
        "pairs",
        texts.PAIRS,
        findings.pairs(board.pairs),
        sum(one.n for one in board.pairs),
        "comparison",
        ("first", "second", "n", "wins", "ties", "losses", "win_rate", "low", "high", "level"),
        tuple(
            (one.first, one.second, one.n, one.wins, one.ties, one.losses, *_interval(one.win_rate))
            for one in board.pairs
        ),
        _shares(rows, texts.PAIRS_AXIS),
    )


def ladder(each: Ladder, name: str, title: str) -> Figure:
    rows = [
        IntervalRow(
            label=contestant_name(one.contestant),
            figures=signed_interval(one.strength),
            n=one.n,
            interval=one.strength,
            colour=one.contestant,
            apart=bool(one.apart_from),
            remark=findings.apart(one),
        )
        for one in each.strengths
    ]
    widest = max((max(abs(row.interval.low), abs(row.interval.high)) for row in rows), default=1.0)
    bound = next((half for half in AXES if widest <= half), widest)

    def draw(palette: Palette) -> Marks:
        axis = texts.LADDER_AXIS
        return plots.intervals(rows, palette, low=-bound, high=bound, middle=0, tick=_plain, axis=axis)

    return Figure(
        name,
        title,
        findings.ladder(each),
        each.n,
        "comparison",
        ("contestant", "n", "strength", "low", "high", "level", "separable_from"),
        tuple((one.contestant, one.n, *_interval(one.strength), " ".join(one.apart_from)) for one in each.strengths),
        draw if rows else None,
    )


def days(each: list[DayVotes], choices: list[str]) -> Figure:
    def draw(palette: Palette) -> Marks:
        return plots.days(each, choices, palette, axis=texts.DAYS_AXIS)

    return Figure(
        "days",
        texts.DAYS,
        findings.days(each),
        sum(day.n for day in each),
        "vote",
        ("day", "n", *choices),
        tuple((day.day, day.n, *(day.choices.get(choice, 0) for choice in choices)) for day in each),
        draw if each else None,
    )


def position(each: PositionBias) -> Figure:
    names = texts.PLACES if len(each.counts) == 3 else tuple(f"place {place + 1}" for place in range(len(each.counts)))

    def draw(palette: Palette) -> Marks:
        return plots.places(each.counts, names, palette, axis=texts.POSITION_AXIS)

    return Figure(
        "position",
        texts.POSITION,
        findings.position(each),
        each.n,
        "blind vote",
        ("place", "preferred"),
        tuple(zip(names, each.counts, strict=True)),
        draw if each.n else None,
    )


def rewards(each: list[RewardDistribution]) -> Figure:
    def draw(palette: Palette) -> Marks:
        return plots.shapes(each, palette, axis=texts.REWARDS_AXIS)

    bins = (
        (one.contestant, one.n, one.mean, one.median, one.deviation, start, end, count)
        for one in each
        for start, end, count in zip(one.edges, one.edges[1:], one.counts, strict=False)
    )
    return Figure(
        "rewards",
        texts.REWARDS,
        findings.rewards(each),
        sum(one.n for one in each),
        "reply",
        ("contestant", "n", "mean", "median", "deviation", "from", "to", "count"),
        tuple(bins),
        draw if any(len(one.edges) > 1 for one in each) else None,
    )


def agreement(board: Board) -> Figure:
    share = board.agreement.share
    row = None
    if share is not None:
        found, n = percent_interval(share), board.agreement.n
        row = IntervalRow(texts.AGREEMENT_LABEL, found, n, share, "rlf", away_from(share, 0.5))
    return Figure(
        "agreement",
        texts.AGREEMENT,
        findings.agreement(board.agreement),
        board.agreement.n,
        "pair",
        ("n", "share", "low", "high", "level"),
        ((board.agreement.n, *_interval(share)),) if share else (),
        _shares([row] if row else [], texts.AGREEMENT_AXIS),
    )


def _won(one: PairResult) -> str:
    return texts.WON.format(wins=one.wins, ties=one.ties, losses=one.losses)


def _shares(rows: list[IntervalRow], axis: str) -> Callable[[Palette], Marks] | None:
    def draw(palette: Palette) -> Marks:
        return plots.intervals(rows, palette, low=0, high=1, middle=0.5, tick=percent, axis=axis)

    return draw if rows else None


def _interval(each: Interval) -> tuple[float, float, float, float]:
    return each.value, each.low, each.high, each.level


def _plain(value: float) -> str:
    """A place on a log-odds axis: ``0``, ``+1``, ``−0.5``."""
    return f"{value:+g}".replace("-", MINUS) if value else "0"
