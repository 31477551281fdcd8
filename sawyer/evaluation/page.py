"""``report.html``: one file with everything inside, for screen, phone and paper, in light and dark.

Jinja escapes whatever is put in: prompts and replies are text that others wrote.
"""

import base64
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sawyer.evaluation import wording
from sawyer.evaluation.canvas import Plot
from sawyer.evaluation.report import Report
from sawyer.evaluation.samples import explain_rule

TEMPLATE = Path(__file__).with_name("page.html.jinja")
KINDS = {
    "best": "Best: the largest rises",
    "worst": "Worst: the largest falls",
    "random": "Drawn at random",
}
KINDS_ALONE = {"best": "Best", "worst": "Worst", "random": "Drawn at random"}


def render_page(report: Report, plots: Mapping[str, Plot]) -> str:
    """The page's HTML.

    Args:
        plots: as ``plots.draw_all`` makes them.
    """
    # Imported here: jinja2 comes with torch, and the modules above are read without either.
    from jinja2 import Environment, StrictUndefined

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(TEMPLATE.read_text(encoding="utf-8"))
    stages = [stage.stage for stage in report.stages]
    return template.render(
        report=report,
        wording=wording,
        plots=[(_data_uri(plot.light), _data_uri(plot.dark), plot.alt) for plot in plots.values()],
        rule=explain_rule(stages, [sample.kind for sample in report.samples], report.sampling.seed),
        groups=_groups(report),
        colors={stage: f"s{index % 6}" for index, stage in enumerate(stages)},
    )


def _groups(report: Report) -> list[tuple[str, list[Any]]]:
    titles = KINDS if len(report.stages) > 1 else KINDS_ALONE
    grouped = [(title, [s for s in report.samples if s.kind == kind]) for kind, title in titles.items()]
    return [(title, samples) for title, samples in grouped if samples]


def _data_uri(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"
