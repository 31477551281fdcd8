"""A chat as the settings of every widget, by name. Pure, so that what is shown can be tested without a browser."""

from collections.abc import Mapping
from html import escape
from typing import Any

from sawyer.types import STAGES
from ui import texts
from ui.chat import Chat, Status, Turn
from ui.connection import Connection
from ui.panes import empty_html, pane_html, reward_scale
from ui.transcript import transcript_html

SLOTS = len(STAGES)
"""Panes side by side. A slot shows whatever stage stands there, so blind and two-stage comparisons fit too."""

EXAMPLE_SLOTS = 4
RETRY_SECONDS = 3.0

Screen = dict[str, dict[str, Any]]
"""Widget name -> the properties it shall have."""


def screen(chat: Chat, connection: Connection) -> Screen:
    """Everything that depends on the chat and the server; the text box and the settings belong to the visitor."""
    turn = chat.current
    notice = chat.notice or connection.notice
    return {
        "notice": {"value": _notice(notice), "visible": bool(notice)},
        "transcript": {"value": transcript_html(chat)},
        **_panes(chat, connection),
        **_verdicts(turn),
        **_examples(chat, connection),
        "ask": {"visible": not chat.busy},
        "stop": {"visible": chat.busy},
        "new_chat": {"interactive": turn is not None and not chat.busy},
        "retry": {"active": not connection.ready},
    }


def difference(before: Mapping[str, dict[str, Any]], after: Screen) -> Screen:
    """The widgets that changed: all that has to travel to the browser while three answers stream."""
    return {name: properties for name, properties in after.items() if before.get(name) != properties}


def settings_defaults(connection: Connection) -> Screen:
    """The sampling settings as the server would choose them. Shown once, before the visitor changes any."""
    if connection.info is None:
        return {}
    sampling = connection.info.sampling
    return {
        "max_tokens": {"value": sampling.max_tokens, "maximum": connection.info.max_tokens},
        "temperature": {"value": sampling.temperature},
        "top_p": {"value": sampling.top_p},
        "seed": {"value": sampling.seed},
    }


def _panes(chat: Chat, connection: Connection) -> Screen:
    turn = chat.current
    stages = tuple(pane.stage for pane in turn.panes) if turn else connection.stages
    scale = reward_scale(pane for each in chat.turns for pane in each.panes)
    shown: Screen = {}
    for slot in range(SLOTS):
        shown[f"pane_{slot}"] = {"visible": slot < len(stages)}
        shown[f"reply_{slot}"] = {"value": ""}
        shown[f"pick_{slot}"] = {"visible": False}
        if slot < len(stages):
            shown |= _pane(slot, stages[slot], turn, scale)
    return shown


def _pane(slot: int, stage: str, turn: Turn | None, scale: float) -> Screen:
    if turn is None:
        return {f"reply_{slot}": {"value": empty_html(stage)}}
    pane = turn.panes[slot]
    chosen = turn.vote == stage
    return {
        f"reply_{slot}": {"value": pane_html(pane, chosen=chosen, scale=scale)},
        f"pick_{slot}": {
            "visible": True,
            "value": texts.PICKED if chosen else texts.PICK,
            "variant": "primary" if chosen else "secondary",
            "interactive": turn.votable and pane.status is Status.DONE,
        },
    }


def _verdicts(turn: Turn | None) -> Screen:
    votable = turn is not None and turn.votable
    several = turn is not None and sum(pane.status is Status.DONE for pane in turn.panes) > 1
    vote = turn.vote if turn else None
    return {
        "verdicts": {"visible": turn is not None},
        "status": {"value": _status(turn)},
        "tie": {
            "value": texts.TIED if vote == "tie" else texts.TIE,
            "variant": "primary" if vote == "tie" else "secondary",
            "interactive": votable and several,
        },
        "bad": {
            "value": texts.BAD_CHOSEN if vote == "bad" else texts.BAD,
            "variant": "primary" if vote == "bad" else "secondary",
            "interactive": votable,
        },
    }


def _status(turn: Turn | None) -> str:
    """The line beside the verdicts: what to do, or thanks, and where the conversation goes on."""
    if turn is None or turn.open:
        return ""
    kept = turn.kept
    if kept is None:
        return f'<p class="sw-status">{texts.NOTHING_TO_VOTE}</p>'
    stage = texts.stage_text(kept.stage).name
    if turn.vote:
        onward = texts.CONTINUES.format(stage=stage)
        return f'<p class="sw-status sw-thanks" role="status"><strong>{texts.VOTE_SAVED}</strong> {onward}</p>'
    if not turn.votable:
        return f'<p class="sw-status" role="status">{texts.STOPPED_EARLY} {texts.CONTINUES.format(stage=stage)}</p>'
    onward = texts.CONTINUES_UNLESS.format(stage=stage)
    return f'<p class="sw-status" role="status"><strong>{texts.VOTE_PROMPT}</strong> {onward}</p>'


def _notice(notice: str) -> str:
    # Server messages are text; whatever markup stands in them is shown, not followed.
    return f'<p class="sw-notice" role="alert">{escape(notice)}</p>' if notice else ""


def _examples(chat: Chat, connection: Connection) -> Screen:
    questions = connection.examples[:EXAMPLE_SLOTS]
    shown: Screen = {"examples": {"visible": chat.current is None}}
    for slot in range(EXAMPLE_SLOTS):
        present = slot < len(questions)
        shown[f"example_{slot}"] = {"visible": present, "value": questions[slot] if present else ""}
    return shown
