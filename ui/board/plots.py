"""The kinds of plots on the board: intervals, columns of a day, columns of a place, shapes of distributions."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta

from sawyer.types import DayVotes, Interval, RewardDistribution
from ui.board.palette import Palette, shades
from ui.board.svg import WIDTH, Scale, circle, hint, line, rect, steps, text
from ui.numbers import MINUS, contestant_name, signed

Marks = tuple[str, float]
"""The marks of a plot, and its height."""

ROW = 84
"""Height of a row: its name and figures, what is remarked on it and its n, its interval."""
MARGIN = 22
DAYS = 30
"""Columns of the days at most: more would be too thin to see."""


@dataclass(frozen=True)
class IntervalRow:
    """One figure with its interval. ``colour`` names a contestant; an interval not ``apart`` is drawn hollow."""

    label: str
    figures: str
    n: int
    interval: Interval
    colour: str
    apart: bool
    remark: str = ""


def intervals(
    rows: Sequence[IntervalRow],
    palette: Palette,
    *,
    low: float,
    high: float,
    middle: float,
    tick: Callable[[float], str],
    axis: str,
) -> Marks:
    """A forest plot: a row each, its label above, its interval on one common scale, the value that means nothing."""
    scale = Scale(low, high, MARGIN, WIDTH - MARGIN)
    bottom = len(rows) * ROW
    ticks = steps(low, high, 4)
    marks = "".join(text(scale(at), bottom + 14, tick(at), palette.soft, size=13, anchor="middle") for at in ticks)
    for place, row in enumerate(rows):
        marks += _ground(place * ROW, ticks, middle, scale, palette) + _interval(row, place * ROW, scale, palette)
    return marks + _caption(axis, bottom + 36, palette), bottom + 44


def _ground(top: float, ticks: Sequence[float], middle: float, scale: Scale, palette: Palette) -> str:
    """The axis behind one row's interval; it leaves the row's words alone."""
    upper, lower = top + 46, top + 78
    lines = "".join(line(scale(at), upper, scale(at), lower, palette.line) for at in ticks)
    return lines + line(scale(middle), upper, scale(middle), lower, palette.soft, width=2, dashed=True)


def _caption(words: str, y: float, palette: Palette) -> str:
    return text(WIDTH / 2, y, words, palette.soft, size=12.5, anchor="middle")


def _interval(row: IntervalRow, top: float, scale: Scale, palette: Palette) -> str:
    colour = palette.of(row.colour) if row.apart else palette.soft
    y = top + 62
    drawn = (
        text(0, top + 18, row.label, palette.ink, size=17, bold=True)
        + text(WIDTH, top + 18, row.figures, palette.ink, size=17, anchor="end")
        + text(0, top + 38, row.remark, palette.soft, size=14)
        + text(WIDTH, top + 38, f"n = {row.n:,}", palette.soft, size=14, anchor="end")
        + line(scale(row.interval.low), y, scale(row.interval.high), y, colour, width=6)
        + circle(scale(row.interval.value), y, 9, colour if row.apart else palette.card, colour)
    )
    return hint(drawn, f"{row.label}: {row.figures}, n = {row.n}")


def days(each: Sequence[DayVotes], choices: Sequence[str], palette: Palette, *, axis: str) -> Marks:
    """Stacked columns, one a day, at most the last thirty; the choices in their colours."""
    shown = every_day(each)[-DAYS:]
    legend, above = _legend(choices, palette)
    height, left = above + 190, 40
    top = max((day.n for day in shown), default=0) or 1
    up = Scale(0, top * 1.12, height, above + 16)
    marks = legend
    for at in (at for at in steps(0, top * 1.12, 4) if at == int(at)):
        marks += line(left, up(at), WIDTH, up(at), palette.line)
        marks += text(left - 8, up(at) + 5, f"{at:.0f}", palette.soft, size=13, anchor="end")
    room = (WIDTH - left) / max(len(shown), 1)
    wide = min(room * 0.72, 56)
    every = -(-len(shown) // 6)
    for place, day in enumerate(shown):
        x = left + room * (place + 0.5) - wide / 2
        marks += _stack(day, choices, x, wide, up, palette)
        if wide >= 22 and day.n:
            marks += text(x + wide / 2, up(day.n) - 6, str(day.n), palette.ink, size=13, anchor="middle", bold=True)
        if place % every == 0:
            marks += text(x + wide / 2, height + 19, day.day[5:], palette.soft, size=13, anchor="middle")
    return marks + _caption(axis, height + 42, palette), height + 50


def every_day(each: Sequence[DayVotes]) -> list[DayVotes]:
    """The days in order, with those between them on which nobody voted."""
    voted = {date.fromisoformat(day.day): day for day in each}
    if not voted:
        return []
    first, last = min(voted), max(voted)
    between = (first + timedelta(days=passed) for passed in range((last - first).days + 1))
    return [voted.get(day) or DayVotes(day=day.isoformat(), choices={}, n=0) for day in between]


def _stack(day: DayVotes, choices: Sequence[str], x: float, wide: float, up: Scale, palette: Palette) -> str:
    marks, below = "", 0
    for choice, strong in shades(choices).items():
        votes = day.choices.get(choice, 0)
        bar = rect(x, up(below + votes), wide, up(below) - up(below + votes), palette.of(choice), opacity=strong)
        marks += bar if votes else ""
        below += votes
    parts = ", ".join(f"{contestant_name(choice)} {day.choices.get(choice, 0)}" for choice in choices)
    return hint(marks, f"{day.day}: {day.n} ({parts})")


def _legend(names: Sequence[str], palette: Palette) -> Marks:
    marks, x, y = "", 0.0, 3.0
    for name, strong in shades(names).items():
        shown = contestant_name(name)
        room = 38 + 7.6 * len(shown)
        if x and x + room > WIDTH:
            x, y = 0.0, y + 22
        marks += rect(x, y, 13, 13, palette.of(name), round_by=3, opacity=strong)
        marks += text(x + 19, y + 12, shown, palette.ink, size=14)
        x += room
    return marks, y + 17


def places(counts: Sequence[int], names: Sequence[str], palette: Palette, *, axis: str) -> Marks:
    """One bar a place, lying, and where all would end if the place did not matter."""
    total = sum(counts) or 1
    even = total / len(counts)
    # What is written stands to the right of the longest bar and of the dashed line, so that they never cross.
    along = Scale(0, max(*counts, even), 74, WIDTH - 104)
    marks, tall = "", 40
    for place, (count, name) in enumerate(zip(counts, names, strict=True)):
        y = place * tall + 8
        words = f"{count} ({100 * count / total:.0f} %)"
        marks += text(0, y + 18, name, palette.ink, size=17, bold=True)
        marks += hint(rect(74, y, along(count) - 74, 26, palette.soft, round_by=4), f"{name}: {words}")
        marks += text(WIDTH, y + 18, words, palette.ink, size=17, anchor="end")
    bottom = len(counts) * tall + 4
    marks += line(along(even), 2, along(even), bottom, palette.ink, width=2, dashed=True)
    return marks + _caption(axis, bottom + 22, palette), bottom + 30


def shapes(each: Sequence[RewardDistribution], palette: Palette, *, axis: str) -> Marks:
    """One small histogram a contestant, above one another on one scale, so that shifts are seen."""
    drawn = [one for one in each if len(one.edges) > 1]
    low = min((one.edges[0] for one in drawn), default=0.0)
    high = max((one.edges[-1] for one in drawn), default=1.0)
    scale = Scale(low, high, 92, WIDTH - MARGIN)
    tall, marks = 96, ""
    bottom = len(drawn) * tall + 8
    for at in steps(low, high):
        marks += line(scale(at), 4, scale(at), bottom, palette.line)
        marks += text(scale(at), bottom + 17, f"{at:g}".replace("-", MINUS), palette.soft, size=13, anchor="middle")
    for place, one in enumerate(drawn):
        marks += _shape(one, place * tall + 8, tall - 8, scale, palette)
    return marks + _caption(axis, bottom + 40, palette), bottom + 48


def _shape(one: RewardDistribution, top: float, tall: float, scale: Scale, palette: Palette) -> str:
    # Shares and not counts: a stage that was shown more often would dwarf the others.
    most = max(one.counts, default=0) or 1
    foot = top + tall
    columns = "".join(
        rect(
            scale(start) + 0.5,
            foot - count / most * (tall - 6),
            scale(end) - scale(start) - 1,
            count / most * (tall - 6),
            palette.of(one.contestant),
        )
        for start, end, count in zip(one.edges, one.edges[1:], one.counts, strict=False)
    )
    mean = scale(one.mean)
    pointer = line(mean, top + 2, mean, foot, palette.ink, width=2.5)
    name = contestant_name(one.contestant)
    words = f"{name}: mean {signed(one.mean)}, median {signed(one.median)}, n = {one.n}"
    return (
        hint(columns + line(92, foot, WIDTH - MARGIN, foot, palette.soft), words)
        + pointer
        + text(0, top + 20, name, palette.ink, size=17, bold=True)
        + text(0, top + 42, signed(one.mean), palette.ink, size=17)
        + text(0, top + 62, f"n = {one.n}", palette.soft, size=13)
    )
