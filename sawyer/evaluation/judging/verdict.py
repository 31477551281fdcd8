"""What a judge's words mean, and what its two answers on one pair of replies come to."""

import re
from enum import StrEnum
from pathlib import Path

from sawyer.data_formats import Message
from sawyer.errors import UsageError

TEMPLATE = Path(__file__).with_name("template.txt")
PLACES = ("{conversation}", "{first}", "{second}")
_VERDICT = re.compile(r"^\W*(?:(?:final )?(?:verdict|answer|reply)\W+)?(a|b|tie)\W*$", re.IGNORECASE)


class Verdict(StrEnum):
    """Of one question: the reply that stood first or second, a tie, or words that mean none of these."""

    FIRST = "first"
    SECOND = "second"
    TIE = "tie"
    NONSENSE = "nonsense"


def read_template(file: Path | None) -> str:
    """The template, ours or another one. UsageError: it cannot be read or lacks a place to fill in."""
    try:
        text = (file or TEMPLATE).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"The judge's template {file} cannot be read: {error}.") from error
    missing = [place for place in PLACES if place not in text]
    if missing:
        raise UsageError(f"The judge's template {file} has no {', '.join(missing)}; it needs {', '.join(PLACES)}.")
    return text


def fill(template: str, messages: list[Message], first: str, second: str) -> str:
    """The question to the judge. What people and models wrote is put in once and never read as a place to fill in."""
    told = {
        "conversation": "\n".join(f"{m['role']}: {m['content']}" for m in messages),
        "first": first,
        "second": second,
    }
    return re.sub(r"\{(conversation|first|second)\}", lambda place: told[place[1]], template)


def understand(text: str) -> Verdict:
    """The verdict on the last line that is not empty. Anything but A, B or TIE there is nonsense."""
    lines = [line for line in text.strip().splitlines() if line.strip()]
    found = _VERDICT.match(lines[-1]) if lines else None
    if found is None:
        return Verdict.NONSENSE
    return {"a": Verdict.FIRST, "b": Verdict.SECOND, "tie": Verdict.TIE}[found[1].lower()]


def score(forward: Verdict, backward: Verdict) -> float | None:
    """What the later stage gets of a pair asked in both orders: 1 won, 0 lost, 1/2 tied; None with a nonsense answer.

    ``forward`` was asked with the earlier stage's reply first, ``backward`` with the later one's. A judge that prefers
    a place instead of a reply contradicts itself, and the pair counts as tied (Zheng et al. 2023, arXiv 2306.05685).
    """
    if Verdict.NONSENSE in (forward, backward):
        return None
    if (forward, backward) == (Verdict.SECOND, Verdict.FIRST):
        return 1.0
    return 0.0 if (forward, backward) == (Verdict.FIRST, Verdict.SECOND) else 0.5


def consistent(forward: Verdict, backward: Verdict) -> bool:
    """Whether both answers say the same of the two replies."""
    mirrored = {Verdict.FIRST: Verdict.SECOND, Verdict.SECOND: Verdict.FIRST, Verdict.TIE: Verdict.TIE}
    return mirrored.get(forward) == backward
