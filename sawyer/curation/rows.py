"""Training rows of the feedback: what may teach, each once, no voter too loud, on one side of a fixed split."""

import hashlib
import json
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from sawyer.curation.analysis import analyse
from sawyer.curation.similarity import NearDuplicates, normalised
from sawyer.data import is_held_out
from sawyer.store import FeedbackStore, Rating, Turn, Vote, derive
from sawyer.store.browse import concerns_votes_alone, matches_rating, standing_votes
from sawyer.types import FeedbackFilter, Finding

Form = Literal["preference", "kto", "sft"]
FORMS: tuple[Form, ...] = ("preference", "kto", "sft")

TRUSTED: tuple[Finding, ...] = ("too_fast", "one_position", "disagrees")
"""Findings whose votes a round leaves out until a reviewer approves them. A repeated question is handled by removing
near-duplicate rows; that a stage won once and lost once may be the replies' doing, which differ each time."""


@dataclass(frozen=True)
class Curation:
    """What is left out.

    Args:
        leave_out: findings whose votes teach nothing unless a reviewer approved them.
        cap: largest share of the rows that one voter gives, except that a voter's first ``floor`` always count (of
            fewer than 1/cap voters, each may give an equal share). Anonymous voters are told apart by conversation.
        deduplicate: one row of a voter's near-duplicates, the newest: see `distinct`.
        split: by hash of the conversation's first question (`sawyer.data.is_held_out`): it stays as data grow.
    """

    leave_out: Collection[Finding] = ()
    cap: float = 0.2
    floor: int = 50
    deduplicate: bool = True
    split: Literal["all", "train", "held_out"] = "all"
    share: float = 0.1


def curated_rows(
    store: FeedbackStore, form: Form, curation: Curation | None = None, wanted: FeedbackFilter | None = None
) -> list[dict]:
    """The rows of one form (see `derive`), oldest first, of what the filter shows and the curation lets through."""
    curation, wanted = curation or Curation(), wanted or FeedbackFilter()
    voted = list(_votes(store, curation, wanted))
    if form == "preference":
        rows = derive.preference_rows(voted)
    elif form == "kto":
        rows = derive.kto_rows(voted, _ratings(store, wanted))
    else:
        rows = derive.sft_rows(voted)
    made = [row for row in rows if _on_side(row, curation)]
    return capped(distinct(made) if curation.deduplicate else made, curation.cap, curation.floor)


def distinct(rows: list[dict]) -> list[dict]:
    """The newest of each voter's near-duplicates, oldest first.

    Rows nearly repeat each other when they are one voter's, their questions are near-duplicates after the same history,
    and they are about the same two texts, whichever way round: who preferred both ways is believed the last time. What
    several voters say of the same texts is evidence and stays, all of it.
    """
    alike: dict[tuple, NearDuplicates] = defaultdict(NearDuplicates)
    kept = []
    for row in reversed(rows):
        messages = row.get("prompt") or row["messages"][:-1]
        history = json.dumps([normalised(message["content"]) for message in messages[:-1]])
        key = (person(row), history, *sorted(normalised(text) for text in _texts(row)))
        if alike[key].add(messages[-1]["content"]) is None:
            kept.append(row)
    return kept[::-1]


def capped(rows: list[dict], cap: float, floor: int) -> list[dict]:
    """The rows with at most `limit` of each voter. Which ones stay is decided by hash, so it hardly changes later."""
    most = limit(Counter(map(person, rows)).values(), cap, floor)
    mine: dict[str, list[tuple[str, int]]] = defaultdict(list)
    for place, row in enumerate(rows):
        mine[person(row)].append((_hash(row), place))
    kept = {place for places in mine.values() for _, place in sorted(places)[:most]}
    return [row for place, row in enumerate(rows) if place in kept]


def limit(counts: Iterable[int], cap: float, floor: int) -> int:
    """The largest number of rows L of one voter that is at most `cap` of what all then give; at least `floor`."""
    given = list(counts)
    share = max(cap, 1 / max(1, len(given)))

    def too_loud(most: int) -> bool:
        return most > share * sum(min(count, most) for count in given) + 1e-9

    # The right side grows ever more slowly with `most`, so there is one place from which on it is too little.
    return max(floor, bisect_left(range(1, max(given, default=0) + 1), True, key=too_loud))


def person(row: dict) -> str:
    """Whose row it is. People without a name are told apart by the conversation."""
    return f"voter {row['voter']}" if row["voter"] else f"conversation {row['conversation_id']}"


def _votes(store: FeedbackStore, curation: Curation, wanted: FeedbackFilter) -> Iterator[tuple[Vote, Turn]]:
    needs_findings = bool(curation.leave_out) or wanted.finding is not None
    found = analyse(standing_votes(store)).findings if needs_findings else {}
    for vote, turn in standing_votes(store, wanted, found):
        doubted = vote.state != "approved" and not set(found.get(vote.id, ())).isdisjoint(curation.leave_out)
        if vote.teaches and not doubted:
            yield vote, turn


def _ratings(store: FeedbackStore, wanted: FeedbackFilter) -> Iterator[tuple[Rating, Turn]]:
    if not concerns_votes_alone(wanted):
        yield from ((rating, turn) for rating, turn in store.counting_ratings() if matches_rating(wanted, rating, turn))


def _on_side(row: dict, curation: Curation) -> bool:
    if curation.split == "all":
        return True
    return is_held_out(row.get("prompt") or row["messages"], curation.share) == (curation.split == "held_out")


def _texts(row: dict) -> list[str]:
    if "messages" in row:
        return [row["messages"][-1]["content"]]
    return [row[name] for name in ("chosen", "rejected", "completion") if name in row]


def _hash(row: dict) -> str:
    words = [row["turn_id"], row["voter"] or "", *_texts(row)]
    return hashlib.sha256("\0".join(words).encode("utf-8", "replace")).hexdigest()
