"""The conversation above the panes as HTML: earlier turns with the answer they kept, then the question just asked."""

from html import escape

from ui import texts
from ui.chat import Chat
from ui.markdown import to_html
from ui.markup import button
from ui.panes import stage_name
from ui.turn import Turn

LONG = 280
"""Characters of a question that is shown in full: four lines on a desk, nine on a phone."""


def transcript_html(chat: Chat) -> str:
    """Nothing but the chat's id before the first question. The page remembers by the id what this tab shows."""
    if chat.current is None:
        return '<div class="sw-transcript" data-chat=""></div>'
    earlier = "".join(_earlier(turn) for turn in chat.turns[:-1])
    change = button(texts.EDIT_MESSAGE, "revise", picture="pencil", hidden_label=True, disabled=chat.busy)
    question = _question(chat.current.question, "sw-current")
    return (
        f'<div class="sw-transcript" data-chat="{escape(chat.id)}">{earlier}'
        f'<div class="sw-asked">{change}{question}</div></div>'
    )


def _question(question: str, extra: str = "") -> str:
    # A long one scrolls within itself, for which the keyboard must be able to reach it.
    long = len(question) > LONG
    classes = f"sw-question {extra}{' sw-long' if long else ''}"
    return (
        f'<p class="{classes}"{" tabindex=0" if long else ""}><span class="sw-hidden">{escape(texts.YOU)}: </span>'
        f"{escape(question)}</p>"
    )


def _earlier(turn: Turn) -> str:
    kept = turn.kept
    if kept is None:
        return ""
    why = texts.EARLIER_VOTED if turn.vote == kept.stage else texts.EARLIER_KEPT
    why = texts.EARLIER_EDITED if kept.edited else why
    others = "".join(
        f'<section><p class="sw-who">{stage_name(pane.behind or pane.stage)}</p>{to_html(pane.text)}</section>'
        for pane in turn.panes
        if pane.usable and pane is not kept
    )
    details = f"<details><summary>{escape(texts.OTHER_ANSWERS)}</summary>{others}</details>" if others else ""
    return (
        f'<div class="sw-turn">{_question(turn.question)}<div class="sw-kept">'
        f'<p class="sw-who">{stage_name(kept.behind or kept.stage)}<span class="sw-why">{escape(why)}</span></p>'
        f'<div class="sw-reply">{to_html(kept.final)}</div>{details}</div></div>'
    )
