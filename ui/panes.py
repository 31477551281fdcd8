"""One pane as HTML: who answers, the answer, tokens, seconds and reward, and what one can do with it."""

from collections.abc import Iterable
from html import escape

from ui import texts
from ui.markdown import to_html
from ui.markup import button
from ui.turn import Pane, Status, Turn

SCALES = (2.0, 5.0, 10.0, 20.0, 50.0, 100.0)
"""Half-widths a reward bar can have. Steps, so that bars do not change their meaning with every answer."""


def reward_scale(panes: Iterable[Pane]) -> float:
    """The smallest of ``SCALES`` that holds every reward: one scale for all bars on the page."""
    largest = max((abs(p.result.reward) for p in panes if p.result and p.result.reward is not None), default=0.0)
    return next((scale for scale in SCALES if largest <= scale), SCALES[-1])


def pane_html(turn: Turn, slot: int, *, scale: float, summary: bool = False) -> str:
    """The pane during and after a question. ``summary``: of a model that summarises."""
    pane = turn.panes[slot]
    chosen = turn.vote == pane.stage
    state = f"sw-{pane.status}" + (" sw-chosen" if chosen else "")
    return (
        f'<article class="sw-pane {state}" data-stage="{_colour(pane.behind or pane.stage)}" '
        f'aria-label="{escape(_called(pane))}" aria-busy="{str(pane.open).lower()}">'
        f"{_head(pane.behind or pane.stage, pane.version, summary, letter=pane.stage if pane.behind else '')}"
        f'<div class="sw-reply" role="log" aria-live="polite">{_body(pane, turn.ahead)}</div>'
        f"{_edited(pane)}{_foot(pane, scale)}{_actions(turn, pane, slot, chosen)}</article>"
    )


def empty_html(stage: str, summary: bool = False) -> str:
    """The pane before the first question: what this stage is."""
    hint = f'<div class="sw-reply"><span class="sw-quiet">{escape(texts.ANSWER_HERE)}</span></div>'
    return (
        f'<article class="sw-pane sw-empty" data-stage="{_colour(stage)}" '
        f'aria-label="{escape(texts.stage_text(stage).name)}">{_head(stage, None, summary)}{hint}</article>'
    )


def stage_name(stage: str) -> str:
    """A stage's name with its coloured dot."""
    return f'<span class="sw-dot" data-stage="{_colour(stage)}"></span>{escape(texts.stage_text(stage).name)}'


def _colour(stage: str) -> str:
    return escape(stage.partition("@")[0])


def _called(pane: Pane) -> str:
    return texts.stage_text(pane.behind or pane.stage).name


def _head(stage: str, version: str | None, summary: bool, letter: str = "") -> str:
    text = texts.stage_text(stage, summary)
    was = f'<span class="sw-letter">{escape(texts.WAS.format(pane=letter))}</span>' if letter else ""
    tag = f'<span class="sw-version">{escape(version)}</span>' if version else ""
    about = f"<p>{escape(text.description)}</p>" if text.description else ""
    return f"<header><h2>{stage_name(stage)}{was}{tag}</h2>{about}</header>"


def _body(pane: Pane, ahead: int | None) -> str:
    if pane.status is Status.WAITING:
        waiting = texts.replies_ahead(ahead) if ahead else texts.WAITING
        return f'<p class="sw-quiet sw-pulse">{escape(waiting)}</p>'
    written = to_html(pane.text) if pane.text.strip() else ""
    if pane.status is Status.FAILED:
        title, reason = escape(texts.PANE_FAILED), escape(pane.error)
        return f'{written}<p class="sw-error" role="alert"><strong>{title}</strong> {reason}</p>'
    if not written and pane.status is Status.DONE:
        return f'<p class="sw-quiet">{escape(texts.EMPTY_REPLY)}</p>'
    if not written and pane.status is Status.STOPPED:
        return f'<p class="sw-quiet">{escape(texts.STOPPED_EMPTY)}</p>'
    return written


def _edited(pane: Pane) -> str:
    if not pane.edited:
        return ""
    label = escape(texts.YOUR_VERSION)
    return (
        f'<div class="sw-edited"><p class="sw-who">{label}</p><div class="sw-reply">{to_html(pane.edited)}</div></div>'
    )


