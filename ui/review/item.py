"""One vote as a reviewer reads it: the question, the answers as shown, the verdict, what a machine noticed."""

from html import escape

from sawyer.types import AnswerShown, FeedbackItem
from ui.markdown import to_html
from ui.numbers import contestant_name, counted, signed
from ui.review import texts
from ui.review.parts import act_button, chip, moment


def item_html(item: FeedbackItem) -> str:
    """``data-vote`` lets the page's script go through votes, select and decide them by key."""
    answers = "".join(_answer(item, answer) for answer in item.answers)
    return (
        f'<article class="rv-item" tabindex="-1" data-vote="{escape(item.vote_id)}" data-state="{item.state}"'
        f' aria-label="{escape(_who(item))} {escape(_verdict(item))}">{_head(item)}{_findings(item)}{_question(item)}'
        f'<div class="rv-answers">{answers}</div>{_words(item)}{_decisions(item)}</article>'
    )


def _who(item: FeedbackItem) -> str:
    return item.name or item.voter or texts.ANONYMOUS


def _verdict(item: FeedbackItem) -> str:
    match item.choice:
        case "tie":
            return texts.CHOSE_TIE
        case "bad":
            return texts.CHOSE_BAD
    answer = next((one for one in item.answers if one.completion_id == item.completion_id), None)
    return texts.CHOSE.format(name=contestant_name(answer.version or answer.stage if answer else item.choice))


def _head(item: FeedbackItem) -> str:
    facts = [moment(item.created), texts.BLIND if item.blind else texts.OPEN]
    if item.position is not None:
        facts.append(texts.PLACE.format(place=item.position + 1))
    if item.seconds is not None:
        facts.append(texts.AFTER_SECONDS.format(seconds=item.seconds))
    if not item.consent:
        facts.append(texts.NO_CONSENT)
    return (
        f'<header><label class="rv-select"><input type="checkbox" data-select="{escape(item.vote_id)}"'
        f' aria-label="{texts.SELECT}"></label><p><b>{escape(_who(item))}</b> {escape(_verdict(item))}'
        f"<br><small>{escape(' · '.join(facts))}</small></p>{chip(item.state, texts.STATES[item.state])}</header>"
    )


def _findings(item: FeedbackItem) -> str:
    if not item.findings:
        return ""
    rows = "".join(
        f"<li><b>{escape(texts.FINDINGS[finding])}</b> {escape(texts.FINDING_WHY[finding])}</li>"
        for finding in item.findings
    )
    return f'<ul class="rv-findings">{rows}</ul>'


def _question(item: FeedbackItem) -> str:
    *before, last = item.messages
    earlier = "".join(f"<p><b>{message.role}</b> {escape(message.content)}</p>" for message in before)
    folded = (
        f'<details data-keep="before-{escape(item.vote_id)}"><summary>'
        f"{escape(texts.EARLIER.format(messages=counted(len(before), 'message')))}</summary>{earlier}</details>"
        if before
        else ""
    )
    return f'<div class="rv-question"><p>{escape(last.content)}</p>{folded}</div>'


def _answer(item: FeedbackItem, answer: AnswerShown) -> str:
    chosen = answer.completion_id == item.completion_id
    name = contestant_name(answer.version or answer.stage)
    pane = f"{answer.pane} · " if answer.pane else ""
    reward = texts.NO_REWARD if answer.reward is None else f"reward {signed(answer.reward)}"
    mark = f' <span class="rv-chosen">✓ {texts.CHOSEN}</span>' if chosen else ""
    facts = f"{counted(answer.tokens, 'token')} · {reward}"
    return (
        f'<section{" class=rv-won" if chosen else ""}><h4><span class="sw-dot" data-stage="{answer.stage}"></span>'
        f'{escape(pane + name)}{mark}</h4><div class="sw-reply">{to_html(answer.text)}</div>'
        f"<small>{escape(facts)}</small></section>"
    )


def _words(item: FeedbackItem) -> str:
    """What the voter wrote and what reviewers noted."""
    parts = []
    if item.ranking:
        parts.append((texts.RANKING, " › ".join(item.ranking)))
    if item.edited:
        parts.append((texts.EDITED, item.edited))
    if item.comment:
        parts.append((texts.COMMENT, item.comment))
    if item.reviewer or item.note:
        parts.append((texts.REVIEWED.format(reviewer=item.reviewer or "–"), item.note or ""))
    return "".join(f'<p class="rv-words"><b>{escape(title)}</b> {escape(words)}</p>' for title, words in parts)


def _decisions(item: FeedbackItem) -> str:
    buttons = "".join(
        act_button(
            words,
            "decide",
            state=state,
            ids=item.vote_id,
            kind=state,
            extra=f' aria-keyshortcuts="{texts.KEYS[state]}" aria-pressed="{str(item.state == state).lower()}"',
        )
        for state, words in texts.DECISIONS.items()
    )
    return f'<footer><div class="rv-buttons">{buttons}</div>{_redaction(item)}</footer>'


def _redaction(item: FeedbackItem) -> str:
    return (
        f'<details data-keep="redact-{escape(item.vote_id)}"><summary>{texts.REDACT}</summary>'
        f'<form data-act="redact" data-conversation="{escape(item.conversation_id)}"'
        f' data-confirm="{escape(texts.REDACT_CONFIRM)}"><label><span>{escape(texts.REDACT_TEXT)}</span>'
        '<input name="text" required minlength="2" maxlength="20000" autocomplete="off"></label>'
        f"<label><span>{escape(texts.NOTE)}</span>"
        '<input name="note" maxlength="2000" autocomplete="off"></label>'
        f'<button type="submit" class="rv-rejected">{texts.REDACT_NOW}</button></form></details>'
    )
