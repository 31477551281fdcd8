"""Argilla's exports as preference pairs: records of version 2 (``to_list``, nested or flattened) and of version 1
(``FeedbackRecord``, or the columns that it pushes to the hub).

A question's submitted responses are read as what they say: the name of a field (that reply is the best), a ranking of
field names, or ratings of fields (questions named after a field, such as ``response1_rating``).
https://docs.argilla.io/latest/how_to_guides/import_export/ and argilla/src/argilla/records/_io/_generic.py
"""

import re
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

from sawyer.data_formats import Message, messages_of

_PROMPTS = ("prompt", "instruction", "question", "input", "chat", "conversation")
_FLAT = re.compile(r"(.+)\.responses")
# Columns of a flattened or pushed record that are the record's own, not fields that somebody was shown.
_OWN = ("id", "_server_id", "external_id", "status", "score", "metadata", "inserted_at", "updated_at")
_NUMBERED = re.compile(r"(.*?)[-_ ]?(\d+|(?<=[-_ ])[A-Za-z]|(?<!.)[A-Za-z])")
Pair = tuple[list[Message], str, str, float | None]


def is_record(record: dict[str, Any]) -> bool:
    """Whether a record looks like one of Argilla's."""
    if isinstance(record.get("fields"), dict) and "responses" in record:
        return True
    return any(_FLAT.fullmatch(name) or _answers(value) for name, value in record.items())


def pairs(record: dict[str, Any]) -> list[Pair]:
    """(prompt, chosen, rejected, None) for every order that a submitted response states; none without a prompt."""
    fields = record["fields"] if isinstance(record.get("fields"), dict) else record
    name = next((name for name in _PROMPTS if fields.get(name)), None)
    prompt = messages_of(fields[name]) if name else []
    if not prompt or prompt[-1]["role"] != "user":
        return []
    shown = {key: value for key, value in fields.items() if fields is not record or _is_field(key)}
    replies = {key: text for key, value in shown.items() if key != name and (text := _text(value))}
    found: list[Pair] = []
    for better, worse in _orders(_responses(record), replies):
        if replies[better] != replies[worse]:
            found.append((prompt, replies[better], replies[worse], None))
    return found


def _responses(record: dict[str, Any]) -> dict[str, list[tuple[str, Any]]]:
    """Question -> (who, value) of its submitted responses."""
    found: dict[str, list[tuple[str, Any]]] = defaultdict(list)
    responses = record.get("responses")
    if isinstance(responses, dict):  # version 2: {question: [{"value": …, "user_id": …, "status": …}]}
        for question, given in responses.items():
            for response in given or []:
                if response.get("status", "submitted") == "submitted":
                    found[question].append((str(response.get("user_id")), response.get("value")))
    elif isinstance(responses, list):  # version 1: [{"values": {question: {"value": …}}, "status": …}]
        for response in responses:
            if response.get("status", "submitted") == "submitted":
                for question, value in (response.get("values") or {}).items():
                    found[question].append((str(response.get("user_id")), value.get("value")))
    elif columns := {name: value for name, value in record.items() if _answers(value)}:
        # version 1 on the hub: {question: [{"value": …, "user_id": …, "status": …}]} among the fields
        for question, given in columns.items():
            for response in given:
                if response.get("status") in (None, "submitted"):
                    found[question].append((str(response.get("user_id")), response.get("value")))
    else:  # flattened: question.responses, question.responses.users, question.responses.status
        for column, values in record.items():
            match = _FLAT.fullmatch(column)
            if match is None:
                continue
            users = record.get(f"{column}.users") or range(len(values or []))
            states = record.get(f"{column}.status") or ["submitted"] * len(values or [])
            for user, state, value in zip(users, states, values or [], strict=False):
                if state in (None, "submitted"):
                    found[match[1]].append((str(user), value))
    return found


def _orders(responses: dict[str, list[tuple[str, Any]]], replies: dict[str, str]) -> Iterator[tuple[str, str]]:
    ratings: dict[str, dict[str, float]] = defaultdict(dict)
    for question, given in responses.items():
        for user, value in given:
            if isinstance(value, str) and value in replies:
                yield from ((value, other) for other in _rivals(value, replies))
            elif isinstance(value, list):
                yield from _ranked(value, replies)
            elif isinstance(value, int | float) and not isinstance(value, bool):
                rated = [reply for reply in replies if question.startswith(reply)]
                if rated:
                    ratings[user][max(rated, key=len)] = float(value)
    for rated_by in ratings.values():
        yield from ((a, b) for a in rated_by for b in rated_by if rated_by[a] > rated_by[b])


def _rivals(name: str, replies: dict[str, str]) -> list[str]:
    """What a reply was chosen from: fields numbered or lettered as it is (``response1``, ``reply_a``), else all others.

    A flattened record has its metadata among its fields, and nothing says which is which.
    """
    match = _NUMBERED.fullmatch(name)
    others = [other for other in replies if other != name]
    alike = [o for o in others if match and (found := _NUMBERED.fullmatch(o)) and found[1] == match[1]]
    return alike or others


def _is_field(column: str) -> bool:
    """Whether a column of a flattened or pushed record may be a field."""
    return column not in _OWN and "." not in column and not column.endswith(("-suggestion", "-suggestion-metadata"))


def _answers(value: Any) -> bool:
    """Whether a column holds responses as version 1 pushes them to the hub."""
    return isinstance(value, list) and bool(value) and all(isinstance(i, dict) and "user_id" in i for i in value)


def _ranked(value: list[Any], replies: dict[str, str]) -> Iterator[tuple[str, str]]:
    """Orders of a ranking: names best first, or {"value": name, "rank": 1}, where equal ranks are ties."""
    ranks = {}
    for place, item in enumerate(value):
        name = item.get("value") if isinstance(item, dict) else item
        rank = item.get("rank", place) if isinstance(item, dict) else place
        if name in replies and isinstance(rank, int):
            ranks[name] = rank
    yield from ((a, b) for a in ranks for b in ranks if ranks[a] < ranks[b])


def _text(value: Any) -> str:
    """A field's reply: its text, or the last assistant message of a chat field."""
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, list) and value and all(isinstance(item, dict) for item in value):
        messages = messages_of(value)
        if messages and messages[-1]["role"] == "assistant":
            return messages[-1]["content"]
    return ""
