"""A filter of votes as conditions that the database decides, so that no vote is read to be left out."""

import json
from collections.abc import Callable, Collection, Mapping
from typing import Any

from sqlalchemy import JSON, ColumnElement, Connection, cast, collate, exists, func, literal, or_, select, type_coerce

from sawyer.store import queries
from sawyer.store.panes import PANE
from sawyer.store.schema import FOLD, completions, turns, votes
from sawyer.types import BLIND_PANES, FeedbackFilter

_ICU = "und-x-icu"  # PostgreSQL's own lower() knows ASCII alone where the database's locale is C


def conditions(
    connection: Connection, wanted: FeedbackFilter, findings: Mapping[str, Collection[str]]
) -> list[ColumnElement[bool]]:
    """What a row of ``votes`` must fulfil. ``findings`` are those of each vote, by id."""
    of_column: dict[str, Callable[[Any], ColumnElement[bool]]] = {
        "state": lambda state: queries.review_state() == state,
        "choice": lambda choice: votes.c.choice == choice,
        "voter": lambda voter: votes.c.voter == voter,
        "edited": lambda edited: votes.c.edited.is_not(None) if edited else votes.c.edited.is_(None),
        "since": lambda since: votes.c.created >= since,
        "until": lambda until: votes.c.created <= until,
        "blind": lambda blind: _blind() if blind else ~_blind(),
        "text": lambda text: _mentions(connection, text),
    }
    given = {name: getattr(wanted, name) for name in of_column}
    allowed = [of_column[name](value) for name, value in given.items() if value is not None]
    if wanted.finding is not None:
        found = [vote_id for vote_id, noticed in findings.items() if wanted.finding in noticed]
        allowed.append(votes.c.id.in_(_items(connection, found)))
    return allowed


def _blind() -> ColumnElement[bool]:
    """As ``panes.is_blind``."""
    pane = completions.c.sampling[PANE].as_string()
    return exists().where(completions.c.turn_id == votes.c.turn_id, pane.in_(BLIND_PANES))


def _items(connection: Connection, texts: Collection[str]) -> Any:
    """Texts as one value, however many: a list of parameters has its limits."""
    packed = cast(literal(list(texts), JSON), JSON) if connection.dialect.name != "sqlite" else json.dumps(list(texts))
    listed = func.json_each if connection.dialect.name == "sqlite" else func.json_array_elements_text
    return select(listed(packed).table_valued("value").c.value)


def _mentions(connection: Connection, text: str) -> ColumnElement[bool]:
    """Whether the question, an answer, the edit, the comment or the name holds the text, in whatever case."""
    sqlite = connection.dialect.name == "sqlite"
    sought = text.casefold() if sqlite else text.lower()

    def holds(column: Any) -> ColumnElement[bool]:
        if sqlite:
            return func.instr(getattr(func, FOLD)(column), sought) > 0
        return func.strpos(func.lower(collate(column, _ICU)), sought) > 0

    if sqlite:
        message = func.json_each(turns.c.messages).table_valued("value")
        content = func.json_extract(message.c.value, "$.content")
    else:
        message = func.json_array_elements(turns.c.messages).table_valued("value")
        content = type_coerce(message.c.value, JSON)["content"].as_string()
    asked = select(1).select_from(turns).join(message, literal(True))
    asked = asked.where(turns.c.id == votes.c.turn_id, holds(content)).correlate(votes)
    said = exists().where(completions.c.turn_id == votes.c.turn_id, holds(completions.c.text))
    return or_(asked.exists(), said, *(holds(votes.c[name]) for name in ("edited", "comment", "name")))
