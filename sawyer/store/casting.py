"""Votes on their way into the log: checked one by one as they come, stored many at a time.

What storing costs is per transaction, not per vote: one look at the turns, one at the idempotency keys, one insert and
one wait for the disk. So the votes that come while the disk is busy are stored together.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, bindparam, insert, select

from sawyer.errors import StoreError
from sawyer.store import checks, queries
from sawyer.store.errors import Conflict, Invalid, NotFound
from sawyer.store.ids import new_id
from sawyer.store.panes import identity, panes_of
from sawyer.store.records import UNDO, VERDICTS, Turn, VoteRow
from sawyer.store.schema import turns, votes

# Built once: building a query anew costs more than running it.
_LOCK = select(turns.c.id).where(turns.c.id.in_(bindparam("ids", expanding=True))).order_by(turns.c.id)
_LOCK = _LOCK.with_for_update()
_EARLIER = select(votes).where(votes.c.idempotency_key.in_(bindparam("keys", expanding=True)))
_INSERT = insert(votes)
# PostgreSQL: one statement with many rows instead of a statement a row, numbered in the order given.
_INSERT_MANY = _INSERT.returning(votes.c.seq, sort_by_parameter_order=True)
_EMPTY: dict[str, Any] = {column.name: None for column in votes.columns if column.name != "seq"}
_EMPTY |= {"shown": [], "consent": True}


@dataclass(frozen=True)
class CastVote:
    """One vote as it was cast, or the taking back of one, cleaned and checked as far as that goes without its turn.

    Attributes:
        decided: the columns that the person decided, by name; choice and ranking still name panes.
        key: the request's idempotency key. created: when it was cast, seconds since the epoch; None: now.
        as_shown: choice and ranking must be called as the screen called them (in a blind turn, by letters), and a
            missing position is the chosen pane's place in the turn's own order.
    """

    decided: dict[str, Any]
    key: str | None = None
    created: float | None = None
    as_shown: bool = False

    @classmethod
    def of(
        cls,
        turn_id: str,
        choice: str,
        voter: str | None = None,
        comment: str | None = None,
        ranking: list[str] | None = None,
        edited: str | None = None,
        position: int | None = None,
        idempotency_key: str | None = None,
        *,
        name: str | None = None,
        consent: bool = True,
        created: float | None = None,
        as_shown: bool = False,
    ) -> "CastVote":
        """A vote. Arguments as in ``FeedbackStore.add_vote``.

        Raises:
            Invalid: something in it can never be stored.
        """
        checks.check_vote(choice, ranking, position)
        decided: dict[str, Any] = {"turn_id": turn_id, "choice": choice, "voter": checks.clean_or_none(voter) or ""}
        decided |= {"comment": checks.clean_or_none(comment), "ranking": ranking, "position": position}
        decided |= {"edited": checks.clean_or_none(edited), "name": checks.clean_or_none(name), "consent": consent}
        return cls(decided, checks.checked_key(idempotency_key), created, as_shown)

    @classmethod
    def undo(cls, turn_id: str, voter: str | None, idempotency_key: str | None) -> "CastVote":
        """The taking back of the voter's vote on a turn."""
        decided = {"turn_id": turn_id, "choice": UNDO, "voter": checks.clean_or_none(voter) or ""}
        return cls(decided, checks.checked_key(idempotency_key))

    @property
    def turn_id(self) -> str:
        return self.decided["turn_id"]


def append_votes(connection: Connection, casts: Sequence[CastVote]) -> list[VoteRow | StoreError]:
    """Store votes and undos, each unless this very request was stored under the same key before.

    Returns:
        For each its receipt, or why it cannot be stored (NotFound, Conflict, Invalid); one says nothing of another.
    """
    ids = list({cast.turn_id for cast in casts})
    if connection.dialect.name != "sqlite":  # where the whole database has been locked by now
        # So that the votes on a turn get their numbers in the order they commit. In one order, or two servers could
        # wait for each other.
        connection.execute(_LOCK, {"ids": ids})
    known = queries.load_turns(connection, ids)
    keys = [cast.key for cast in casts if cast.key is not None]
    found = connection.execute(_EARLIER, {"keys": keys}).mappings() if keys else ()
    earlier: dict[str, dict[str, Any]] = {row["idempotency_key"]: dict(row) for row in found}
    receipts: list[VoteRow | StoreError] = []
    rows: list[dict[str, Any]] = []
    for cast in casts:
        try:
            receipts.append(_receive(connection, cast, known.get(cast.turn_id), earlier, rows))
        except StoreError as error:
            receipts.append(error)
    if rows:
        connection.execute(_INSERT if connection.dialect.name == "sqlite" else _INSERT_MANY, rows)
    return receipts


