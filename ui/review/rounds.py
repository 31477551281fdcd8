"""The rounds' part of the review page: start one, watch it, read why it ended as it did."""

from html import escape

from sawyer.types import RoundDetail, RoundList, RoundSample, RoundStep, RoundSummary
from ui.markdown import to_html
from ui.numbers import MINUS, counted, signed
from ui.review import texts
from ui.review.desk import Desk
from ui.review.parts import ROUND_STATES, act_button, chip, moment, select, table

POLL_MILLISECONDS = 2000


def rounds_html(desk: Desk) -> str:
    if desk.detail is not None:
        return _detail(desk.detail, desk.registry.current.get("rlf") if desk.registry else None)
    if desk.rounds is None:
        return ""
    return _start(desk.rounds) + _list(desk.rounds)


def _start(rounds: RoundList) -> str:
    if rounds.can_start is not None:
        reason = escape(texts.CANNOT_START.format(reason=rounds.can_start))
        return f'<section class="bd-card"><h3>{texts.START_TITLE}</h3><p>{texts.START_WHY}</p><p>{reason}</p></section>'
    return (
        f'<section class="bd-card"><h3>{texts.START_TITLE}</h3><p>{texts.START_WHY}</p>'
        f'<form class="rv-start" data-act="start" data-confirm="{escape(texts.START_CONFIRM)}">'
        f"{select('method', texts.METHOD, texts.METHODS, 'ppo', anything=False)}"
        f'<label class="rv-check"><input type="checkbox" name="dry_run" value="true"> {escape(texts.DRY_RUN)}</label>'
        f'<button type="submit" class="rv-main">{texts.START}</button></form></section>'
    )


def _list(rounds: RoundList) -> str:
    if not rounds.rounds:
        return f'<p class="bd-wait">{texts.ROUNDS_NONE}</p>'
    rows = (_row(each) for each in rounds.rounds)
    listed = table(texts.ROUNDS_TITLE, texts.ROUND_COLUMNS, rows)
    return f'<section class="bd-card"><h3>{texts.ROUNDS_TITLE}</h3>{listed}</section>'


def _row(each: RoundSummary) -> tuple[str, ...]:
    reasons = "".join(f"<br><small>{escape(reason)}</small>" for reason in each.reasons)
    return (
        f"<b>{each.number}</b>",
        f"<time>{moment(each.created)}</time>",
        escape(each.method.upper()),
        escape(f"{counted(each.votes, 'vote')}, {counted(each.voters, 'voter')}"),
        escape(each.candidate or texts.NOT_KNOWN),
        escape(each.current or texts.NOT_KNOWN),
        chip(each.state, ROUND_STATES[each.state]) + reasons,
        act_button(texts.LOOK, "open", number=each.number, label=texts.LOOK_AT.format(number=each.number)),
    )


def _detail(each: RoundDetail, served: str | None) -> str:
    """One round. While it runs, steps and log come first; once it has ended, what the gate said."""
    measured = _conditions(each) + _figures(each) + _samples(each)
    lately = _steps(each) + _log(each)
    parts = lately + measured if each.state == "running" else measured + lately
    return f"{_head(each, served)}{parts}"


def _head(each: RoundDetail, served: str | None) -> str:
    votes, voters = counted(each.votes, "vote"), counted(each.voters, "voter")
    facts = [each.method.upper(), texts.LEARNT_FROM.format(votes=votes, voters=voters), moment(each.created)]
    if each.candidate:
        facts.append(f"{each.candidate} against {each.current or texts.NO_VERSION}")
    reasons = "".join(f"<li>{escape(reason)}</li>" for reason in each.reasons)
    return (
        f'<section class="bd-card rv-round">{act_button("← " + texts.BACK, "open", number=0, kind="quiet")}'
        f"<h3>{escape(texts.ROUND_NUMBER.format(number=each.number))} {chip(each.state, ROUND_STATES[each.state])}</h3>"
        f"<p>{escape(' · '.join(facts))}</p>{f'<ul class=rv-reasons>{reasons}</ul>' if reasons else ''}"
        f'<div class="rv-buttons">{_actions(each, served)}</div></section>'
    )


