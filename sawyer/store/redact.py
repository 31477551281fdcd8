"""Blacking out what should not have been said, wherever a conversation holds it."""

import re
import time
from typing import Any

from sqlalchemy import Connection, RowMapping, Table, insert, select, update

from sawyer.store import checks, ledger
from sawyer.store.errors import Invalid, NotFound
from sawyer.store.ids import new_id
from sawyer.store.schema import completions, conversations, redactions, turns, votes
from sawyer.store.store import FeedbackStore

BLACK = "[redacted]"
_SHORTEST = 2


class Redaction:
    """One text to black out, whatever its case. Counts the places."""

    def __init__(self, text: str) -> None:
        if len(text.strip()) < _SHORTEST:
            raise Invalid(f"At least {_SHORTEST} characters can be redacted; {text!r} was given.")
        self._pattern = re.compile(re.escape(checks.clean(text)), re.IGNORECASE)
        self.places = 0

    def apply(self, value: Any) -> Any:
        """The value with the text blacked out in every string in it, however deep."""
        if isinstance(value, str):
            changed, count = self._pattern.subn(BLACK, value)
            self.places += count
            return changed
        if isinstance(value, list):
            return [self.apply(item) for item in value]
        if isinstance(value, dict):
            return {key: self.apply(item) for key, item in value.items()}
        return value


def redact(
    store: FeedbackStore, conversation_id: str, text: str, *, reviewer: str = "", note: str | None = None
) -> int:
    """Put ``[redacted]`` in place of `text` in a conversation's questions, answers, prompts, edits and comments.

    Files that this project made of the conversation are rewritten first: if one cannot be, nothing is changed in the
    database. Returns the number of places in the database. It cannot be undone.

    Raises:
        NotFound: there is no such conversation. Invalid: the text is too short.
        StoreError: the database or one of the files cannot be written.
    """
    redaction = Redaction(text)
    _require(store, conversation_id)
    beyond = Redaction(text)
    ledger.rewrite(store, beyond.apply, conversation_ids=[conversation_id])
    with store.database.write() as connection:
        mine = select(turns.c.id).where(turns.c.conversation_id == conversation_id)
        _in_table(connection, turns, ["messages"], turns.c.conversation_id == conversation_id, redaction)
        _in_table(connection, completions, ["text", "prompt_text"], completions.c.turn_id.in_(mine), redaction)
        _in_table(connection, votes, ["edited", "comment"], votes.c.turn_id.in_(mine), redaction)
        row: dict[str, Any] = {"id": new_id(), "conversation_id": conversation_id, "reviewer": checks.clean(reviewer)}
        row |= {"places": redaction.places, "note": checks.clean_or_none(note), "created": time.time()}
        connection.execute(insert(redactions), row)
    store.database.scrub()
    return redaction.places


def _require(store: FeedbackStore, conversation_id: str) -> None:
    with store.database.read() as connection:
        if connection.scalar(select(conversations.c.id).where(conversations.c.id == conversation_id)) is None:
            raise NotFound(f"There is no conversation {conversation_id!r}.")


def _in_table(connection: Connection, table: Table, names: list[str], where: Any, redaction: Redaction) -> None:
    key = next(iter(table.primary_key))
    rows: list[RowMapping] = list(
        connection.execute(select(key, *(table.c[name] for name in names)).where(where)).mappings()
    )
    for row in rows:
        before = {name: row[name] for name in names}
        after = redaction.apply(before)
        if after != before:
            connection.execute(update(table).where(key == row[key.name]).values(after))
