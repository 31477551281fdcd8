"""Buttons inside the page's own HTML. ``assets/buttons.js`` hands a press to Python with the button's data."""

from collections.abc import Mapping
from html import escape

from ui.icons import icon

ACT = "act"
STREAM = "stream"


def button(
    label: str,
    do: str,
    *,
    data: Mapping[str, str | int] | None = None,
    key: str = "",
    picture: str = "",
    kind: str = "",
    hidden_label: bool = False,
    pressed: bool | None = None,
    disabled: bool = False,
    streams: bool = False,
) -> str:
    """A button as HTML; every text in it is escaped.

    Args:
        do: what to do, for Python. data: more for Python, by name.
        key: the keyboard key that presses it, shown on it where there is a keyboard.
        picture: an icon before the label. hidden_label: the label is for tooltips and screen readers alone.
        kind: more CSS classes. pressed: the state of a button that is on or off.
        streams: answers come in bit by bit, so the press takes Gradio's queue.
    """
    given = {"do": do, "via": STREAM if streams else ACT, **(data or {}), **({"key": key} if key else {})}
    attributes = "".join(f' data-{name}="{escape(str(value))}"' for name, value in given.items())
    if pressed is not None:
        attributes += f' aria-pressed="{str(pressed).lower()}"'
    if hidden_label:
        attributes += f' aria-label="{escape(label)}" title="{escape(label)}"'
    if key:
        attributes += f' aria-keyshortcuts="{escape(key)}"'
    shown = "" if hidden_label else f"<span>{escape(label)}</span>"
    cap = f"<kbd>{escape(key.upper())}</kbd>" if key and not hidden_label else ""
    return (
        f'<button type="button" class="sw-button {kind}"{attributes}{" disabled" if disabled else ""}>'
        f"{icon(picture) if picture else ''}{shown}{cap}</button>"
    )
