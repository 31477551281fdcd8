"""What every plot is drawn on: the dress of light and dark pages, figures without global state, PNG and SVG."""

import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

# Okabe and Ito's palette, told apart by colour-blind readers too: base grey, then blue, vermilion, green, purple.
COLORS = ("#8a8a8a", "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00")
DARK_COLORS = ("#a3a3a3", "#56b4e9", "#f0803c", "#2fc295", "#dd9cc0", "#f0b840")


@dataclass(frozen=True)
class Dress:
    """Colours of a plot's paper and ink."""

    paper: str
    ink: str
    grid: str
    colors: tuple[str, ...]


LIGHT = Dress("#ffffff", "#1c1e21", "#d9dce0", COLORS)
DARK = Dress("#1b1d21", "#e4e6ea", "#3a3e45", DARK_COLORS)


@dataclass(frozen=True)
class Plot:
    """A plot as files: PNG for light and for dark pages, and SVG in the light dress; what it shows, in words."""

    light: bytes
    dark: bytes
    svg: bytes
    alt: str


def drawn(draw: Callable[[Dress], Any], alt: str) -> Plot:
    """Draw a figure in both dresses."""
    light = draw(LIGHT)
    return Plot(png(light), png(draw(DARK)), svg(light), alt)


def new_figure(size: tuple[float, float], dress: Dress, rows: int = 1) -> tuple[Any, Any]:
    """A figure in its dress and its axes: one, or an array of ``rows`` that share their x axis."""
    # Imported here: matplotlib takes a second. A Figure without pyplot keeps no global state and needs no display.
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, layout="constrained", facecolor=dress.paper)
    axes = figure.subplots(rows, 1, sharex=True)
    for one in np.atleast_1d(axes):
        one.set_facecolor(dress.paper)
        one.set_axisbelow(True)
        one.tick_params(colors=dress.ink, labelsize=10)
        for label in (one.xaxis.label, one.yaxis.label):
            label.set(color=dress.ink, fontsize=10)
        for side, spine in one.spines.items():
            spine.set(color=dress.grid, visible=side in ("left", "bottom"))
    return figure, axes


def png(figure: Any) -> bytes:
    """The figure as a PNG file."""
    stream = io.BytesIO()
    # No creation date or library version inside: equal reports give equal files.
    figure.savefig(stream, format="png", dpi=160, facecolor=figure.get_facecolor(), metadata={"Software": None})
    return stream.getvalue()


def svg(figure: Any) -> bytes:
    """The figure as an SVG file, text as text."""
    from matplotlib import rc_context

    stream = io.BytesIO()
    # The salt makes the names inside the same every time, as for the PNG.
    with rc_context({"svg.hashsalt": "sawyer", "svg.fonttype": "none"}):
        figure.savefig(stream, format="svg", facecolor=figure.get_facecolor(), metadata={"Date": None, "Creator": None})
    return stream.getvalue()