def _receive(
    connection: Connection,
    cast: CastVote,
    turn: Turn | None,
    earlier: dict[str, dict[str, Any]],
    rows: list[dict[str, Any]],
) -> VoteRow:
    """The receipt of one vote; its row, if it is new, is added to ``rows`` and to what is known ``earlier``."""
    if turn is None:
        raise NotFound(f"There is no turn {cast.turn_id!r}.")
    decided = cast.decided if cast.decided["choice"] == UNDO else cast.decided | _answers_meant(cast, turn)
    if cast.key in earlier:
        before = earlier[cast.key]
        _require_same(before, decided, turn)
        return VoteRow(before["id"], created=False, turn=turn)
    row = _EMPTY | decided | {"id": new_id(), "idempotency_key": cast.key, "created": cast.created or time.time()}
    if decided["choice"] == UNDO:
        _require_vote(connection, cast, rows)
    else:
        row["shown"] = [answer.id for answer in panes_of(turn).values()]
    rows.append(row)
    if cast.key is not None:
        earlier[cast.key] = row
    return VoteRow(row["id"], created=True, turn=turn)


def _answers_meant(cast: CastVote, turn: Turn) -> dict[str, Any]:
    """Choice, completion_id, position and ranking as they are stored: a stage or verdict, answers instead of panes."""
    checks.check_answered(turn)
    decided, name_of = cast.decided, checks.pane_shown if cast.as_shown else checks.answer_named
    verdict = decided["choice"] in VERDICTS
    chosen = None if verdict else name_of(turn, decided["choice"], "choice")
    ranking = decided["ranking"] and [name_of(turn, name, "ranking").id for name in decided["ranking"]]
    if ranking and len(set(ranking)) != len(ranking):
        raise Invalid(f"The ranking {decided['ranking']!r} names an answer twice.")
    if chosen is None:
        return {"completion_id": None, "ranking": ranking}
    position = decided["position"]
    if position is None and cast.as_shown:
        position = [answer.id for answer in panes_of(turn).values()].index(chosen.id)
    return {"choice": chosen.stage, "completion_id": chosen.id, "ranking": ranking, "position": position}


def _require_same(earlier: dict[str, Any], decided: dict[str, Any], turn: Turn) -> None:
    """Conflict unless `earlier` is what `decided` would store. An answer made anew meanwhile is the same one."""
    if earlier["turn_id"] != turn.id:
        refuse_other(earlier["idempotency_key"], ["turn_id"])
    same = {answer.id: identity(answer) for answer in turn.completions}
    seen = {name: earlier[name] for name in decided}
    for each in (seen, decided := dict(decided)):
        if "ranking" in each:
            each["ranking"] = each["ranking"] and [same.get(answer) for answer in each["ranking"]]
        if "completion_id" in each:
            each["completion_id"] = same.get(each["completion_id"])
    refuse_other(earlier["idempotency_key"], [name for name in decided if seen[name] != decided[name]])


def refuse_other(key: str | None, differing: list[str]) -> None:
    """Conflict if a request under a known key differs in anything."""
    if differing:
        raise Conflict(
            f"The idempotency key {key!r} was used before for a request with another"
            f" {', '.join(sorted(differing))}. Send a new key with a new request."
        )


def _require_vote(connection: Connection, cast: CastVote, rows: list[dict[str, Any]]) -> None:
    """NotFound unless the voter has a vote on the turn to take back: stored, or just before this in the same group."""
    turn_id, voter = cast.turn_id, cast.decided["voter"]
    for row in reversed(rows):
        if (row["turn_id"], row["voter"]) == (turn_id, voter):
            newest = row["choice"]
            break
    else:
        mine = select(votes.c.choice).where(votes.c.turn_id == turn_id, votes.c.voter == voter)
        newest = connection.scalar(mine.order_by(votes.c.seq.desc()).limit(1))
    if newest in (None, UNDO):
        raise NotFound(f"There is no vote of {voter or 'an anonymous voter'} on turn {turn_id} to take back.")
