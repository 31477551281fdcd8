"""Numbers in words and figures, one way everywhere; contestants by name and colour."""

from sawyer.types import VERDICTS, Interval
from ui.texts import stage_text

MINUS = "\N{MINUS SIGN}"


def percent(share: float) -> str:
    """0.712 -> ``71 %``."""
    return f"{100 * share:.0f} %"


def signed(number: float) -> str:
    """-0.5 -> ``−0.50``, with a sign that is no hyphen."""
    return f"{number:+.2f}".replace("-", MINUS)


def counted(number: int, noun: str) -> str:
    """``1 vote``, ``1,204 votes``, ``2 replies``."""
    return f"{number:,} {of_number(number, noun)}"


def of_number(number: int, noun: str) -> str:
    """``vote`` or ``votes``, for ``number`` of them."""
    many = f"{noun[:-1]}ies" if noun.endswith("y") and noun[-2:] != "ay" else f"{noun}s"
    return noun if number == 1 else many


def percent_interval(interval: Interval) -> str:
    return f"{percent(interval.value)} [{100 * interval.low:.0f}, {100 * interval.high:.0f}]"


def signed_interval(interval: Interval) -> str:
    return f"{signed(interval.value)} [{signed(interval.low)}, {signed(interval.high)}]"


def away_from(interval: Interval, point: float) -> bool:
    """Does the interval leave ``point`` out? Only then may a difference be called one."""
    return interval.low > point or interval.high < point


def contestant_name(contestant: str) -> str:
    """``rlf`` -> ``RLF``, ``rlf@3`` -> ``RLF 3``, tie and bad in words."""
    if contestant in VERDICTS:
        return {"tie": "Tie", "bad": "All bad"}[contestant]
    return stage_text(contestant).name
