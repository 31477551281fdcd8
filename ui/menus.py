"""The two menus of a conversation, past chats and sharing, and the hint of a first visit."""

from html import escape
from typing import Any

from ui import share, texts
from ui.chat import Chat
from ui.history import entries
from ui.icons import icon
from ui.markup import button


def past_html(chats: Any, current: str) -> str:
    """The chats of this browser; nothing where there are none."""
    lines = "".join(_past(saved, saved["id"] == current) for saved in entries(chats))
    if not lines:
        return ""
    label = escape(texts.PAST_CHATS)
    return (
        f'<details class="sw-menu"><summary>{label}</summary><div class="sw-panel"><ul>{lines}</ul>'
        f'<p class="sw-quiet">{escape(texts.PAST_KEPT)}</p></div></details>'
    )


def share_html(chat: Chat) -> str:
    """Link and downloads of a conversation that is at rest; they hold all of it, so no server is asked."""
    if chat.current is None or chat.busy:
        return ""
    link = share.fragment(chat)
    files = (
        (texts.MARKDOWN_FILE, "sawyer.md", share.data_url(share.markdown(chat), "text/markdown")),
        (texts.JSON_FILE, "sawyer.json", share.data_url(share.as_json(chat), "application/json")),
    )
    downloads = "".join(
        f'<a class="sw-button" download="{name}" href="{escape(url)}"><span>{escape(label)}</span></a>'
        for label, name, url in files
    )
    return (
        f'<details class="sw-menu"><summary>{escape(texts.SHARE)}</summary><div class="sw-panel sw-share">'
        f'<button type="button" class="sw-button" data-link="#{escape(link)}" '
        f'data-copied="{escape(texts.LINK_COPIED)}">{icon("link")}<span>{escape(texts.COPY_LINK)}</span></button>'
        f'<input type="text" readonly hidden aria-label="{escape(texts.LINK)}">{downloads}'
        f'<p class="sw-quiet">{escape(texts.SHARE_ABOUT)}</p></div></details>'
    )


def hint_html(hint: tuple[str, ...]) -> str:
    """A few lines for who has never been here."""
    lines = "".join(f"<li>{escape(line)}</li>" for line in hint)
    close = button(texts.HINT_DONE, "seen", picture="close", hidden_label=True, kind="sw-plain")
    return f'<div class="sw-hint" role="note"><ol>{lines}</ol>{close}</div>'


def examples_html(examples: tuple[str, ...], disabled: bool) -> str:
    """Questions to start from, cut where they are long."""
    chips = "".join(
        button(_short(text), "example", data={"slot": slot}, kind="sw-chip", streams=True, disabled=disabled)
        for slot, text in enumerate(examples)
    )
    label = escape(texts.EXAMPLES_LABEL)
    # On a phone the row scrolls; while no button in it takes the focus, it does itself.
    focus = ' tabindex="0"' if disabled else ""
    return (
        f'<div class="sw-examples" role="group" aria-label="{label}"{focus}><span class="sw-try">{label}</span>'
        f"{chips}</div>"
    )


def revising_html() -> str:
    """Said while the next question replaces the last one."""
    cancel = button(texts.CANCEL, "unrevise", kind="sw-plain")
    return f'<p class="sw-revising" role="status">{escape(texts.REVISING)} {cancel}</p>'


def _past(saved: dict[str, Any], current: bool) -> str:
    chosen = button(saved["title"], "open", data={"id": saved["id"]}, kind="sw-past" + (" sw-here" if current else ""))
    gone = button(
        texts.FORGET.format(title=saved["title"]),
        "forget",
        data={"id": saved["id"]},
        picture="trash",
        hidden_label=True,
        kind="sw-plain",
    )
    return f"<li>{chosen}{gone}</li>"


def _short(text: str, length: int = 62) -> str:
    return text if len(text) <= length else text[:length].rsplit(" ", 1)[0] + " …"
