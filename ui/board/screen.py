"""A view of the board as HTML. Pure; every text that comes from outside is escaped."""

from html import escape

from sawyer.types import Board, RoundSummary
from ui.board import findings, texts
from ui.board.figure_html import figure_html
from ui.board.figures import figures
from ui.board.palette import shades
from ui.board.view import View
from ui.numbers import contestant_name, counted, of_number, percent

POLL_MILLISECONDS = 4000


def screen(view: View) -> str:
    """The whole board. ``data-poll`` tells the page's script how often to look for news."""
    notice = f'<p class="sw-notice" role="alert">{escape(view.notice)}</p>' if view.notice else ""
    return (
        f'<div class="bd" data-poll="{POLL_MILLISECONDS}">'
        f'<header class="bd-head"><div><h2>{escape(texts.TITLE)}</h2><p>{escape(texts.TAGLINE)}</p></div>'
        f"{_switches(view)}</header>{notice}{_body(view)}"
        f'<p class="bd-live"><i aria-hidden="true"></i>{escape(texts.LIVE)}</p></div>'
    )


def _body(view: View) -> str:
    board = view.board
    if board is None:
        return "" if view.notice else f'<p class="bd-wait" role="status">{escape(texts.LOADING)}</p>'
    if board.votes == 0:
        everything = view.blind is None
        return (_first_steps() if everything else f"<p class='bd-wait'>{escape(texts.EMPTY_SELECTION)}</p>") + (
            _rounds(board.rounds) if board.rounds else ""
        )
    cards = "".join(figure_html(figure) for figure in figures(board))
    return f'{_totals(board)}<div class="bd-grid">{cards}</div>{_rounds(board.rounds)}'


def _switches(view: View) -> str:
    asked = {True: "blind", False: "open", None: "all"}[view.blind]
    by = (("stage", texts.BY_STAGE), ("version", texts.BY_VERSION))
    votes = (("all", texts.ALL_VOTES), ("blind", texts.BLIND_VOTES), ("open", texts.OPEN_VOTES))
    return (
        f'<div class="bd-switches" role="group" aria-label="{escape(texts.SHOW)}">'
        f"{_switch(texts.BY, 'by', by, view.by)}{_switch(texts.VOTES_OF, 'votes', votes, asked)}</div>"
    )


def _switch(label: str, field: str, options: tuple[tuple[str, str], ...], pressed: str) -> str:
    buttons = "".join(
        f'<button type="button" data-act="switch" data-{field}="{value}"'
        f' aria-pressed="{str(value == pressed).lower()}">{escape(words)}</button>'
        for value, words in options
    )
    named = escape(label)
    return f'<div class="bd-switch" role="group" aria-label="{named}"><span>{named}</span>{buttons}</div>'


def _totals(board: Board) -> str:
    kind = {True: texts.BLIND_NOTE, False: texts.OPEN_NOTE, None: texts.ALL_NOTE}[board.blind]
    return (
        f'<section class="bd-totals" aria-label="{escape(texts.VOTES)}">'
        f"<p><b>{board.votes:,}</b><span>{of_number(board.votes, 'vote')}<br><small>{escape(kind)}</small></span></p>"
        f"<p><b>{board.voters:,}</b><span>{of_number(board.voters, 'voter')}</span></p>{_choices(board)}</section>"
    )


def _choices(board: Board) -> str:
    """Every choice as its share of all votes: one bar, and the same in words below it."""
    total = sum(board.choices.values()) or 1
    strong = shades([*board.contestants, "tie", "bad"])
    present = [(choice, board.choices.get(choice, 0)) for choice in strong]
    parts = "".join(
        f'<i data-choice="{escape(_kind(choice))}"'
        f' style="width:{100 * count / total:.2f}%;opacity:{strong[choice]:.2f}"></i>'
        for choice, count in present
        if count
    )
    words = "".join(
        f'<li><i data-choice="{escape(_kind(choice))}" style="opacity:{strong[choice]:.2f}" aria-hidden="true"></i>'
        f"{escape(contestant_name(choice))}"
        f" <b>{count}</b> <small>{percent(count / total)}</small></li>"
        for choice, count in present
    )
    bar = f'<div class="bd-bar" aria-hidden="true">{parts}</div>'
    return f'<div class="bd-choices"><h3>{texts.SHARES}</h3>{bar}<ul>{words}</ul></div>'


def _kind(choice: str) -> str:
    return choice.partition("@")[0]


def _rounds(rounds: list[RoundSummary]) -> str:
    head = f"<h3>{texts.ROUNDS}</h3><p class='bd-finding'>{escape(findings.rounds(rounds))}</p>"
    columns = "".join(f'<th scope="col">{name}</th>' for name in texts.ROUND_COLUMNS)
    rows = "".join(_round(each) for each in rounds)
    table = f"<table><thead><tr>{columns}</tr></thead><tbody>{rows}</tbody></table>" if rounds else ""
    scroll = (
        f'<div class="bd-scroll" tabindex="0" role="region" aria-label="{texts.ROUNDS}">{table}</div>' if table else ""
    )
    return f'<section class="bd-card bd-rounds" data-figure="rounds">{head}{scroll}</section>'


def _round(each: RoundSummary) -> str:
    learnt = f"{counted(each.votes, 'vote')}, {counted(each.voters, 'voter')}"
    reasons = "".join(f"<br><small>{escape(reason)}</small>" for reason in each.reasons)
    state = f'<span class="sw-chip" data-state="{each.state}">{escape(texts.ROUND_STATES[each.state])}</span>'
    cells = (str(each.number), each.method.upper(), learnt, each.candidate or "–", each.current or "–")
    return "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in cells) + f"<td>{state}{reasons}</td></tr>"


def _first_steps() -> str:
    link = f'<a href="./">{escape(texts.EMPTY_COMPARE)}</a>'
    steps = "".join(f"<li>{escape(step).format(compare=link)}</li>" for step in texts.EMPTY_STEPS)
    return (
        f'<section class="bd-card bd-empty"><h3>{escape(texts.EMPTY_TITLE)}</h3><ol>{steps}</ol>'
        f"<p>{escape(texts.EMPTY_AFTER)}</p></section>"
    )
