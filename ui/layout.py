"""The widgets of a talking page, top to bottom. What they show comes from ``screen``, what they do from ``wiring``."""

from collections.abc import Callable
from typing import Any

import gradio as gr

from ui import history, texts
from ui.chat import Chat
from ui.connection import Connection
from ui.mode import Mode
from ui.screen import RETRY_SECONDS, SLOTS, Scene, Screen, screen
from ui.theme import javascript
from ui.visitor import Visitor

Widgets = dict[str, Any]
Make = Callable[..., Any]


def lay_out(mode: Mode) -> Widgets:
    """Every widget of the page by name, as before anybody came."""
    made: Widgets = {
        "chat": gr.State(Chat()),
        "connection": gr.State(Connection()),
        # Scrambled with a key; it holds no secret, and with a random one every start of the server would forget it.
        "visitor": gr.BrowserState({}, storage_key="sawyer-visitor", secret="sawyer"),
    }
    initial: Screen = screen(Scene(Chat(), Connection(), Visitor(seen_hint=True), mode))

    def make(kind: Callable[..., Any], name: str, **properties: Any) -> Any:
        made[name] = kind(**(properties | initial.get(name, {})))
        return made[name]

    def html(name: str, script: str = "buttons.js", **properties: Any) -> None:
        make(gr.HTML, name, apply_default_css=False, js_on_load=javascript(script), **properties)

    html("chats", "memory.js", value=[], html_template="", visible="hidden", memory=history.MEMORY, most=history.KEPT)
    make(gr.Timer, "retry", value=RETRY_SECONDS)
    make(gr.Textbox, "where", visible=False)
    make(gr.Textbox, "tab", visible=False)
    with gr.Row(elem_id="sw-top"):
        html("tagline", elem_id="sw-tagline")
        html("past", elem_id="sw-past")
        html("share", "share.js", elem_id="sw-share")
        make(gr.Button, "new_chat", value=texts.NEW_CHAT, size="sm", elem_id="sw-new")
    html("hint")
    html("transcript", "transcript.js")
    with gr.Row(elem_id="sw-panes"):
        for slot in range(SLOTS):
            html(f"pane_{slot}", elem_id=f"sw-slot-{slot}")
    html("verdicts", "verdicts.js", elem_id="sw-verdicts")
    _words(make, html)
    _composer(make, html, mode)
    _settings(make, mode)
    return made


def _words(make: Make, html: Make) -> None:
    """Where people write about answers: their own version of one, a comment on their vote."""
    with make(gr.Column, "editor", elem_id="sw-editor"):
        html("edit_label")
        make(gr.Textbox, "edit_box", label=texts.EDIT_BOX, lines=4, max_lines=16, value="", autofocus=True)
        with gr.Row(elem_classes="sw-editor-buttons"):
            make(gr.Button, "edit_save", value=texts.SAVE, variant="primary", size="md")
            make(gr.Button, "edit_cancel", value=texts.CANCEL, size="md")
    with make(gr.Row, "comments", elem_id="sw-comments"):
        make(
            gr.Textbox,
            "comment",
            label=texts.COMMENT,
            show_label=False,
            container=False,
            placeholder=texts.COMMENT_PLACEHOLDER,
            lines=1,
            max_lines=3,
            value="",
        )
        make(gr.Button, "comment_send", value=texts.SEND, size="md")
        html("comment_saved")


def _composer(make: Make, html: Make, mode: Mode) -> None:
    with gr.Column(elem_id="sw-composer"):
        html("examples")
        html("revising")
        html("notice")
        with gr.Row(elem_id="sw-line"):
            make(
                gr.Textbox,
                "box",
                value="",
                elem_id="sw-box",
                label=texts.BOX_LABEL,
                show_label=False,
                container=False,
                placeholder=mode.placeholder,
                lines=1,
                max_lines=8,
                autofocus=True,
            )
            make(gr.Button, "ask", variant="primary")
            make(gr.Button, "stop", value=texts.STOP)
    with gr.Row(elem_id="sw-voter"):
        make(gr.Checkbox, "consent", label=texts.CONSENT, value=True, container=False)
        make(
            gr.Textbox,
            "name",
            label=texts.NAME,
            show_label=False,
            container=False,
            placeholder=texts.NAME,
            lines=1,
            max_lines=1,
            max_length=64,
            value="",
        )


def _settings(make: Make, mode: Mode) -> None:
    def slider(name: str, label: str, info: str, **scale: float) -> None:
        # Gradio's reset button would go back to this page's first values, not to the server's.
        make(gr.Slider, name, label=label, info=info, buttons=[], **scale)

    with gr.Accordion(texts.SETTINGS, open=False, elem_id="sw-settings"):
        make(
            gr.Dropdown,
            "wanted",
            label=texts.WANTED,
            info=texts.WANTED_INFO,
            choices=[],
            value=[],
            multiselect=True,
            max_choices=SLOTS,
            visible=not mode.blind,
        )
        with gr.Row():
            slider("max_tokens", texts.MAX_TOKENS, texts.MAX_TOKENS_INFO, minimum=1, maximum=512, step=1, value=96)
            slider("temperature", texts.TEMPERATURE, texts.TEMPERATURE_INFO, minimum=0, maximum=2, step=0.05, value=0.7)
            slider("top_p", texts.TOP_P, texts.TOP_P_INFO, minimum=0.05, maximum=1, step=0.05, value=0.95)
            make(gr.Number, "seed", label=texts.SEED, info=texts.SEED_INFO, precision=0, value=None)
        make(
            gr.Textbox,
            "system",
            label=texts.SYSTEM_PROMPT,
            info=texts.SYSTEM_PROMPT_INFO,
            lines=2,
            value="",
            visible=not mode.single,
        )
