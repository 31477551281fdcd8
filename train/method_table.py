"""The table of ``sawyer compare-methods``: its rows as data, on the terminal and as Markdown."""

import re
from collections.abc import Callable, Sequence

from pydantic import BaseModel, ConfigDict, Field
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from sawyer.evaluation.report import Interval, Report


class MethodFigures(BaseModel):
    """What a method's replies to the held-out prompts are like; the reference's own row has no comparison."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    reward: Interval = Field(description="mean reward, 95 % interval")
    win_rate: Interval | None = Field(None, description="prompts won against the reference, ties half; 90 % interval")
    kl: Interval | None = Field(None, description="k1 against the reference, nats a reply; 95 % interval")
    length: float = Field(description="mean tokens of a reply, EOS included")
    eos_rate: float = Field(description="share of replies that ended by themselves")
    repetition: float = Field(description="share of word triples that occurred before in the same reply")


class MethodRow(BaseModel):
    """A method of the comparison; ``error`` says why there are no figures."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    method: str
    version: str | None = Field(None, description="of rlf, not promoted")
    error: str | None = None
    seconds: float | None = Field(None, description="of the training processes, start included, all sittings together")
    cpu_seconds: float | None = Field(None, description="processor time of the last of them, over all cores")
    memory_mib: float | None = Field(None, description="most main memory its process held")
    gpu_mib: float | None = Field(None, description="most GPU memory its process held")
    figures: MethodFigures | None = None


class Comparison(BaseModel):
    """The shape of ``comparison.json``."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    recipe: str
    created: str
    reward_model: str
    prompts: int = Field(description="held-out prompts each answered")
    reference: str = Field(description="what all started from and are compared with")
    rows: list[MethodRow]


def rows_of(trained: Sequence[MethodRow], report: Report, reference: str) -> list[MethodRow]:
    """The reference's row and the methods' with their figures of the report."""
    stages = {stage.stage: stage for stage in report.stages}
    pairs = {pair.after: pair for pair in report.pairs if pair.before == reference}

    def figures(name: str) -> MethodFigures:
        stage, pair = stages[name], pairs.get(name)
        return MethodFigures(
            reward=stage.mean,
            win_rate=pair.win_rate if pair else None,
            kl=pair.kl.k1 if pair and pair.kl else None,
            length=stage.length,
            eos_rate=stage.eos_rate,
            repetition=stage.repetition,
        )

    first = MethodRow(method=reference, version=stages[reference].version, figures=figures(reference))
    made = [row if row.version is None else row.model_copy(update={"figures": figures(row.version)}) for row in trained]
    return [first, *made]


def _figure(write: Callable[[MethodFigures], str]) -> Callable[[MethodRow], str]:
    return lambda row: "–" if row.figures is None else write(row.figures)


def _within(interval: Interval | None, form: str) -> str:
    if interval is None:
        return "–"
    return f"{interval.value:{form}} [{interval.low:{form}}, {interval.high:{form}}]"


def _memory(row: MethodRow) -> str:
    if row.memory_mib is None:
        return "–"
    gpu = "" if row.gpu_mib is None else f" + GPU {row.gpu_mib:,.0f}"
    return f"{row.memory_mib:,.0f}{gpu}"


COLUMNS: tuple[tuple[str, Callable[[MethodRow], str]], ...] = (
    ("method", lambda row: row.method),
    ("version", lambda row: row.version or "failed"),
    ("reward (95 %)", _figure(lambda figures: _within(figures.reward, ".2f"))),
    ("wins (90 %)", _figure(lambda figures: _within(figures.win_rate, ".0%"))),
    ("KL", _figure(lambda figures: _within(figures.kl, ".1f"))),
    ("length", _figure(lambda figures: f"{figures.length:.1f}")),
    ("ended", _figure(lambda figures: f"{figures.eos_rate:.0%}")),
    ("repeats", _figure(lambda figures: f"{figures.repetition:.3f}")),
    ("seconds", lambda row: "–" if row.seconds is None else f"{row.seconds:,.0f}"),
    ("CPU s", lambda row: "–" if row.cpu_seconds is None else f"{row.cpu_seconds:,.0f}"),
    ("memory, MiB", _memory),
)


def to_markdown(comparison: Comparison) -> str:
    """The table with what it shows."""
    lines = [
        f"Methods on {comparison.recipe}: {comparison.prompts} held-out prompts, scored by {comparison.reward_model}, "
        f"compared with {comparison.reference}.",
        "",
        "| " + " | ".join(name for name, _ in COLUMNS) + " |",
        "|---" * len(COLUMNS) + "|",
        *("| " + " | ".join(write(row).replace("|", "\\|") for _, write in COLUMNS) + " |" for row in comparison.rows),
        *(f"\n{row.method} failed: {row.error}" for row in comparison.rows if row.error),
    ]
    return "\n".join(lines) + "\n"


def print_comparison(comparison: Comparison, console: Console | None = None) -> None:
    """The same on the terminal, intervals below their figures. Markup in names is shown, not obeyed."""
    console = console or Console()
    title = (
        f"Methods on {comparison.recipe}: {comparison.prompts} held-out prompts, compared with {comparison.reference}"
    )
    # Narrow, so that all columns fit into 80; the processor's seconds are left to the files.
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, padding=0)
    shown = [(name, write) for name, write in COLUMNS if name not in ("version", "CPU s")]
    for name, _ in shown:
        table.add_column(name.replace(" ", "\n"), justify="left" if name == "method" else "right", no_wrap=True)
    for row in comparison.rows:
        cells = [re.sub(r" \[(.+), (.+)\]", r"\n\1…\2", write(row)) for _, write in shown]
        table.add_row(Text(f"{row.method}\n{row.version or 'failed'}"), *map(Text, cells[1:]))
    console.print(table)
    for row in comparison.rows:
        if row.error:
            console.print(Text(f"{row.method} failed: {row.error}", style="red"))
