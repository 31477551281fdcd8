"""The head that all pages share: name, ways to the other pages, presenter mode with a QR code for the audience."""

import ipaddress
from html import escape
from typing import Any
from urllib.parse import urlsplit

import gradio as gr
import segno

from ui import texts
from ui.icons import icon
from ui.theme import javascript

PAGES: tuple[tuple[str, str], ...] = (
    ("", texts.COMPARE),
    ("arena", texts.ARENA),
    ("summaries", texts.SUMMARIES),
    ("board", texts.BOARD),
    ("review", texts.REVIEW),
)
"""(path, name) of every page, in the order of the navigation. Those that the page shell must cover, too."""

# Answers in one piece take no part in Gradio's queue, see ui.wiring.
_AT_ONCE: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private", "queue": False}


def add_header(page: gr.Blocks, path: str) -> None:
    """The head of the page at ``path``. Call it inside the page's context, before anything else."""
    header = gr.HTML(header_html(path), apply_default_css=False, elem_id="sw-head", js_on_load=javascript("head.js"))
    address = gr.Textbox(visible=False)

    def told(address: str) -> str:
        return header_html(path, address)

    page.load(told, inputs=address, outputs=header, js="() => location.href", **_AT_ONCE)


def header_html(path: str, address: str = "") -> str:
    """The head; with the ``address`` in the browser also the QR code, which shows in presenter mode."""
    ways = "".join(
        f'<a href="./{each}"{" aria-current=page" if each == path else ""}>{escape(name)}</a>' for each, name in PAGES
    )
    present = (
        f'<button type="button" class="sw-button sw-plain" data-presenter aria-pressed="false" '
        f'title="{escape(texts.PRESENTER)}">{icon("screen")}<span>{escape(texts.PRESENTER_SHORT)}</span></button>'
    )
    return (
        f'<header class="sw-header"><h1>{escape(texts.TITLE)}</h1>'
        f'<nav aria-label="{escape(texts.PAGES)}">{ways}</nav>{present}{_invitation(address)}</header>'
    )


def _invitation(address: str) -> str:
    """What the audience needs: the address of this page, as letters and as a code for their phones."""
    try:
        parts = urlsplit(address)
        host = parts.hostname or ""
    except ValueError:
        return ""
    if parts.scheme not in ("http", "https") or not host:
        return ""
    url = f"{parts.scheme}://{parts.netloc}{parts.path}"
    code = segno.make(url, error="m").svg_inline(border=2, dark="#16181a", light="#ffffff", omitsize=True)
    warning = f'<p class="sw-quiet">{escape(texts.ONLY_HERE)}</p>' if _only_here(host) else ""
    return (
        f'<aside class="sw-invitation" aria-label="{escape(texts.JOIN)}">'
        f'<div role="img" aria-label="{escape(texts.QR_LABEL)}">{code}</div>'
        f"<div><p>{escape(texts.JOIN)}</p><p><strong>{escape(url)}</strong></p>{warning}</div></aside>"
    )


def _only_here(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
