"""Appending to the feedback logs. Each function runs inside the caller's write transaction."""

import time
from typing import Any

from sqlalchemy import Connection, RowMapping, Table, insert, select

from sawyer.store import checks, queries
from sawyer.store.errors import Conflict, Invalid, NotFound
from sawyer.store.ids import new_id
from sawyer.store.panes import identity, panes_of
from sawyer.store.records import UNDO, VERDICTS, RatingRow, Turn, VoteRow
from sawyer.store.schema import completions, ratings, reviews, turns, votes


def append_vote(connection: Connection, request: dict[str, Any], key: str | None) -> VoteRow:
    """Store a vote or an undo, unless this very request was stored under the same key before.

    `request` holds what the person decided: turn_id, voter, choice and ranking (names of panes) and the optional
    columns; `created` is when, None: now.
    """
    turn = require_turn(connection, request["turn_id"])
    request = dict(request)
    created = request.pop("created", None) or time.time()
    if request["choice"] != UNDO:
        request |= _answers_meant(request, turn)
    earlier = _earlier(connection, votes, key)
    if earlier is not None:
        _require_same(earlier, request, turn)
        return VoteRow(earlier["id"], created=False)
    row = request | {"id": new_id(), "idempotency_key": key, "created": created, "shown": []}
    if request["choice"] == UNDO:
        _require_vote(connection, turn.id, request["voter"])
    else:
        row |= {"shown": [answer.id for answer in panes_of(turn).values()]}
    connection.execute(insert(votes), row)
    return VoteRow(row["id"], created=True)


def append_rating(connection: Connection, request: dict[str, Any], key: str | None) -> RatingRow:
    """Store a rating, unless this very request was stored under the same key before."""
    earlier = _earlier(connection, ratings, key)
    if earlier is not None:
        _refuse_other(key, [name for name, value in request.items() if earlier[name] != value])
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


def require_turn(connection: Connection, turn_id: str) -> Turn:
    """The turn, locked (PostgreSQL) so that the votes on it get their numbers in the order they commit."""
    if connection.dialect.name != "sqlite":  # where the whole database has been locked by now
        connection.execute(select(turns.c.id).where(turns.c.id == turn_id).with_for_update())
    found = queries.load_turns(connection, [turn_id])
    if turn_id not in found:
        raise NotFound(f"There is no turn {turn_id!r}.")
    return found[turn_id]


def _answers_meant(request: dict[str, Any], turn: Turn) -> dict[str, Any]:
    """Choice, completion_id and ranking as they are stored: a stage or verdict, and answers instead of panes."""
    checks.check_answered(turn)
    ranking = request["ranking"] and [checks.answer_named(turn, name).id for name in request["ranking"]]
    if ranking and len(set(ranking)) != len(ranking):
        raise Invalid(f"The ranking {request['ranking']!r} names an answer twice.")
    if request["choice"] in VERDICTS:
        return {"completion_id": None, "ranking": ranking}
    chosen = checks.answer_named(turn, request["choice"])
    return {"choice": chosen.stage, "completion_id": chosen.id, "ranking": ranking}


def _earlier(connection: Connection, table: Table, key: str | None) -> RowMapping | None:
    """The row stored under this key, if any."""
    if key is None:
        return None
    return connection.execute(select(table).where(table.c.idempotency_key == key)).mappings().first()


def _require_same(earlier: RowMapping, request: dict[str, Any], turn: Turn) -> None:
    """Conflict unless `earlier` is what `request` would store. An answer made anew meanwhile is the same one."""
    if earlier["turn_id"] != turn.id:
        _refuse_other(earlier["idempotency_key"], ["turn_id"])
    same = {answer.id: identity(answer) for answer in turn.completions}
    seen = {name: earlier[name] for name in request}
    for each in (seen, request := dict(request)):
        if "ranking" in each:
            each["ranking"] = each["ranking"] and [same.get(answer) for answer in each["ranking"]]
        if "completion_id" in each:
            each["completion_id"] = same.get(each["completion_id"])
    _refuse_other(earlier["idempotency_key"], [name for name in request if seen[name] != request[name]])


def _refuse_other(key: str | None, differing: list[str]) -> None:
    if differing:
        raise Conflict(
            f"The idempotency key {key!r} was used before for a request with another"
            f" {', '.join(sorted(differing))}. Send a new key with a new request."
        )


def _require_vote(connection: Connection, turn_id: str, voter: str) -> None:
    mine = select(votes.c.choice).where(votes.c.turn_id == turn_id, votes.c.voter == voter)
    newest = connection.scalar(mine.order_by(votes.c.seq.desc()).limit(1))
    if newest in (None, UNDO):
        raise NotFound(f"There is no vote of {voter or 'an anonymous voter'} on turn {turn_id} to take back.")