def _foot(pane: Pane, scale: float) -> str:
    if pane.status is Status.STOPPED and pane.text.strip():
        return f'<footer><span class="sw-facts">{escape(texts.STOPPED)}</span></footer>'
    if pane.result is None:
        return "<footer></footer>"
    facts = [texts.tokens(pane.result.tokens), f"{pane.result.seconds:.1f} s"]
    if pane.result.finish_reason == "length":
        facts.append(texts.CUT_SHORT)
    line = " · ".join(escape(fact) for fact in facts)
    if pane.hidden:
        hidden = f'<span class="sw-reward sw-quiet">{escape(texts.REWARD_HIDDEN)}</span>'
        return f'<footer><span class="sw-facts">{line}</span>{hidden}</footer>'
    return (
        f'<footer><span class="sw-facts">{line}</span>{_bar(pane.result.reward, pane.result.parts, scale)}'
        f"{_parts(pane.result.parts)}</footer>"
    )


def _bar(reward: float | None, parts: dict[str, float], scale: float) -> str:
    """Zero in the middle, better to the right; the number beside it, for those who cannot see the bar."""
    if reward is None:
        return f'<span class="sw-reward sw-quiet">{escape(texts.NO_REWARD)}</span>'
    share = min(abs(reward) / scale, 1.0) * 50
    start = 50.0 if reward >= 0 else 50.0 - share
    sign = "up" if reward >= 0 else "down"
    title = texts.REWARD_SCALE.format(reward=_signed(reward), low=f"\N{MINUS SIGN}{scale:g}", high=f"+{scale:g}")
    title += "".join(f"; {name} {_signed(value)}" for name, value in parts.items())
    return (
        f'<span class="sw-reward" title="{escape(title)}"><span>{escape(texts.REWARD)}</span>'
        f'<span class="sw-bar" aria-hidden="true"><i class="sw-{sign}" style="left:{start:.1f}%;width:{share:.1f}%">'
        f"</i></span><b>{_signed(reward)}</b></span>"
    )


def _parts(parts: dict[str, float]) -> str:
    lines = "".join(f"<li><span>{escape(name)}</span><b>{_signed(value)}</b></li>" for name, value in parts.items())
    return f'<ul class="sw-parts" aria-label="{escape(texts.PARTS)}">{lines}</ul>' if lines else ""


def _actions(turn: Turn, pane: Pane, slot: int, chosen: bool) -> str:
    """Vote, thumbs, edit, answer anew. While anything still streams they are there and wait, so nothing jumps."""
    name, place, idle = _called(pane), {"slot": slot}, not turn.open
    done = pane.status is Status.DONE
    if pane.status is Status.FAILED:
        retry = button(texts.RETRY, "anew", data=place, picture="again", streams=True, disabled=not idle)
        return f'<div class="sw-actions">{retry if turn.turn_id else ""}</div>'
    pick = button(
        texts.PICKED if chosen else texts.PICK,
        "vote",
        data=place,
        key=str(slot + 1),
        kind="sw-pick" + (" sw-on" if chosen else ""),
        pressed=chosen,
        disabled=not (turn.votable and done),
    )
    rated = pane.result is not None and bool(pane.result.completion_id)
    thumbs = [
        button(
            texts.THUMBS[up].format(pane=name),
            "up" if up else "down",
            data=place,
            picture="up" if up else "down",
            hidden_label=True,
            pressed=pane.thumb is up,
            disabled=not (idle and done and rated),
        )
        for up in (True, False)
    ]
    edit = button(
        texts.EDIT_REPLY.format(pane=name),
        "edit",
        data=place,
        picture="pencil",
        hidden_label=True,
        disabled=not (done and (turn.votable or (turn.answered and chosen))),
    )
    again = button(
        texts.ANSWER_ANEW.format(pane=name),
        "anew",
        data=place,
        picture="again",
        hidden_label=True,
        streams=True,
        disabled=not (idle and turn.turn_id),
    )
    return f'<div class="sw-actions">{pick}<span class="sw-tools">{"".join(thumbs)}{edit}{again}</span></div>'


def _signed(number: float) -> str:
    return f"{number:+.2f}".replace("-", "\N{MINUS SIGN}")
