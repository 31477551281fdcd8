"""Forgetting a person: everything of theirs leaves the database and the files that were made of it."""

from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection, Select, delete, exists, or_, select, update

from sawyer.store import ledger
from sawyer.store.errors import Invalid, NotFound
from sawyer.store.schema import completions, conversations, ratings, redactions, reviews, turns, votes
from sawyer.store.store import FeedbackStore


@dataclass(frozen=True)
class Forgotten:
    """What was removed, in rows; ``files`` are those that were rewritten."""

    votes: int
    ratings: int
    conversations: int
    files: list[Path]


def forget(store: FeedbackStore, voter: str) -> Forgotten:
    """Remove a person's votes, thumbs, the reviews of them, and the conversations that were theirs.

    A conversation was theirs when it began under their name, or when nobody else voted on it or rated its answers (a
    visitor's own chat). In one that others voted on as well, only what this person said of it goes. Files in the ledger
    lose this person's rows, and every row of those conversations. Files come first: if one cannot be rewritten, the
    database still knows what is in it, and the command can be repeated.

    Raises:
        NotFound: nothing of this person is here. Invalid: no voter was named.
        StoreError: the database or one of the files cannot be written.
    """
    if not voter.strip():
        raise Invalid("Name a voter. Anonymous votes are of many people; `sawyer feedback review` can reject them.")
    with store.database.read() as connection:
        theirs = set(connection.scalars(_conversations(voter)))
        of_person = (
            select(votes.c.id).where(votes.c.voter == voter),
            select(ratings.c.id).where(ratings.c.voter == voter),
        )
        if not theirs and not any(connection.scalar(query.limit(1)) for query in of_person):
            raise NotFound(f"There is nothing of a voter {voter!r} here. `sawyer feedback voters` lists them.")
    changed = ledger.rewrite(store, lambda _: None, voters=[voter], conversation_ids=sorted(theirs))
    with store.database.write() as connection:
        theirs = set(connection.scalars(_conversations(voter)))
        counts = _remove(connection, voter, theirs)
    store.database.scrub()
    return Forgotten(*counts, files=changed)


def _conversations(voter: str) -> Select:
    """Ids of the conversations that were this person's."""
    inside = turns.c.conversation_id == conversations.c.id
    voted = select(votes.c.voter).join(turns, turns.c.id == votes.c.turn_id).where(inside)
    rated = select(ratings.c.voter).join(completions, completions.c.id == ratings.c.completion_id)
    rated = rated.join(turns, turns.c.id == completions.c.turn_id).where(inside)
    own = or_(exists(voted.where(votes.c.voter == voter)), exists(rated.where(ratings.c.voter == voter)))
    others = or_(exists(voted.where(votes.c.voter != voter)), exists(rated.where(ratings.c.voter != voter)))
    return select(conversations.c.id).where(
        or_(conversations.c.voter == voter, conversations.c.voter.is_(None) & own & ~others)
    )


def _remove(connection: Connection, voter: str, theirs: set[str]) -> tuple[int, int, int]:
    asked = select(turns.c.id).where(turns.c.conversation_id.in_(theirs))
    answered = select(completions.c.id).where(completions.c.turn_id.in_(asked))
    of_votes = or_(votes.c.voter == voter, votes.c.turn_id.in_(asked))
    of_ratings = or_(ratings.c.voter == voter, ratings.c.completion_id.in_(answered))
    connection.execute(delete(reviews).where(reviews.c.vote_id.in_(select(votes.c.id).where(of_votes))))
    gone_votes = connection.execute(delete(votes).where(of_votes)).rowcount
    gone_ratings = connection.execute(delete(ratings).where(of_ratings)).rowcount
    connection.execute(delete(redactions).where(redactions.c.conversation_id.in_(theirs)))
    connection.execute(update(turns).where(turns.c.conversation_id.in_(theirs)).values(parent_id=None))
    connection.execute(delete(completions).where(completions.c.turn_id.in_(asked)))
    connection.execute(delete(turns).where(turns.c.conversation_id.in_(theirs)))
    gone = connection.execute(delete(conversations).where(conversations.c.id.in_(theirs))).rowcount
    return gone_votes, gone_ratings, gone
