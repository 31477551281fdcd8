"""Reading the store: rows into records. Every function takes an open connection and starts no transaction."""

from collections import defaultdict
from collections.abc import Collection

from sqlalchemy import (
    BindParameter,
    ColumnElement,
    Connection,
    RowMapping,
    Select,
    Table,
    and_,
    bindparam,
    distinct,
    exists,
    func,
    select,
)

from sawyer.store.records import CHOICES, UNDO, Completion, Rating, Turn, Vote
from sawyer.store.schema import completions, conversations, ratings, reviews, turns, votes

_VOTE = [votes.c[name] for name in Vote.__dataclass_fields__ if name in votes.c]
# Built once: building them anew was a fifth of what storing a vote costs the processor.
_IDS: BindParameter = bindparam("ids", expanding=True)
_ANSWERS = select(completions).where(completions.c.turn_id.in_(_IDS)).order_by(completions.c.id)
_TURNS = select(turns).where(turns.c.id.in_(_IDS))
_RATING = [ratings.c[name] for name in Rating.__dataclass_fields__]


def vote_record(row: RowMapping) -> Vote:
    fields = {name: row[name] for name in Vote.__dataclass_fields__}
    return Vote(**fields | {"voter": row["voter"] or None})


def rating_record(row: RowMapping) -> Rating:
    fields = {name: row[name] for name in Rating.__dataclass_fields__}
    return Rating(**fields | {"voter": row["voter"] or None})


def review_state() -> ColumnElement[str]:
    """The newest review's state of the row of `votes`."""
    newest_review = select(reviews.c.state).where(reviews.c.vote_id == votes.c.id)
    found = newest_review.order_by(reviews.c.seq.desc()).limit(1).correlate(votes).scalar_subquery()
    return func.coalesce(found, "pending")


def select_votes() -> Select:
    """Rows that `vote_record` takes."""
    return select(*_VOTE, review_state().label("state"))


def newest(table: Table, subject: str, upto: int) -> ColumnElement[bool]:
    """The row is at most `upto` and no later one of the same voter on the same `subject` is."""
    later = table.alias("later")
    same = and_(later.c[subject] == table.c[subject], later.c.voter == table.c.voter)
    overtaken = exists().where(same, later.c.seq > table.c.seq, later.c.seq <= upto)
    return and_(table.c.seq <= upto, ~overtaken)


def standing(upto: int) -> ColumnElement[bool]:
    """The vote is its voter's newest on the turn and was not taken back. A review may still have rejected it."""
    return and_(newest(votes, "turn_id", upto), votes.c.choice != UNDO)


def counting(upto: int) -> ColumnElement[bool]:
    """The vote stands and was not rejected."""
    return and_(standing(upto), review_state() != "rejected")


def last_seq(connection: Connection, table: Table) -> int:
    """The newest row's number, 0 in an empty table. Rows up to it never change: a snapshot for free."""
    return connection.scalar(select(func.max(table.c.seq))) or 0


def revision(connection: Connection) -> tuple[int, int, int]:
    """Numbers that change when a vote or a review is added or removed."""
    count = connection.scalar(select(func.count()).select_from(votes)) or 0
    return last_seq(connection, votes), count, last_seq(connection, reviews)


def voted_between(connection: Connection, after: int, upto: int) -> list[tuple[str, str | None]]:
    """(turn, voter) of the rows with `after` < seq <= `upto`."""
    rows = connection.execute(select(votes.c.turn_id, votes.c.voter).where(votes.c.seq > after, votes.c.seq <= upto))
    return [(turn_id, voter or None) for turn_id, voter in rows]


def load_turns(connection: Connection, ids: Collection[str]) -> dict[str, Turn]:
    """The turns of that name with their answers; unknown ids are left out."""
    answers: dict[str, list[Completion]] = defaultdict(list)
    for row in connection.execute(_ANSWERS, {"ids": list(ids)}).mappings():
        answers[row["turn_id"]].append(Completion(**row))
    found = connection.execute(_TURNS, {"ids": list(ids)}).mappings()
    return {row["id"]: Turn(**row, completions=tuple(answers[row["id"]])) for row in found}


def with_turns(connection: Connection, query: Select) -> list[tuple[Vote, Turn]]:
    """The votes of a query made by `select_votes`, each with its turn."""
    found = [vote_record(row) for row in connection.execute(query).mappings()]
    by_id = load_turns(connection, {vote.turn_id for vote in found})
    return [(vote, by_id[vote.turn_id]) for vote in found]


def voted_turns(connection: Connection, after: int, upto: int, limit: int) -> list[tuple[Vote, Turn]]:
    """Up to `limit` counting votes with `after` < seq <= `upto`, each with its turn, in vote order."""
    query = select_votes().where(votes.c.seq > after, counting(upto)).order_by(votes.c.seq).limit(limit)
    return with_turns(connection, query)


def rated_turns(connection: Connection, after: int, upto: int, limit: int) -> list[tuple[Rating, Turn]]:
    """Up to `limit` counting ratings with `after` < seq <= `upto`, each with the turn of its answer."""
    rows = connection.execute(
        select(*_RATING, completions.c.turn_id)
        .join(completions, completions.c.id == ratings.c.completion_id)
        .where(ratings.c.seq > after, newest(ratings, "completion_id", upto), ratings.c.up.is_not(None))
        .order_by(ratings.c.seq)
        .limit(limit)
    )
    found = [(rating_record(row), row["turn_id"]) for row in rows.mappings()]
    by_id = load_turns(connection, {turn_id for _, turn_id in found})
    return [(rating, by_id[turn_id]) for rating, turn_id in found]


def count_votes(connection: Connection) -> int:
    """The number of counting votes."""
    return connection.scalar(select(func.count()).where(counting(last_seq(connection, votes)))) or 0


def count_everything(connection: Connection) -> dict:
    """The numbers of `FeedbackStore.stats`."""
    counted = counting(last_seq(connection, votes))
    by_choice = dict.fromkeys(CHOICES, 0)
    chosen = select(votes.c.choice, func.count()).where(counted).group_by(votes.c.choice)
    by_choice.update({choice: count for choice, count in connection.execute(chosen)})
    thumbs = select(ratings.c.up, func.count()).group_by(ratings.c.up)
    thumbs = thumbs.where(newest(ratings, "completion_id", last_seq(connection, ratings)))
    by_thumb = {up: count for up, count in connection.execute(thumbs)}
    rewards = select(completions.c.stage, func.avg(completions.c.reward)).group_by(completions.c.stage)
    rewards = rewards.where(completions.c.reward.is_not(None))
    voters = select(func.count(distinct(votes.c.voter))).where(counted)
    return {
        "conversations": connection.scalar(select(func.count()).select_from(conversations)),
        "turns": connection.scalar(select(func.count()).select_from(turns)),
        "completions": connection.scalar(select(func.count()).select_from(completions)),
        "votes": sum(by_choice.values()),
        "votes_cast": connection.scalar(select(func.count()).select_from(votes)),
        "voters": connection.scalar(voters),
        "edits": connection.scalar(select(func.count(votes.c.edited)).where(counted)),
        "choices": by_choice,
        "ratings": {"up": by_thumb.get(True, 0), "down": by_thumb.get(False, 0)},
        "mean_reward": {stage: mean for stage, mean in connection.execute(rewards)},
    }
