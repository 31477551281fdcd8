"""One pane as HTML: who answers, the answer, and below it tokens, seconds and reward."""

from collections.abc import Iterable
from html import escape

from ui import texts
from ui.chat import Pane, Status
from ui.markdown import to_html

SCALES = (2.0, 5.0, 10.0, 20.0, 50.0, 100.0)
"""Half-widths a reward bar can have. Steps, so that bars do not change their meaning with every answer."""


def reward_scale(panes: Iterable[Pane]) -> float:
    """The smallest of ``SCALES`` that holds every reward: one scale for all bars on the page."""
    largest = max((abs(p.result.reward) for p in panes if p.result and p.result.reward is not None), default=0.0)
    return next((scale for scale in SCALES if largest <= scale), SCALES[-1])


def pane_html(pane: Pane, *, chosen: bool, scale: float) -> str:
    """The pane during and after a question."""
    state = f"sw-{pane.status}" + (" sw-chosen" if chosen else "")
    version = pane.result.version if pane.result else None
    return (
        f'<article class="sw-pane {state}" data-stage="{escape(pane.stage)}" aria-busy="{str(pane.open).lower()}">'
        f"{_head(pane.stage, version)}"
        f'<div class="sw-reply" role="log" aria-live="polite">{_body(pane)}</div>'
        f"{_foot(pane, scale)}</article>"
    )


def empty_html(stage: str) -> str:
    """The pane before the first question: what this stage is."""
    hint = f'<div class="sw-reply"><span class="sw-quiet">{escape(texts.ANSWER_HERE)}</span></div>'
    return f'<article class="sw-pane sw-empty" data-stage="{escape(stage)}">{_head(stage, None)}{hint}</article>'


def stage_name(stage: str) -> str:
    """A stage's name with its coloured dot."""
    return f'<span class="sw-dot" data-stage="{escape(stage)}"></span>{escape(texts.stage_text(stage).name)}'


def _head(stage: str, version: str | None) -> str:
    tag = f'<span class="sw-version">{escape(version)}</span>' if version else ""
    description = escape(texts.stage_text(stage).description)
    return f"<header><h2>{stage_name(stage)}{tag}</h2><p>{description}</p></header>"


def _body(pane: Pane) -> str:
    if pane.status is Status.WAITING:
        return f'<p class="sw-quiet sw-pulse">{escape(texts.WAITING)}</p>'
    written = to_html(pane.text) if pane.text.strip() else ""
    if pane.status is Status.FAILED:
        title, reason = escape(texts.PANE_FAILED), escape(pane.error)
        return f'{written}<p class="sw-error" role="alert"><strong>{title}</strong> {reason}</p>'
    if not written and pane.status is Status.DONE:
        return f'<p class="sw-quiet">{escape(texts.EMPTY_REPLY)}</p>'
    if not written and pane.status is Status.STOPPED:
        return f'<p class="sw-quiet">{escape(texts.STOPPED_EMPTY)}</p>'
    return written


def _foot(pane: Pane, scale: float) -> str:
    if pane.status is Status.STOPPED and pane.text.strip():
        return f'<footer><span class="sw-facts">{escape(texts.STOPPED)}</span></footer>'
    if pane.result is None:
        return "<footer></footer>"
    facts = [f"{pane.result.tokens} tokens", f"{pane.result.seconds:.1f} s"]
    if pane.result.finish_reason == "length":
        facts.append(texts.CUT_SHORT)
    line = " · ".join(escape(fact) for fact in facts)
    return f'<footer><span class="sw-facts">{line}</span>{_bar(pane.result.reward, scale)}</footer>'


def _bar(reward: float | None, scale: float) -> str:
    """Zero in the middle, better to the right; the number beside it, for those who cannot see the bar."""
    if reward is None:
        return f'<span class="sw-reward sw-quiet">{escape(texts.NO_REWARD)}</span>'
    share = min(abs(reward) / scale, 1.0) * 50
    start = 50.0 if reward >= 0 else 50.0 - share
    sign = "up" if reward >= 0 else "down"
    title = f"{texts.REWARD} {reward:+.2f}, on a scale from {-scale:g} to {scale:+g}"
    return (
        f'<span class="sw-reward" title="{escape(title)}"><span>{escape(texts.REWARD)}</span>'
        f'<span class="sw-bar" aria-hidden="true"><i class="sw-{sign}" style="left:{start:.1f}%;width:{share:.1f}%">'
        f"</i></span><b>{_signed(reward)}</b></span>"
    )


def _signed(number: float) -> str:
    return f"{number:+.2f}".replace("-", "\N{MINUS SIGN}")
