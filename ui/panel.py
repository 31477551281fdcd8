"""A page that is one piece of HTML: what its script reports is an act, the answer is the HTML drawn anew.

The script (``assets/panel.js``) sends one act at a time and waits for its answer, so that quick keys are neither lost
nor overtake each other; it looks for news by itself only while the page is in front of somebody.
"""

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import gradio as gr
from pydantic import TypeAdapter

from ui.theme import ASSETS
from ui.wiring import AT_ONCE, address

State = TypeVar("State")


def attach_panel(
    initial: State,
    *,
    name: str,
    draw: Callable[[State], str],
    acts: TypeAdapter[Any],
    act: Callable[[State, Any, str | None], Awaitable[State]],
) -> None:
    """Put the panel on the page being built.

    Args:
        initial: the state of every new visitor.
        name: id of the element, and of the script in ``assets/`` that is run after the panel's own.
        draw: state to HTML.
        acts: what the script may report.
        act: (state, act, the visitor's address) to the state after it; the same value where nothing changed.
    """
    state = gr.State(initial)
    panel = gr.HTML(draw(initial), elem_id=name, apply_default_css=False, js_on_load=_script(name))

    async def react(request: gr.Request, event: gr.EventData, *, before: State) -> Any:
        after = await act(before, acts.validate_python(event._data), address(request))
        # Said even then: a handler that returns nothing at all would leave its outputs to be reset.
        return gr.skip() if after == before else {state: after, panel: draw(after)}

    answered = panel.act(react, inputs_kwargs={"before": state}, outputs=[state, panel], **AT_ONCE)
    told = f"() => window.dispatchEvent(new CustomEvent('sw-answered', {{detail: '{name}'}}))"
    answered.then(fn=None, js=told, inputs=None, outputs=None, api_visibility="private")


def _script(name: str) -> str:
    own = "\n".join((ASSETS / f"{each}.js").read_text(encoding="utf-8") for each in ("panel", name))
    return f'const panel = "{name}";\n{own}'
