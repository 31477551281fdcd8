"""A figure on the page: what it says, the picture, its n, the figures as a table, and downloads."""

import base64
import csv
import io
from html import escape

from ui.board import texts
from ui.board.figures import Cell, Figure
from ui.board.palette import FILE, PAGE, Palette
from ui.board.svg import document
from ui.numbers import MINUS, counted


def figure_html(figure: Figure) -> str:
    """One card of the board."""
    head = f"<h3>{escape(figure.title)}</h3><p class='bd-finding'>{escape(figure.finding)}</p>"
    if figure.draw is None:
        return f'<section class="bd-card" data-figure="{figure.name}">{head}</section>'
    count = escape(f"n = {counted(figure.n, figure.unit)}")
    return (
        f'<section class="bd-card" data-figure="{figure.name}">{head}{picture(figure, PAGE)}'
        f'<footer><span class="bd-n">{count}</span>{_downloads(figure)}</footer>{_table(figure)}</section>'
    )


def picture(figure: Figure, palette: Palette) -> str:
    """The figure as SVG; its description is what a reader who cannot see it needs."""
    assert figure.draw is not None, f"{figure.name} has nothing to draw"
    marks, height = figure.draw(palette)
    description = f"{figure.finding} n = {counted(figure.n, figure.unit)}."
    return document(f"bd-{figure.name}", figure.title, description, height, marks, palette)


def csv_text(figure: Figure) -> str:
    """The figure's numbers as comma-separated values, with a header."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(figure.header)
    writer.writerows([_harmless(cell) for cell in row] for row in figure.rows)
    return out.getvalue()


def _harmless(cell: Cell) -> Cell:
    # A spreadsheet runs what begins like a formula; names come from a registry that others may write to.
    return f"'{cell}" if isinstance(cell, str) and cell[:1] in ("=", "+", "-", "@") else cell


def _downloads(figure: Figure) -> str:
    drawing = _data_url("image/svg+xml", picture(figure, FILE))
    table = _data_url("text/csv", csv_text(figure))
    links = (
        _link(figure, "SVG", f'href="{drawing}" download="sawyer-{figure.name}.svg"'),
        # Drawn from the SVG by the browser when it is asked for; see assets/board.js.
        _link(figure, "PNG", f'href="{drawing}" data-png="sawyer-{figure.name}.png"'),
        _link(figure, "CSV", f'href="{table}" download="sawyer-{figure.name}.csv"'),
    )
    return f'<span class="bd-downloads">{"".join(links)}</span>'


def _link(figure: Figure, kind: str, attributes: str) -> str:
    label = escape(texts.DOWNLOAD.format(title=figure.title, kind=kind))
    return f'<a {attributes} aria-label="{label}" title="{label}">{kind}</a>'


def _data_url(kind: str, content: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(content.encode()).decode()}"


def _table(figure: Figure) -> str:
    head = "".join(f'<th scope="col">{escape(name.replace("_", " "))}</th>' for name in figure.header)
    body = "".join(f"<tr>{''.join(f'<td>{_cell(cell)}</td>' for cell in row)}</tr>" for row in figure.rows)
    return (
        f'<details data-keep="{figure.name}"><summary>{escape(texts.AS_TABLE)}</summary>'
        f'<div class="bd-scroll" tabindex="0" role="region" aria-label="{escape(figure.title)}">'
        f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div></details>"
    )


def _cell(cell: Cell) -> str:
    if isinstance(cell, float):
        return f"{cell:.3g}".replace("-", MINUS)
    return "–" if cell is None else escape(str(cell))
