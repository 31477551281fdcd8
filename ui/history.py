"""Past chats of this browser: a plain list of dictionaries, newest first, that the browser keeps.

What comes back from the browser may be old or broken; what cannot be read is left out.
"""

from dataclasses import replace
from typing import Any

from pydantic import TypeAdapter, ValidationError

from ui.chat import Chat

MEMORY = "sawyer-past-chats"
"""The name of the list in the browser's local storage."""

KEPT = 20
MAX_CHARACTERS = 200_000
"""A longer chat is not kept: browsers keep about five million characters for a page, and these travel."""

TITLE = 80

Saved = dict[str, Any]
_CHATS = TypeAdapter(Chat)


def dump(chat: Chat) -> dict[str, Any]:
    """A chat as JSON values; what is as always is left out."""
    return _CHATS.dump_python(chat, mode="json", exclude_defaults=True)


def load(stored: Any) -> Chat | None:
    """The chat in ``stored``, or None where there is none to be read."""
    try:
        return _CHATS.validate_python(stored).restored()
    except ValidationError:
        return None


def keep(chats: Any, chat: Chat, page: str, now: float) -> list[Saved]:
    """The list with ``chat`` on top; ``page`` is where it was held, ``now`` seconds since the epoch."""
    rest = [saved for saved in entries(chats) if saved["id"] != chat.id]
    if not chat.turns:
        return rest
    content = dump(replace(chat, notice="", unanswered="", revising=False, editing=""))
    if len(str(content)) > MAX_CHARACTERS:
        return rest
    title = " ".join(chat.turns[0].question.split())[:TITLE]
    return [{"id": chat.id, "title": title, "page": page, "when": int(now), "chat": content}, *rest][:KEPT]


def remove(chats: Any, chat_id: str) -> list[Saved]:
    return [saved for saved in entries(chats) if saved["id"] != chat_id]


def change(before: Any, after: list[Saved]) -> dict[str, Any]:
    """What the browser has to do to its list, in which other tabs write as well; see ``assets/memory.js``.

    Chats that are only older than ``KEPT`` newer ones are not to be forgotten: the browser counts for itself.
    """
    known = {saved["id"]: saved for saved in entries(before)}
    left = known.keys() - {saved["id"] for saved in after}
    put = [saved for saved in after if known.get(saved["id"]) != saved]
    return {"put": put, "forget": sorted(left) if len(after) < KEPT else []}


def find(chats: Any, chat_id: str) -> Chat | None:
    """The chat of this id, if the browser has it."""
    return next((load(saved["chat"]) for saved in entries(chats) if saved["id"] == chat_id), None)


def held_on(chats: Any, page: str) -> list[Saved]:
    """The chats that were held on one page."""
    return [saved for saved in entries(chats) if saved["page"] == page]


def entries(chats: Any) -> list[Saved]:
    """What of the browser's memory has the shape of a list of chats."""
    return [saved for saved in chats if _sound(saved)] if isinstance(chats, list) else []


def _sound(saved: Any) -> bool:
    return (
        isinstance(saved, dict)
        and all(isinstance(saved.get(key), str) for key in ("id", "title", "page"))
        and isinstance(saved.get("when"), int)
        and isinstance(saved.get("chat"), dict)
    )
