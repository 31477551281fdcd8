"""The page: which widgets there are. What they show comes from ``screen``, what they do from ``wiring``."""

from collections.abc import Callable
from html import escape
from typing import Any

import gradio as gr
import httpx

from ui import texts
from ui.board.page import attach_board
from ui.chat import Chat
from ui.client import ApiClient
from ui.connection import Connection
from ui.endpoints import Endpoints
from ui.handlers import Handlers
from ui.review.page import attach_review
from ui.screen import EXAMPLE_SLOTS, RETRY_SECONDS, SLOTS, Screen, screen
from ui.theme import javascript
from ui.wiring import Widgets, Wiring


def build_ui(api_url: str, transport: httpx.AsyncBaseTransport | None = None, api_key: str | None = None) -> gr.Blocks:
    """The compare page on the API at ``api_url``; nothing is asked of the API before a browser opens the page.

    ``transport`` replaces the network between page and API, ``api_key`` is the page's own. Theme and style sheet belong
    to Gradio's mount, see ``ui.app``.
    """
    client = ApiClient(api_url, transport, api_key)
    handlers = Handlers(client)
    with gr.Blocks(title=texts.TITLE, analytics_enabled=False) as page:
        widgets = _layout(screen(Chat(), Connection()))
        Wiring(widgets, handlers).attach(page)
        Endpoints(client).attach()
    with page.route("Board", "/board"):
        attach_board(client)
    with page.route("Review", "/review"):
        attach_review(api_url, transport)
    # Every visitor streams at once; how many the engine bears is the server's own limit.
    page.queue(default_concurrency_limit=None, api_open=False)
    return page


def _layout(initial: Screen) -> Widgets:
    """Everything on the page, top to bottom."""
    made: Widgets = {"chat": gr.State(Chat()), "connection": gr.State(Connection())}

    def make(kind: Callable[..., Any], name: str, **properties: Any) -> Any:
        made[name] = kind(**(properties | initial.get(name, {})))
        return made[name]

    make(gr.Timer, "retry", value=RETRY_SECONDS)
    with gr.Row(elem_id="sw-top"):
        gr.HTML(_title(), apply_default_css=False)
        make(gr.Button, "new_chat", value=texts.NEW_CHAT, size="sm", elem_id="sw-new")
    make(gr.HTML, "transcript", apply_default_css=False, js_on_load=javascript())
    with gr.Row(elem_id="sw-panes"):
        for slot in range(SLOTS):
            with make(gr.Column, f"pane_{slot}", elem_classes="sw-slot"):
                make(gr.HTML, f"reply_{slot}", apply_default_css=False)
                make(gr.Button, f"pick_{slot}", size="md", elem_classes="sw-pick")
    with make(gr.Row, "verdicts", elem_id="sw-verdicts"):
        make(gr.HTML, "status", apply_default_css=False)
        make(gr.Button, "tie", size="md")
        make(gr.Button, "bad", size="md")
    _composer(make)
    _settings(make)
    return made


def _composer(make: Callable[..., Any]) -> None:
    with gr.Column(elem_id="sw-composer"):
        with make(gr.Row, "examples", elem_id="sw-examples"):
            gr.HTML(f'<span class="sw-try">{escape(texts.EXAMPLES_LABEL)}</span>', apply_default_css=False)
            for slot in range(EXAMPLE_SLOTS):
                make(gr.Button, f"example_{slot}", size="sm")
        make(gr.HTML, "notice", apply_default_css=False)
        with gr.Row(elem_id="sw-line"):
            make(
                gr.Textbox,
                "box",
                value="",
                elem_id="sw-box",
                label=texts.BOX_LABEL,
                show_label=False,
                container=False,
                placeholder=texts.PLACEHOLDER,
                lines=1,
                max_lines=8,
                autofocus=True,
            )
            make(gr.Button, "ask", value=texts.ASK, variant="primary")
            make(gr.Button, "stop", value=texts.STOP)


def _settings(make: Callable[..., Any]) -> None:
    def slider(name: str, label: str, info: str, **scale: float) -> None:
        # Gradio's reset button would go back to this page's first values, not to the server's.
        make(gr.Slider, name, label=label, info=info, buttons=[], **scale)

    with gr.Accordion(texts.SETTINGS, open=False, elem_id="sw-settings"):
        with gr.Row():
            slider(
                "max_tokens",
                texts.MAX_TOKENS,
                texts.MAX_TOKENS_INFO,
                minimum=1,
                maximum=512,
                step=1,
                value=96,
            )
            slider(
                "temperature",
                texts.TEMPERATURE,
                texts.TEMPERATURE_INFO,
                minimum=0,
                maximum=2,
                step=0.05,
                value=0.7,
            )
            slider("top_p", texts.TOP_P, texts.TOP_P_INFO, minimum=0.05, maximum=1, step=0.05, value=0.95)
            make(gr.Number, "seed", label=texts.SEED, info=texts.SEED_INFO, precision=0, value=None)
        make(gr.Textbox, "system", label=texts.SYSTEM_PROMPT, info=texts.SYSTEM_PROMPT_INFO, lines=2, value="")


def _title() -> str:
    return f'<div class="sw-title"><h1>{escape(texts.TITLE)}</h1><p>{escape(texts.TAGLINE)}</p></div>'
