"""Appending to the two feedback logs. Each function runs inside the caller's write transaction."""

import time
from typing import Any

from sqlalchemy import Connection, RowMapping, Table, insert, select

from sawyer.store import checks, queries
from sawyer.store.errors import Conflict, NotFound
from sawyer.store.ids import new_id
from sawyer.store.records import UNDO, RatingRow, Turn, VoteRow
from sawyer.store.schema import completions, ratings, turns, votes


def append_vote(connection: Connection, request: dict[str, Any], key: str | None) -> VoteRow:
    """Store a vote or an undo, unless this very request was stored under the same key before.

    `request` holds the columns the person decided: turn_id, voter, choice and the optional ones.
    """
    earlier = _earlier(connection, votes, request, key)
    if earlier is not None:
        return VoteRow(earlier["id"], created=False)
    turn = require_turn(connection, request["turn_id"])
    row = request | {"id": new_id(), "idempotency_key": key, "created": time.time(), "shown": []}
    if request["choice"] == UNDO:
        _require_vote(connection, turn.id, request["voter"])
    else:
        checks.check_stages_shown(request["choice"], request["ranking"], turn)
        shown = checks.shown_answers(turn)
        chosen = [answer.id for answer in shown if answer.stage == request["choice"]]
        row |= {"shown": [answer.id for answer in shown], "completion_id": next(iter(chosen), None)}
    connection.execute(insert(votes), row)
    return VoteRow(row["id"], created=True)


def append_rating(connection: Connection, request: dict[str, Any], key: str | None) -> RatingRow:
    """Store a rating, unless this very request was stored under the same key before."""
    earlier = _earlier(connection, ratings, request, key)
    if earlier is not None:
        return RatingRow(earlier["id"], created=False)
    known = select(completions.c.id).where(completions.c.id == request["completion_id"])
    if connection.scalar(known.with_for_update()) is None:
        raise NotFound(f"There is no answer {request['completion_id']!r}.")
    row = request | {"id": new_id(), "idempotency_key": key, "created": time.time()}
    connection.execute(insert(ratings), row)
    return RatingRow(row["id"], created=True)


def require_turn(connection: Connection, turn_id: str) -> Turn:
    """The turn, locked (PostgreSQL) so that the votes on it get their numbers in the order they commit."""
    connection.execute(select(turns.c.id).where(turns.c.id == turn_id).with_for_update())
    found = queries.load_turns(connection, [turn_id])
    if turn_id not in found:
        raise NotFound(f"There is no turn {turn_id!r}.")
    return found[turn_id]


def _earlier(connection: Connection, table: Table, request: dict[str, Any], key: str | None) -> RowMapping | None:
    """The row stored under this key, if any; Conflict when it answers another request."""
    if key is None:
        return None
    row = connection.execute(select(table).where(table.c.idempotency_key == key)).mappings().first()
    if row is None:
        return None
    differing = sorted(name for name, value in request.items() if row[name] != value)
    if differing:
        raise Conflict(
            f"The idempotency key {key!r} was used before for a request with another"
            f" {', '.join(differing)}. Send a new key with a new request."
        )
    return row


def _require_vote(connection: Connection, turn_id: str, voter: str) -> None:
    mine = select(votes.c.choice).where(votes.c.turn_id == turn_id, votes.c.voter == voter)
    newest = connection.scalar(mine.order_by(votes.c.seq.desc()).limit(1))
    if newest in (None, UNDO):
        raise NotFound(f"There is no vote of {voter or 'an anonymous voter'} on turn {turn_id} to take back.")
