"""The feedback store: conversations, the answers shown, votes and ratings, and the data they give."""

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from sqlalchemy import Connection, Table, insert, select, update

from sawyer.errors import StoreError
from sawyer.store import checks, derive, log, queries
from sawyer.store.casting import CastVote, append_votes
from sawyer.store.database import Database
from sawyer.store.errors import Clash, Invalid, NotFound
from sawyer.store.group import GroupWriter
from sawyer.store.ids import new_id
from sawyer.store.records import Rating, RatingRow, Turn, Vote, VoteRow
from sawyer.store.schema import completions, conversations, ratings, turns, votes

Row = TypeVar("Row", Vote, Rating)
Result = TypeVar("Result")

_CHUNK = 500  # votes read per transaction, so that a long export blocks nobody and stays small


class FeedbackStore:
    """Everything people were shown and what they thought of it. Threads and processes may share one.

    Each `add_*` is one transaction that is on the disk when the call returns. Votes and ratings are
    append-only logs in which the newest row of a voter counts. Errors are StoreErrors: NotFound for an
    unknown id, Conflict for a reused idempotency key, Invalid for a value that can never be stored, and
    StoreError itself when the database cannot do it (locked, full, read-only, damaged): nothing is stored.
    """

    def __init__(self, database: Database):
        self._database = database
        self._group = GroupWriter(database)

    @classmethod
    def open(cls, url: str, *, busy_seconds: float = 30.0) -> "FeedbackStore":
        """Open the store at an SQLAlchemy URL, creating or upgrading its tables.

        Args:
            url: `sqlite:///file` or `postgresql://...` (`Home.db_url`).
            busy_seconds: how long a transaction waits for another writer before it fails.
        """
        return cls(Database.open(url, busy_seconds))

    def close(self) -> None:
        self._database.close()

    def __enter__(self) -> "FeedbackStore":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # What was shown

    def add_conversation(self, *, recipe: str | None = None, voter: str | None = None) -> str:
        """Start a conversation and return its id."""
        row: dict[str, Any] = {
            "id": new_id(),
            "recipe": recipe,
            "voter": checks.clean_or_none(voter),
            "created": time.time(),
        }
        with self._database.write() as connection:
            connection.execute(insert(conversations), row)
        return row["id"]

    def add_turn(self, conversation_id: str, messages: list[dict], parent: str | None = None) -> str:
        """Store what the stages are asked: the shared history ending with the user's message.

        Args:
            messages: [{"role": "system" | "user" | "assistant", "content": str}, ...].
            parent: the turn this one continues, of the same conversation.
        """
        row: dict[str, Any] = {"id": new_id(), "conversation_id": conversation_id, "parent_id": parent}
        row |= {"messages": checks.checked_messages(messages), "created": time.time()}
        with self._database.write() as connection:
            known = select(conversations.c.id).where(conversations.c.id == conversation_id)
            if connection.scalar(known) is None:
                raise NotFound(f"There is no conversation {conversation_id!r}.")
            if parent is not None:
                home = select(turns.c.conversation_id).where(turns.c.id == parent)
                if connection.scalar(home) != conversation_id:
                    raise NotFound(f"Conversation {conversation_id} has no turn {parent!r} to continue.")
            connection.execute(insert(turns), row)
        return row["id"]

    def add_completion(
        self,
        turn_id: str,
        stage: str,
        *,
        prompt_text: str,
        text: str,
        tokens: int,
        adapter_version: str | None = None,
        sampling: dict | None = None,
        seed: int | None = None,
        finish_reason: str | None = None,
        seconds: float | None = None,
        reward: float | None = None,
    ) -> str:
        """Store one stage's answer and return its id.

        Args:
            prompt_text: exactly what the model was given. text: its answer, `tokens` tokens long.
            finish_reason: "stop", "length", or "cancelled" / "error" for one that teaches nothing.
        """
        checks.check_stage(stage)
        checks.check_reward(reward)
        row: dict[str, Any] = {
            "id": new_id(),
            "turn_id": turn_id,
            "stage": stage,
            "adapter_version": adapter_version,
        }
        row |= {"prompt_text": checks.clean(prompt_text), "text": checks.clean(text), "tokens": tokens}
        row |= {"sampling": sampling or {}, "seed": seed, "finish_reason": finish_reason}
        row |= {"seconds": seconds, "reward": reward, "created": time.time()}
        with self._database.write() as connection:
            log.require_turn(connection, turn_id)
            connection.execute(insert(completions), row)
        return row["id"]

    def set_reward(self, completion_id: str, reward: float) -> None:
        """Note the reward of an answer that was scored after it was shown."""
        checks.check_reward(reward)
        with self._database.write() as connection:
            change = update(completions).where(completions.c.id == completion_id).values(reward=reward)
            if connection.execute(change).rowcount == 0:
                raise NotFound(f"There is no answer {completion_id!r}.")

    # What people thought of it

    def add_vote(
        self,
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
    ) -> VoteRow:
        """Store a vote; it is on the disk when this returns. The voter's newest on the turn counts.

        Args:
            choice: a pane of the turn (`panes_of`: a stage, a version such as rlf@2, a letter), tie or bad.
            voter: who votes; all anonymous votes (None) on a turn count as one voter. name: what they are called.
            ranking: panes best first, beginning with the choice; may leave some out.
            edited: the answer as it should have been.
            position: place of the chosen pane on the page, from 0.
            idempotency_key: a repeat of the same request with the same key stores nothing and returns the
                first vote; the same key with another request raises Conflict.
            consent: whether training may use it.
            created: when it was cast, seconds since the epoch, for votes that come late or are simulated; default: now.
        """
        words = (comment, ranking, edited, position, idempotency_key)
        return self._add_vote(CastVote.of(turn_id, choice, voter, *words, name=name, consent=consent, created=created))

    def undo_vote(self, turn_id: str, voter: str | None = None, *, idempotency_key: str | None = None) -> VoteRow:
        """Take back the voter's vote on a turn (a new row; nothing is deleted). Repeatable by its key."""
        return self._add_vote(CastVote.undo(turn_id, voter, idempotency_key))

    def add_votes(self, casts: Sequence[CastVote]) -> list[VoteRow | StoreError]:
        """Store votes in one transaction; they are on the disk when this returns. Far quicker than one by one.

        Returns:
            For each vote its receipt, or why it alone cannot be stored (NotFound, Conflict, Invalid).

        Raises:
            StoreError: the database cannot do it; none of them is stored.
        """
        try:
            return self._write(lambda connection: append_votes(connection, casts))
        except (Invalid, Clash):
            if len(casts) == 1:
                raise
        # It was something in one of them: the others need not suffer for it.
        return [self._told(cast) for cast in casts]

    def _told(self, cast: CastVote) -> VoteRow | StoreError:
        try:
            return self._add_vote(cast)
        except StoreError as error:
            return error

    def _add_vote(self, cast: CastVote) -> VoteRow:
        receipt = self._write(lambda connection: append_votes(connection, [cast]))[0]
        if isinstance(receipt, StoreError):
            raise receipt
        return receipt

    def add_rating(
        self,
        completion_id: str,
        up: bool | None,
        voter: str | None = None,
        idempotency_key: str | None = None,
        *,
        consent: bool = True,
    ) -> RatingRow:
        """Store a thumb up or down on one answer, None to take it back; the voter's newest on it counts.

        Keys as in `add_vote`.
        """
        key = checks.checked_key(idempotency_key)
        request: dict[str, Any] = {"completion_id": completion_id, "up": up, "consent": consent}
        request |= {"voter": checks.clean_or_none(voter) or ""}
        return self._write(lambda connection: log.append_rating(connection, request, key))

    def review(self, vote_ids: list[str], state: str, *, reviewer: str = "", note: str | None = None) -> int:
        """Store a decision on votes, all or none; the newest of each counts. Returns the number of votes.

        Args:
            state: pending, approved, rejected (trains nothing, counts nowhere) or flagged (trains nothing).
        """
        checks.check_review(state)
        decision = {"state": state, "reviewer": checks.clean(reviewer), "note": checks.clean_or_none(note)}
        with self._database.write() as connection:
            return log.append_reviews(connection, vote_ids, decision)

    def _write(self, work: Callable[[Connection], Result]) -> Result:
        try:
            return self._group.write(work)
        except Clash:
            # PostgreSQL only: another connection committed the same key meanwhile, and is now visible.
            return self._group.write(work)

    # Reading

    def turn(self, turn_id: str) -> Turn:
        """The turn with all its answers."""
        with self._database.read() as connection:
            found = queries.load_turns(connection, [turn_id])
        if turn_id not in found:
            raise NotFound(f"There is no turn {turn_id!r}.")
        return found[turn_id]

    def votes(self, newest_only: bool = True) -> list[Vote]:
        """The votes that count, oldest first; with newest_only=False the whole log, undo rows included."""
        if newest_only:
            return [vote for vote, _ in self.counting_votes()]
        with self._database.read() as connection:
            rows = connection.execute(queries.select_votes().order_by(votes.c.seq)).mappings()
            return [queries.vote_record(row) for row in rows]

    def counting_votes(self, after: int = 0) -> Iterator[tuple[Vote, Turn]]:
        """Every vote that counts, oldest first, with its turn: the voter's newest on it, not taken back, not rejected.

        Args:
            after: only rows with a larger `seq`.
        """
        return self._chunks(votes, queries.voted_turns, after)

    def voted_between(self, after: int, upto: int) -> list[tuple[str, str | None]]:
        """(turn, voter) of each row of the vote log with `after` < `seq` <= `upto`, undo rows included."""
        with self._database.read() as connection:
            return queries.voted_between(connection, after, upto)

    def revision(self) -> tuple[int, int, int]:
        """The newest vote's number, how many there are, the newest review's: equal revisions, equal votes. Quick."""
        with self._database.read() as connection:
            return queries.revision(connection)

    def count_votes(self) -> int:
        """How many votes count: the "votes" of `stats`, without all its other numbers."""
        with self._database.read() as connection:
            return queries.count_votes(connection)

    def stats(self) -> dict:
        """Counts: conversations, turns, completions, votes (that count), votes_cast (all rows), voters,
        edits, choices {choice: n}, ratings {up, down}, mean_reward {stage: float}."""
        with self._database.read() as connection:
            return queries.count_everything(connection)

    def counting_ratings(self) -> Iterator[tuple[Rating, Turn]]:
        """Every thumb that counts with the turn of its answer."""
        return self._chunks(ratings, queries.rated_turns)

    def pairs(self) -> Iterator[dict]:
        """Preference rows, see `derive.pairs`: prompt (messages), chosen and rejected (text), origin."""
        return derive.preference_rows(self.counting_votes())

    def kto_rows(self) -> Iterator[dict]:
        """Rows with prompt (messages), completion (text) and label (bool), and origin."""
        return derive.kto_rows(self.counting_votes(), self.counting_ratings())

    def sft_rows(self) -> Iterator[dict]:
        """Rows with messages (ending with an edited reply) and origin."""
        return derive.sft_rows(self.counting_votes())

    @property
    def database(self) -> Database:
        """What the modules of this package beside this one work on."""
        return self._database

    def _chunks(
        self, table: Table, load: Callable[[Connection, int, int, int], list[tuple[Row, Turn]]], after: int = 0
    ) -> Iterator[tuple[Row, Turn]]:
        """All counting rows as of now, whatever is appended while the caller iterates."""
        with self._database.read() as connection:
            upto = queries.last_seq(connection, table)
        while True:
            with self._database.read() as connection:
                found = load(connection, after, upto, _CHUNK)
            yield from found
            if len(found) < _CHUNK:
                return
            after = found[-1][0].seq
