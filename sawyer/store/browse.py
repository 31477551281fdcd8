"""Looking through standing votes by a filter: what the database can decide is asked of it, the rest here.

Text is searched in Python: SQLite knows the case of ASCII alone, and questions are JSON in the database.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from sqlalchemy import ColumnElement, func, select

from sawyer.store import queries
from sawyer.store.panes import is_blind
from sawyer.store.records import Rating, Turn, Vote
from sawyer.store.schema import reviews, votes
from sawyer.store.store import FeedbackStore
from sawyer.types import FeedbackFilter

_CHUNK = 500


@dataclass(frozen=True)
class Decision:
    """The newest review of a vote."""

    state: str
    note: str | None
    reviewer: str


def standing_votes(
    store: FeedbackStore, wanted: FeedbackFilter | None = None, *, newest_first: bool = False, before: int | None = None
) -> Iterator[tuple[Vote, Turn]]:
    """Standing votes (rejected ones included) with their turns, as far as the database can tell what is wanted.

    Args:
        before: only votes whose seq is smaller.
    """
    with store.database.read() as connection:
        upto = queries.last_seq(connection, votes)
    allowed = [*_conditions(wanted or FeedbackFilter()), queries.standing(upto)]
    if before is not None:
        allowed.append(votes.c.seq < before)
    order = votes.c.seq.desc() if newest_first else votes.c.seq
    last: int | None = None
    while True:
        further = [] if last is None else [votes.c.seq < last if newest_first else votes.c.seq > last]
        query = queries.select_votes().where(*allowed, *further).order_by(order).limit(_CHUNK)
        with store.database.read() as connection:
            found = queries.with_turns(connection, query)
        yield from found
        if len(found) < _CHUNK:
            return
        last = found[-1][0].seq


def matching_votes(
    store: FeedbackStore, wanted: FeedbackFilter, findings: Mapping[str, Collection[str]], *, newest_first: bool = False
) -> Iterator[tuple[Vote, Turn]]:
    """The standing votes that are wanted, with their turns. ``findings`` are those of each vote, by id."""
    for vote, turn in standing_votes(store, wanted, newest_first=newest_first):
        if matches(wanted, vote, turn, findings.get(vote.id, ())):
            yield vote, turn


def count_standing(store: FeedbackStore, wanted: FeedbackFilter) -> int:
    """The number of `standing_votes`."""
    with store.database.read() as connection:
        standing = queries.standing(queries.last_seq(connection, votes))
        query = select(func.count()).select_from(votes).where(*_conditions(wanted), standing)
        return connection.scalar(query) or 0


def newest_decisions(store: FeedbackStore, vote_ids: Collection[str]) -> dict[str, Decision]:
    """Vote id -> its newest review; votes without one are left out."""
    query = select(reviews).where(reviews.c.vote_id.in_(vote_ids)).order_by(reviews.c.seq)
    with store.database.read() as connection:
        rows = connection.execute(query).mappings()
        return {row["vote_id"]: Decision(row["state"], row["note"], row["reviewer"]) for row in rows}


def decided_by_database(wanted: FeedbackFilter) -> bool:
    """Whether `standing_votes` gives exactly what is wanted."""
    return wanted.text is None and wanted.blind is None and wanted.finding is None


def concerns_votes_alone(wanted: FeedbackFilter) -> bool:
    """Whether the filter asks for something that thumbs do not have."""
    return any(getattr(wanted, name) is not None for name in ("state", "choice", "finding", "blind", "edited"))


def matches(wanted: FeedbackFilter, vote: Vote, turn: Turn, findings: Collection[str]) -> bool:
    """Whether a vote of `standing_votes` is wanted as far as the database could not tell."""
    if wanted.finding is not None and wanted.finding not in findings:
        return False
    if wanted.blind is not None and wanted.blind != is_blind(turn):
        return False
    return wanted.text is None or _mentions(turn, wanted.text, vote.edited, vote.comment, vote.name)


def matches_rating(wanted: FeedbackFilter, rating: Rating, turn: Turn) -> bool:
    """Whether a thumb is wanted by a filter that does not concern votes alone."""
    if wanted.voter is not None and wanted.voter != rating.voter:
        return False
    if (wanted.since is not None and rating.created < wanted.since) or (
        wanted.until is not None and rating.created > wanted.until
    ):
        return False
    return wanted.text is None or _mentions(turn, wanted.text)


def _conditions(wanted: FeedbackFilter) -> list[ColumnElement[bool]]:
    allowed: list[ColumnElement[bool]] = []
    if wanted.state is not None:
        allowed.append(queries.review_state() == wanted.state)
    if wanted.choice is not None:
        allowed.append(votes.c.choice == wanted.choice)
    if wanted.voter is not None:
        allowed.append(votes.c.voter == wanted.voter)
    if wanted.edited is not None:
        allowed.append(votes.c.edited.is_not(None) if wanted.edited else votes.c.edited.is_(None))
    if wanted.since is not None:
        allowed.append(votes.c.created >= wanted.since)
    if wanted.until is not None:
        allowed.append(votes.c.created <= wanted.until)
    return allowed


def _mentions(turn: Turn, text: str, *more: str | None) -> bool:
    sought = text.casefold()
    texts = [*(message["content"] for message in turn.messages), *(answer.text for answer in turn.completions), *more]
    return any(sought in each.casefold() for each in texts if each)
