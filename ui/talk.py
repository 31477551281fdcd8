"""One talking page, put together: head, widgets, events."""

import gradio as gr

from ui.handlers import Handlers
from ui.layout import lay_out
from ui.mode import Mode
from ui.nav import add_header
from ui.wiring import Wiring


def add_talk(page: gr.Blocks, handlers: Handlers, mode: Mode) -> None:
    """Everything of the page for ``mode``; called inside the page's context."""
    add_header(page, mode.path)
    Wiring(lay_out(mode), handlers, mode).attach(page)
