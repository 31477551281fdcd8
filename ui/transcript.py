"""The conversation above the panes as HTML: earlier turns with the answer they kept, then the question just asked."""

from html import escape

from ui import texts
from ui.chat import Chat, Turn
from ui.markdown import to_html
from ui.panes import stage_name


def transcript_html(chat: Chat) -> str:
    """Nothing before the first question."""
    if chat.current is None:
        return ""
    earlier = "".join(_earlier(turn) for turn in chat.turns[:-1])
    return f'<div class="sw-transcript">{earlier}{_question(chat.current.question, "sw-current")}</div>'


def _question(question: str, extra: str = "") -> str:
    return f'<p class="sw-question {extra}"><span class="sw-hidden">{escape(texts.YOU)}: </span>{escape(question)}</p>'


def _earlier(turn: Turn) -> str:
    kept = turn.kept
    if kept is None:
        return ""
    why = texts.EARLIER_VOTED if turn.vote == kept.stage else texts.EARLIER_KEPT
    others = "".join(
        f'<section><p class="sw-who">{stage_name(pane.stage)}</p>{to_html(pane.text)}</section>'
        for pane in turn.panes
        if pane.usable and pane is not kept
    )
    details = f"<details><summary>{escape(texts.OTHER_ANSWERS)}</summary>{others}</details>" if others else ""
    return (
        f'<div class="sw-turn">{_question(turn.question)}<div class="sw-kept">'
        f'<p class="sw-who">{stage_name(kept.stage)}<span class="sw-why">{escape(why)}</span></p>'
        f'<div class="sw-reply">{to_html(kept.text)}</div>{details}</div></div>'
    )
