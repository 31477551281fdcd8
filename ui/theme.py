"""Colours and type of Gradio's own widgets; the page's own parts are styled in ``assets``."""

from pathlib import Path

import gradio as gr
from gradio.themes.utils import colors

ASSETS = Path(__file__).with_name("assets")

# System fonts only: the page must look right without any network.
SANS = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "Noto Sans", "sans-serif")
MONO = ("ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "monospace")


def theme() -> gr.themes.Base:
    """Warm paper, dark ink, one green; the same values as the custom properties of ``frame.css``."""
    base = gr.themes.Base(
        primary_hue=colors.emerald,
        neutral_hue=colors.stone,
        radius_size=gr.themes.sizes.radius_lg,
        font=[gr.themes.Font(name) for name in SANS],
        font_mono=[gr.themes.Font(name) for name in MONO],
    )
    return base.set(
        body_background_fill="#f7f5f1",
        body_background_fill_dark="#16181a",
        body_text_color="#24282c",
        body_text_color_dark="#e8e6e1",
        block_background_fill="#ffffff",
        block_background_fill_dark="#1e2123",
        block_border_color="#e4dfd6",
        block_border_color_dark="#33373a",
        block_label_text_color="#6a6f73",
        body_text_color_subdued="#62676b",
        body_text_color_subdued_dark="#a3a8ab",
        block_info_text_color="#62676b",
        block_info_text_color_dark="#a3a8ab",
        block_title_text_weight="500",
        input_background_fill="#ffffff",
        input_background_fill_dark="#1e2123",
        input_border_width="1px",
        input_border_color="#d8d2c6",
        input_border_color_dark="#3b4044",
        input_border_color_focus="#2c6e5d",
        input_border_color_focus_dark="#78c2ac",
        input_placeholder_color="#7b7f82",
        input_placeholder_color_dark="#8f9498",
        button_primary_background_fill="#2c6e5d",
        button_primary_background_fill_hover="#235a4c",
        button_primary_background_fill_dark="#2f7c68",
        button_primary_background_fill_hover_dark="#38896f",
        button_primary_border_color="#2c6e5d",
        button_primary_border_color_dark="#2f7c68",
        button_primary_border_color_hover="#235a4c",
        button_primary_border_color_hover_dark="#38896f",
        button_primary_text_color="#ffffff",
        button_primary_text_color_dark="#ffffff",
        button_secondary_background_fill="#ffffff",
        button_secondary_background_fill_hover="#eef4f1",
        button_secondary_background_fill_dark="#24282b",
        button_secondary_background_fill_hover_dark="#2c3235",
        button_secondary_border_color="#d8d2c6",
        button_secondary_border_color_dark="#3b4044",
        button_secondary_text_color="#24282c",
        button_secondary_text_color_dark="#e8e6e1",
        button_border_width="1px",
        slider_color="#2c6e5d",
        slider_color_dark="#78c2ac",
    )


STYLE_SHEETS = ("frame.css", "talk.css", "board.css", "review.css")


def css() -> str:
    """The style sheet of the pages' own parts: the frame that all share, then each subject."""
    return "\n".join((ASSETS / name).read_text(encoding="utf-8") for name in STYLE_SHEETS)


def javascript(name: str) -> str:
    """A script of ``assets``, which Gradio runs once for the HTML part it is given to."""
    return (ASSETS / name).read_text(encoding="utf-8")
