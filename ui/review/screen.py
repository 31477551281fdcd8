"""A reviewer's desk as HTML. Pure; every text that comes from outside is escaped."""

from html import escape

from ui.review import texts
from ui.review.desk import Desk
from ui.review.parts import act_button
from ui.review.rounds import POLL_MILLISECONDS, rounds_html
from ui.review.versions import versions_html
from ui.review.voters import voters_html
from ui.review.votes import votes_html


def screen(desk: Desk) -> str:
    """The door until a key has been accepted, then the desk."""
    if not desk.key:
        return f'<div class="bd rv" data-door>{_head("")}{_notices(desk)}{_door()}</div>'
    poll = f' data-poll="{POLL_MILLISECONDS}"' if desk.tab == "rounds" else ""
    leave = act_button(texts.LEAVE, "leave", kind="quiet")
    return (
        f'<div class="bd rv" data-inside{poll}>{_head(leave)}{_tabs(desk)}{_notices(desk)}'
        f'<div class="rv-part" data-tab="{desk.tab}">{_part(desk)}</div>{_file(desk)}</div>'
    )


def _head(leave: str) -> str:
    return f'<header class="bd-head"><div><h2>{texts.TITLE}</h2><p>{escape(texts.TAGLINE)}</p></div>{leave}</header>'


def _door() -> str:
    return (
        f'<section class="bd-card rv-door"><h3>{texts.DOOR_TITLE}</h3><p>{texts.DOOR_WHY}</p>'
        '<form data-act="enter">'
        # For password managers, which file a key under a name.
        '<input type="text" name="username" value="sawyer admin" autocomplete="username" hidden disabled>'
        f'<label><span>{texts.KEY_LABEL}</span><input type="password" name="key" required'
        ' autocomplete="current-password" spellcheck="false"></label>'
        f'<button type="submit" class="rv-main">{texts.ENTER}</button></form>'
        f"<p>{texts.DOOR_HOW}</p><pre tabindex=0>{texts.DOOR_COMMAND}</pre>"
        f"<p><small>{texts.DOOR_KEPT}</small></p></section>"
    )


def _tabs(desk: Desk) -> str:
    tabs = "".join(
        act_button(words, "show", tab=tab, extra=' aria-current="page"' if tab == desk.tab else "")
        for tab, words in texts.TABS.items()
    )
    return f'<nav class="rv-tabs" aria-label="{texts.TABS_LABEL}">{tabs}</nav>'


def _notices(desk: Desk) -> str:
    wrong = "".join(f'<p class="sw-notice" role="alert">{escape(one)}</p>' for one in (desk.notice, desk.stale) if one)
    return f'{wrong}<p class="rv-done" role="status">{escape(desk.done)}</p>'


def _part(desk: Desk) -> str:
    match desk.tab:
        case "feedback":
            return votes_html(desk)
        case "voters":
            return voters_html(desk.voters) if desk.voters is not None else ""
        case "rounds":
            return rounds_html(desk)
        case "versions":
            return versions_html(desk.registry) if desk.registry else ""


def _file(desk: Desk) -> str:
    """What the page's script makes a file of and saves; no file is left lying on the server."""
    if desk.file is None:
        return ""
    name, serial = escape(desk.file.name), desk.file.serial
    return f'<div hidden data-file="{name}" data-serial="{serial}">{escape(desk.file.text)}</div>'
