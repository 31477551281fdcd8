"""Scalable vector graphics from plain functions: marks as strings, a scale, and the document around them."""

import math
from dataclasses import dataclass
from html import escape
from typing import Literal

from ui.board.palette import Palette

FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Noto Sans', sans-serif"
WIDTH = 440
"""Width of every plot in its own units; the page scales it to the room there is."""


@dataclass(frozen=True)
class Scale:
    """From values to places on the picture, straight."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        span = (self.high - self.low) or 1.0
        return self.start + (min(max(value, self.low), self.high) - self.low) / span * (self.end - self.start)


def text(
    x: float,
    y: float,
    content: str,
    colour: str,
    *,
    size: float = 15,
    anchor: Literal["start", "middle", "end"] = "start",
    bold: bool = False,
) -> str:
    weight = ' font-weight="650"' if bold else ""
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" fill="{colour}" font-size="{size:g}" text-anchor="{anchor}"{weight}>'
        f"{escape(content)}</text>"
    )


def line(x1: float, y1: float, x2: float, y2: float, colour: str, *, width: float = 1, dashed: bool = False) -> str:
    dash = ' stroke-dasharray="5 4"' if dashed else ""
    return (
        f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}" stroke-width="{width:g}"'
        f' stroke-linecap="round"{dash}/>'
    )


def rect(
    x: float, y: float, width: float, height: float, colour: str, *, round_by: float = 0, opacity: float = 1
) -> str:
    sheer = "" if opacity == 1 else f' fill-opacity="{opacity:.2f}"'
    return (
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{max(width, 0):.1f}" height="{max(height, 0):.1f}" rx="{round_by:g}"'
        f' fill="{colour}"{sheer}/>'
    )


def circle(x: float, y: float, radius: float, fill: str, stroke: str) -> str:
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius:g}" fill="{fill}" stroke="{stroke}" stroke-width="3"/>'


def hint(marks: str, words: str) -> str:
    """``marks`` with words that a mouse resting on them brings up."""
    return f"<g><title>{escape(words)}</title>{marks}</g>"


def document(name: str, title: str, description: str, height: float, marks: str, palette: Palette) -> str:
    """The whole picture. ``name`` is unique on the page; title and description are for those who cannot see it."""
    ground = rect(0, 0, WIDTH, height, palette.background) if palette.background else ""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:.0f}" width="{WIDTH}"'
        f' height="{height:.0f}" role="img" aria-labelledby="{name}-title {name}-desc" font-family="{FONT}">'
        f'<title id="{name}-title">{escape(title)}</title><desc id="{name}-desc">{escape(description)}</desc>'
        f"{ground}{marks}</svg>"
    )


def steps(low: float, high: float, about: int = 5) -> list[float]:
    """Round values between ``low`` and ``high``, about so many, for an axis."""
    if high <= low:
        return [low]
    rough = (high - low) / about
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [round(number * step, 10) for number in range(first, math.floor(high / step + 1e-9) + 1)]
