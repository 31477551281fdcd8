"""A chat as the settings of every widget, by name. Pure, so that what is shown can be tested without a browser."""

from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from typing import Any

from sawyer.types import BLIND_PANES, MAX_PANES
from ui import texts
from ui.chat import Chat
from ui.connection import Connection
from ui.menus import examples_html, hint_html, revising_html, share_html
from ui.mode import Mode
from ui.panes import empty_html, pane_html, reward_scale
from ui.transcript import transcript_html
from ui.verdicts import verdicts_html
from ui.visitor import Visitor

SLOTS = MAX_PANES
"""Panes side by side. A slot shows whatever stage stands there, so blind and two-stage comparisons fit too."""

EXAMPLES = 4
RETRY_SECONDS = 3.0

Screen = dict[str, dict[str, Any]]
"""Widget name -> the properties it shall have."""


@dataclass(frozen=True)
class Scene:
    """Everything that decides what one visitor sees on one page."""

    chat: Chat
    connection: Connection
    visitor: Visitor
    page: Mode

    @property
    def mode(self) -> Mode:
        return self.connection.mode(self.page)

    @property
    def foreign(self) -> bool:
        """The page is for another kind of server."""
        return self.mode.single and self.connection.info is not None and not self.connection.summarises


def screen(scene: Scene) -> Screen:
    """Everything that depends on the scene; the text box and the settings belong to the visitor."""
    chat, connection, mode = scene.chat, scene.connection, scene.mode
    turn = chat.current
    notice = chat.notice or connection.notice
    voted = turn is not None and turn.vote is not None and turn.turn_id is not None
    edited = turn.pane(chat.editing) if turn and chat.editing else None
    return {
        "tagline": {"value": _tagline(mode.tagline), "visible": turn is None},
        "hint": {
            "value": hint_html(mode.hint),
            "visible": not scene.visitor.seen_hint and turn is None and not scene.foreign,
        },
        "share": {"value": share_html(chat)},
        "notice": {
            "value": _notice(notice) or (_no_summaries() if scene.foreign else ""),
            "visible": bool(notice) or scene.foreign,
        },
        "transcript": {"value": transcript_html(chat)},
        **_panes(scene),
        "verdicts": {"value": verdicts_html(turn, mode), "visible": turn is not None},
        "comments": {"visible": voted},
        "comment_saved": {"value": _saved(turn.comment if turn else "")},
        "editor": {"visible": edited is not None},
        "edit_label": {"value": _edit_label(edited.behind or edited.stage) if edited else ""},
        "revising": {"value": revising_html(), "visible": chat.revising},
        "examples": {
            "value": examples_html(connection.examples[:EXAMPLES], disabled=not connection.ready),
            "visible": turn is None and not scene.foreign,
        },
        "ask": {"visible": not chat.busy, "value": mode.ask},
        "stop": {"visible": chat.busy},
        "new_chat": {"visible": turn is not None, "interactive": not chat.busy},
        "retry": {"active": not connection.ready},
    }


def difference(before: Mapping[str, dict[str, Any]], after: Screen) -> Screen:
    """The widgets that changed: all that has to travel to the browser while three answers stream."""
    return {name: properties for name, properties in after.items() if before.get(name) != properties}


def together(before: Screen, after: Screen) -> Screen:
    """Both changes as one; what ``after`` says of a property holds."""
    return before | {name: before.get(name, {}) | properties for name, properties in after.items()}


def settings_defaults(connection: Connection) -> Screen:
    """The settings as the server would choose them. Shown once, before the visitor changes any."""
    if connection.info is None:
        return {}
    sampling = connection.info.sampling
    return {
        "max_tokens": {
            "value": min(sampling.max_tokens, connection.info.max_tokens),  # Gradio refuses what is off the scale
            "maximum": connection.info.max_tokens,
        },
        "temperature": {"value": sampling.temperature},
        "top_p": {"value": sampling.top_p},
        "seed": {"value": sampling.seed},
        "wanted": {
            "value": list(connection.panes),
            "choices": [(texts.choice_label(name), name) for name in connection.choices],
        },
    }


def _panes(scene: Scene) -> Screen:
    turn, stages = scene.chat.current, _before(scene)
    single = scene.mode.single
    scale = reward_scale(pane for each in scene.chat.turns for pane in each.panes)
    shown: Screen = {}
    for slot in range(SLOTS):
        if turn is not None and slot < len(turn.panes):
            shown[f"pane_{slot}"] = {"visible": True, "value": pane_html(turn, slot, scale=scale, summary=single)}
        elif turn is None and slot < len(stages):
            shown[f"pane_{slot}"] = {"visible": True, "value": empty_html(stages[slot], single)}
        else:
            shown[f"pane_{slot}"] = {"visible": False, "value": ""}
    return shown


def _before(scene: Scene) -> tuple[str, ...]:
    """The panes before the first question."""
    if scene.foreign:
        return ()
    return BLIND_PANES[: len(scene.connection.stages)] if scene.mode.blind else scene.connection.panes


def _tagline(text: str) -> str:
    return f'<p class="sw-tagline">{escape(text)}</p>'


def _notice(notice: str) -> str:
    # Server messages are text; whatever markup stands in them is shown, not followed.
    return f'<p class="sw-notice" role="alert">{escape(notice)}</p>' if notice else ""


def _no_summaries() -> str:
    """What to do instead; the style sheet takes the text box away where this stands."""
    commands = escape("\n".join(texts.SUMMARIES_COMMANDS))
    return (
        f'<div class="sw-notice sw-about" role="status"><p>{escape(texts.NO_SUMMARIES)}</p>'
        f'<pre tabindex="0">{commands}</pre><a class="sw-button" href="./">{escape(texts.TO_COMPARE)}</a></div>'
    )


def _saved(comment: str) -> str:
    said = f"{texts.COMMENT_SAVED} “{comment}”" if comment else ""
    return f'<p class="sw-status" role="status">{escape(said)}</p>'


def _edit_label(stage: str) -> str:
    return f'<p class="sw-status">{escape(texts.EDIT_ABOUT.format(answer=texts.answer_of(stage)))}</p>'
