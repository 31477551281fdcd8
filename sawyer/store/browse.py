"""Looking through standing votes, and thumbs, by a filter."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from sqlalchemy import func, select

from sawyer.store import queries
from sawyer.store.filters import conditions
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
    store: FeedbackStore,
    wanted: FeedbackFilter | None = None,
    findings: Mapping[str, Collection[str]] | None = None,
    *,
    newest_first: bool = False,
    before: int | None = None,
) -> Iterator[tuple[Vote, Turn]]:
    """Standing votes (rejected ones included) that are wanted, with their turns.

    Args:
        findings: those of each vote, by id, for a filter that asks for one.
        before: only votes whose seq is smaller.
    """
    order = votes.c.seq.desc() if newest_first else votes.c.seq
    upto: int | None = None
    last: int | None = None
    while True:
        with store.database.read() as connection:
            upto = queries.last_seq(connection, votes) if upto is None else upto
            allowed = [*conditions(connection, wanted or FeedbackFilter(), findings or {}), queries.standing(upto)]
            if before is not None:
                allowed.append(votes.c.seq < before)
            if last is not None:
                allowed.append(votes.c.seq < last if newest_first else votes.c.seq > last)
            query = queries.select_votes().where(*allowed).order_by(order).limit(_CHUNK)
            found = queries.with_turns(connection, query)
        yield from found
        if len(found) < _CHUNK:
            return
        last = found[-1][0].seq


def count_standing(
    store: FeedbackStore, wanted: FeedbackFilter, findings: Mapping[str, Collection[str]] | None = None
) -> int:
    """The number of `standing_votes`."""
    with store.database.read() as connection:
        standing = queries.standing(queries.last_seq(connection, votes))
        allowed = conditions(connection, wanted, findings or {})
        return connection.scalar(select(func.count()).select_from(votes).where(*allowed, standing)) or 0


def newest_decisions(store: FeedbackStore, vote_ids: Collection[str]) -> dict[str, Decision]:
    """Vote id -> its newest review; votes without one are left out."""
    query = select(reviews).where(reviews.c.vote_id.in_(vote_ids)).order_by(reviews.c.seq)
    with store.database.read() as connection:
        rows = connection.execute(query).mappings()
        return {row["vote_id"]: Decision(row["state"], row["note"], row["reviewer"]) for row in rows}


def concerns_votes_alone(wanted: FeedbackFilter) -> bool:
    """Whether the filter asks for something that thumbs do not have."""
    return any(getattr(wanted, name) is not None for name in ("state", "choice", "finding", "blind", "edited"))


def matches_rating(wanted: FeedbackFilter, rating: Rating, turn: Turn) -> bool:
    """Whether a thumb is wanted by a filter that does not concern votes alone."""
    if wanted.voter is not None and wanted.voter != rating.voter:
        return False
    if (wanted.since is not None and rating.created < wanted.since) or (
        wanted.until is not None and rating.created > wanted.until
    ):
        return False
    return wanted.text is None or _mentions(turn, wanted.text)


def _mentions(turn: Turn, text: str) -> bool:
    sought = text.casefold()
    texts = [*(message["content"] for message in turn.messages), *(answer.text for answer in turn.completions)]
    return any(sought in each.casefold() for each in texts)