def _actions(each: RoundDetail, served: str | None) -> str:
    if each.state == "running":
        return act_button(texts.STOP, "stop", number=each.number, confirm=texts.STOP_CONFIRM, kind="rejected")
    back = act_button(
        texts.ROLL_BACK.format(stage="rlf"),
        "rollback",
        stage="rlf",
        confirm=texts.ROLL_BACK_CONFIRM.format(stage="rlf"),
    )
    if each.candidate is None:
        return ""
    if each.candidate == served:
        return f"<span>{escape(texts.IS_CURRENT.format(ref=served))}</span>{back}"
    asked = texts.PROMOTE_OVERRULE if each.state == "refused" else texts.PROMOTE_CONFIRM
    words = texts.PROMOTE_CANDIDATE.format(ref=each.candidate)
    return act_button(words, "promote", ref=each.candidate, confirm=asked.format(ref=each.candidate)) + back


def _steps(each: RoundDetail) -> str:
    rows = "".join(_step(step) for step in each.steps)
    return f'<section class="bd-card"><h3>{texts.STEPS}</h3><ol class="rv-steps">{rows}</ol></section>' if rows else ""


def _step(step: RoundStep) -> str:
    name = texts.STEP_NAMES.get(step.name, step.name)
    took = "" if step.seconds is None else f"{step.seconds:.0f} s"
    bar = ""
    if step.state == "running":
        value = "" if step.progress is None else f' value="{min(max(step.progress, 0.0), 1.0):.3f}"'
        bar = f'<progress max="1"{value} aria-label="{escape(name)}"></progress>'
    detail = f"<p>{escape(step.detail)}</p>" if step.detail else ""
    return (
        f'<li data-state="{step.state}"><b>{escape(name)}</b> {chip(step.state, texts.STEP_STATES[step.state])}'
        f"<small>{took}</small>{bar}{detail}</li>"
    )


def _log(each: RoundDetail) -> str:
    if not each.log:
        return ""
    lines = escape("\n".join(each.log))
    return f'<section class="bd-card"><h3>{texts.LOG}</h3><pre class="rv-log" tabindex="0">{lines}</pre></section>'


def _conditions(each: RoundDetail) -> str:
    if not each.conditions:
        return ""
    rows = (
        (
            escape(one.name),
            escape(one.measured),
            escape(one.allowed),
            chip("approved" if one.met else "rejected", texts.MET if one.met else texts.NOT_MET),
        )
        for one in each.conditions
    )
    return f'<section class="bd-card"><h3>{texts.GATE}</h3>{table(texts.GATE, texts.GATE_COLUMNS, rows)}</section>'


def _figures(each: RoundDetail) -> str:
    if not each.figures:
        return ""
    listed = "".join(
        f"<div><dt>{escape(name.replace('_', ' '))}</dt><dd>{f'{value:.3g}'.replace('-', MINUS)}</dd></div>"
        for name, value in each.figures.items()
    )
    return f'<section class="bd-card"><h3>{texts.FIGURES}</h3><dl class="rv-figures">{listed}</dl></section>'


def _samples(each: RoundDetail) -> str:
    if not each.samples:
        return ""
    shown = "".join(_sample(sample, each) for sample in each.samples)
    return f'<section class="bd-card"><h3>{texts.SAMPLES}</h3>{shown}</section>'


def _sample(sample: RoundSample, each: RoundDetail) -> str:
    sides = (
        (texts.CURRENT, each.current, sample.current, sample.current_reward),
        (texts.CANDIDATE, each.candidate, sample.candidate, sample.candidate_reward),
    )
    drawn = "".join(
        f"<section><h4>{role}{f' · {escape(ref)}' if ref else ''}</h4>"
        f'<div class="sw-reply">{to_html(text)}</div>'
        f"<small>{texts.NO_REWARD if reward is None else f'reward {signed(reward)}'}</small></section>"
        for role, ref, text, reward in sides
    )
    return f'<div class="rv-question"><p>{escape(sample.prompt)}</p></div><div class="rv-answers">{drawn}</div>'
