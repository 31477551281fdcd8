"""The votes' part of the review page: filter, export, decisions on many at once, and the list."""

from datetime import UTC, datetime, timedelta
from html import escape

from sawyer.types import FeedbackFilter
from ui.numbers import contestant_name, counted
from ui.review import texts
from ui.review.desk import Desk
from ui.review.item import item_html
from ui.review.parts import act_button, select

CHOICES = ("base", "sft", "rlf", "tie", "bad")


def votes_html(desk: Desk) -> str:
    if not desk.items:
        return f'{_filter(desk.chosen)}<p class="bd-wait">{texts.NONE_MATCHING}</p>'
    shown = texts.MATCHING.format(votes=counted(desk.total, "vote"), shown=len(desk.items))
    items = "".join(item_html(item) for item in desk.items)
    more = act_button(texts.MORE, "more") if desk.next else ""
    return (
        f'{_filter(desk.chosen)}<div class="rv-line"><p>{escape(shown)}</p>{_export()}</div>{_many()}'
        f'<p class="rv-hint">{texts.KEYS_HINT} {texts.STATES_HINT}</p><div class="rv-items">{items}</div>{more}'
    )


def _filter(chosen: FeedbackFilter) -> str:
    either = {"true": texts.YES, "false": texts.NO}
    choices = {choice: contestant_name(choice) for choice in CHOICES}
    fields = (
        select("state", texts.FIELD_STATE, texts.STATES, chosen.state),
        select("choice", texts.FIELD_CHOICE, choices, chosen.choice),
        select("finding", texts.FIELD_FINDING, texts.FINDINGS, chosen.finding),
        select("blind", texts.FIELD_BLIND, either, _word(chosen.blind)),
        select("edited", texts.FIELD_EDITED, either, _word(chosen.edited)),
        _field("since", texts.FIELD_SINCE, _day(chosen.since), kind="date"),
        _field("until", texts.FIELD_UNTIL, _day(chosen.until, end=True), kind="date"),
        _field("voter", texts.FIELD_VOTER, chosen.voter or "", longest=128),
        _field("text", texts.FIELD_TEXT, chosen.text or "", hint=texts.FIELD_TEXT_HINT, longest=200),
    )
    return (
        f'<form class="rv-filter" data-act="find" aria-label="{texts.FILTER}">{"".join(fields)}'
        f'<button type="submit" class="rv-main">{texts.SHOW}</button></form>'
    )


def _word(value: bool | None) -> str | None:
    return None if value is None else str(value).lower()


def _day(at: float | None, *, end: bool = False) -> str:
    if at is None:
        return ""
    return (datetime.fromtimestamp(at, UTC) - timedelta(days=1 if end else 0)).strftime("%Y-%m-%d")


def _field(name: str, label: str, value: str, *, kind: str = "search", hint: str = "", longest: int = 0) -> str:
    limit = f' maxlength="{longest}"' if longest else ""
    placeholder = f' placeholder="{escape(hint)}"' if hint else ""
    return (
        f'<label data-field="{name}"><span>{escape(label)}</span><input type="{kind}" name="{name}"'
        f' value="{escape(value)}"{limit}{placeholder} autocomplete="off"></label>'
    )


def _export() -> str:
    formats = select("format", texts.EXPORT, texts.EXPORT_AS, "preference", anything=False)
    button = f'<button type="submit">{texts.EXPORT_NOW}</button>'
    return f'<form class="rv-export" data-act="export">{formats}{button}</form>'


def _many() -> str:
    """Decisions on what is selected; the page's script counts and collects."""
    buttons = "".join(
        f'<button type="button" data-bulk="{state}" class="rv-{state}" disabled>{words}</button>'
        for state, words in texts.DECISIONS.items()
    )
    return (
        f'<div class="rv-many" role="group" aria-label="{texts.SELECTED}"><label><input type="checkbox" data-all>'
        f" {texts.SELECT_ALL}</label>"
        f'<span role="status"><b class="rv-count">0</b> {texts.SELECTED}</span>'
        f'<input class="rv-note" maxlength="2000" placeholder="{texts.NOTE}" aria-label="{texts.NOTE}"'
        f' autocomplete="off"><span class="rv-buttons">{buttons}</span></div>'
    )
