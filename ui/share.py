"""A conversation to take along: as a link that holds all of it, as Markdown, as JSON. No server keeps anything."""

import base64
import binascii
import json
import zlib

from ui import texts
from ui.chat import Chat, Turn
from ui.history import dump, load

KEY = "chat="
MAX_BYTES = 1_000_000
"""Of an unpacked link; a small link could otherwise unpack to anything."""


def fragment(chat: Chat) -> str:
    """The part of a link after ``#``: browsers keep it to themselves, so no server sees or logs it."""
    packed = zlib.compress(json.dumps(dump(chat.as_copy()), ensure_ascii=False).encode(), 9)
    return KEY + base64.urlsafe_b64encode(packed).decode().rstrip("=")


def from_fragment(part: str) -> Chat | None:
    """The conversation in a link's fragment; None where it holds none, or a broken one."""
    part = part.removeprefix("#")
    if not part.startswith(KEY):
        return None
    packed = part.removeprefix(KEY)
    try:
        unpacking = zlib.decompressobj()
        unpacked = unpacking.decompress(base64.urlsafe_b64decode(packed + "=" * (-len(packed) % 4)), MAX_BYTES)
        if unpacking.unconsumed_tail:
            return None
        chat = load(json.loads(unpacked))
    except (binascii.Error, zlib.error, ValueError, RecursionError):
        return None
    return chat.as_copy() if chat and chat.turns else None


def markdown(chat: Chat) -> str:
    """Everything said, for reading: each question, and every answer under the name of its pane."""
    return f"# {texts.TITLE}\n\n" + "\n".join(_turn(turn) for turn in chat.turns)


def as_json(chat: Chat) -> str:
    """Everything said, for programs: one list of turns."""
    turns = [
        {
            "question": turn.question,
            "vote": turn.vote,
            "answers": [
                {
                    "pane": pane.stage,
                    "stage": pane.behind or pane.stage,
                    "version": pane.version,
                    "text": pane.text,
                    "edited": pane.edited or None,
                    "reward": pane.result.reward if pane.result and not pane.hidden else None,
                    "status": str(pane.status),
                }
                for pane in turn.panes
            ],
        }
        for turn in chat.turns
    ]
    return json.dumps({"conversation": turns}, ensure_ascii=False, indent=2)


def data_url(text: str, kind: str) -> str:
    """``text`` as a link's target, so that a download needs no server."""
    return f"data:{kind};charset=utf-8;base64,{base64.b64encode(text.encode()).decode()}"


def _turn(turn: Turn) -> str:
    lines = [f"## {texts.YOU}", "", *(f"> {line}" for line in turn.question.splitlines()), ""]
    for pane in turn.panes:
        chosen = f" ({texts.EARLIER_VOTED})" if turn.vote == pane.stage else ""
        lines += [f"### {texts.stage_text(pane.behind or pane.stage).name}{chosen}", "", pane.final or pane.error, ""]
    return "\n".join(lines)
