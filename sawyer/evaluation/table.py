"""The report on the terminal."""

from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from sawyer.evaluation.report import Report
from sawyer.evaluation.wording import (
    GAIN_LINES,
    PAIR_LINES,
    STAGE_LINES,
    Figures,
    Line,
    asked,
    benchmark_lines,
    headline,
    limit,
    llm_sentence,
    measured,
    part_lines,
    warnings,
    win_rate_rows,
)


def print_report(report: Report, console: Console | None = None) -> None:
    """Print stages, comparisons, the acceptance line and the headline. Markup in names is shown, not obeyed."""
    console = console or Console()
    console.print(Text(f"Evaluation of {report.recipe}", style="bold"))
    console.print(Text(asked(report), style="dim"))
    console.print(_table("Stages", [stage.stage for stage in report.stages], STAGE_LINES, report.stages))
    if report.pairs:
        names = [f"{pair.before} → {pair.after}" for pair in report.pairs]
        console.print(_table("On the same prompts", names, PAIR_LINES, report.pairs))
    if report.judge and report.judge.gains:
        names = [f"{gain.before} → {gain.after}" for gain in report.judge.gains]
        console.print(_table(f"Beside {report.judge.name}", names, GAIN_LINES, report.judge.gains))
    if report.parts:
        table = _framed("Parts and other scores", [stage.stage for stage in report.stages])
        for name, _, cells in part_lines(report):
            table.add_row(name, *map(Text, cells))
        console.print(table)
    if report.win_rates:
        table = _framed("Who prefers the later stage", [f"{pair.before} → {pair.after}" for pair in report.pairs])
        for name, _, cells in win_rate_rows(report):
            table.add_row(name, *map(Text, cells))
        console.print(table)
    if report.llm_judge:
        console.print(Text(llm_sentence(report), style="dim"))
    if report.benchmarks:
        table = _framed("Benchmarks", [stage.stage for stage in report.stages])
        for name, _, cells in benchmark_lines(report):
            table.add_row(name, *map(Text, cells))
        console.print(table)
    for pair in report.pairs:
        if pair.note:
            console.print(Text(f"Note: {pair.note}", style="yellow"))
    for warning in warnings(report):
        console.print(Text(f"Warning: {warning}", style="red"))
    if report.judge and report.judge.note:
        console.print(Text(f"Note: {report.judge.note}", style="yellow"))
    if report.acceptance:
        table = Table(title="Acceptance", title_justify="left", box=box.SIMPLE_HEAD)
        for heading in ("condition", "measured", "limit", ""):
            table.add_column(heading)
        for criterion in report.acceptance:
            verdict = Text("met", style="green") if criterion.met else Text("not met", style="red")
            table.add_row(criterion.name, measured(criterion), limit(criterion), verdict)
        console.print(table)
    if headline(report):
        console.print(Text(headline(report), style="bold"))


def _table(title: str, names: Sequence[str], lines: Sequence[Line[Figures]], parts: Sequence[Figures]) -> Table:
    table = _framed(title, names)
    for line in lines:
        table.add_row(line.name, *(Text(line.write(part)) for part in parts))
    return table


def _framed(title: str, names: Sequence[str]) -> Table:
    # Without side borders three stages with their intervals fit into 80 columns.
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("")
    for name in names:
        table.add_column(Text(name), justify="right")
    return table
