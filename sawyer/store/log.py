"""Appending ratings and reviews to their logs. Each function runs inside the caller's write transaction."""

import time
from typing import Any

from sqlalchemy import Connection, insert, select

from sawyer.store.casting import refuse_other
from sawyer.store.errors import NotFound
from sawyer.store.ids import new_id
from sawyer.store.records import UNDO, RatingRow
from sawyer.store.schema import completions, ratings, reviews, turns, votes


def append_rating(connection: Connection, request: dict[str, Any], key: str | None) -> RatingRow:
    """Store a rating, unless this very request was stored under the same key before."""
    earlier = None
    if key is not None:
        earlier = connection.execute(select(ratings).where(ratings.c.idempotency_key == key)).mappings().first()
    if earlier is not None:
        refuse_other(key, [name for name, value in request.items() if earlier[name] != value])
        return RatingRow(earlier["id"], created=False)
    known = select(completions.c.id).where(completions.c.id == request["completion_id"])
    if connection.scalar(known.with_for_update()) is None:
        raise NotFound(f"There is no answer {request['completion_id']!r}.")
    row = request | {"id": new_id(), "idempotency_key": key, "created": time.time()}
    connection.execute(insert(ratings), row)
    return RatingRow(row["id"], created=True)


def append_reviews(connection: Connection, vote_ids: list[str], decision: dict[str, Any]) -> int:
    """Store one decision (state, note, reviewer) on each of the votes, all or none; the number of votes."""
    wanted = list(dict.fromkeys(vote_ids))
    known = set(connection.scalars(select(votes.c.id).where(votes.c.id.in_(wanted), votes.c.choice != UNDO)))
    unknown = [vote_id for vote_id in wanted if vote_id not in known]
    if unknown:
        raise NotFound(
            f"There is no vote {unknown[0]!r} ({len(unknown)} of {len(wanted)} are unknown). None was reviewed."
        )
    now = time.time()
    connection.execute(
        insert(reviews),
        [decision | {"id": new_id(), "vote_id": vote_id, "created": now} for vote_id in wanted],
    )
    return len(wanted)


def require_turn(connection: Connection, turn_id: str) -> None:
    """NotFound unless there is such a turn."""
    if connection.scalar(select(turns.c.id).where(turns.c.id == turn_id)) is None:
        raise NotFound(f"There is no turn {turn_id!r}.")
