"""Small pieces of HTML that the review page's parts share. Every text is escaped here or by its caller."""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from html import escape

from ui.board.texts import ROUND_STATES
from ui.review import texts

__all__ = ["ROUND_STATES", "act_button", "chip", "moment", "options", "select", "table"]


def moment(at: float) -> str:
    """Seconds since the epoch as ``2026-11-22 14:03`` (UTC)."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M")


def chip(state: str, words: str, title: str = "") -> str:
    hint = f' title="{escape(title)}"' if title else ""
    return f'<span class="sw-chip" data-state="{escape(state)}"{hint}>{escape(words)}</span>'


def act_button(
    words: str, act: str, *, label: str = "", confirm: str = "", kind: str = "", extra: str = "", **data: str | int
) -> str:
    """A button that reports an act with its data; ``confirm`` is asked first, ``label`` is for screen readers."""
    carried = "".join(f' data-{name}="{escape(str(value))}"' for name, value in data.items())
    named = f' aria-label="{escape(label)}"' if label else ""
    asked = f' data-confirm="{escape(confirm)}"' if confirm else ""
    look = f' class="rv-{kind}"' if kind else ""
    return f'<button type="button" data-act="{act}"{carried}{asked}{named}{look}{extra}>{escape(words)}</button>'


def options(choices: Mapping[str, str], chosen: str | None, *, anything: bool = True) -> str:
    """The options of a select; the first one, empty, lets anything through."""
    every = f'<option value="">{escape(texts.ANY)}</option>' if anything else ""
    return every + "".join(
        f'<option value="{escape(value)}"{" selected" if value == chosen else ""}>{escape(words)}</option>'
        for value, words in choices.items()
    )


def select(name: str, label: str, choices: Mapping[str, str], chosen: str | None, *, anything: bool = True) -> str:
    inside = options(choices, chosen, anything=anything)
    return f'<label><span>{escape(label)}</span><select name="{name}">{inside}</select></label>'


def table(name: str, columns: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A table that scrolls by itself on a narrow page. Cells are HTML already; columns are not."""
    head = "".join(f'<th scope="col">{escape(column)}</th>' if column else "<td></td>" for column in columns)
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    return (
        f'<div class="bd-scroll" tabindex="0" role="region" aria-label="{escape(name)}"><table><thead><tr>{head}</tr>'
        f"</thead><tbody>{body}</tbody></table></div>"
    )
