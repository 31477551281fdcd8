"""Reports of several runs side by side: how the figures moved over time, and which of them may be compared at all."""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
from pydantic import ValidationError
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from sawyer.errors import UsageError
from sawyer.evaluation import stats
from sawyer.evaluation.acceptance import deciding_pair
from sawyer.evaluation.report import Report
from sawyer.evaluation.wording import number, probability, ranged, warnings

FIXED = {
    "the prompts": lambda report: report.prompts.sha256,
    "the sampling": lambda report: report.sampling,
    "the reward model": lambda report: report.reward_model,
    "the backbone": lambda report: report.fingerprint,
}


def read_report(run: Path) -> Report:
    """The report of a run: its folder, or the ``report.json`` itself.

    Raises:
        UsageError: there is none, or another version of SAWYER wrote it.
    """
    file = run / "report.json" if run.is_dir() else run
    if not file.exists() and (run / "evaluate" / "report.json").exists():
        file = run / "evaluate" / "report.json"
    try:
        return Report.model_validate_json(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(
            f"There is no report in {run}: {error.strerror or error}. Name folders of `sawyer evaluate`, such as "
            ".sawyer/runs/nano/evaluate."
        ) from error
    except ValidationError as error:
        raise UsageError(
            f"{file} is no report of this version of SAWYER ({error.error_count()} fields do not fit, such as "
            f"{'.'.join(map(str, error.errors()[0]['loc']))}). Evaluate that run again."
        ) from error


def differing(reports: Sequence[Report]) -> list[str]:
    """What is not the same in all reports and forbids comparing rewards: the prompts, the sampling, …"""
    return [name for name, of in FIXED.items() if any(of(report) != of(reports[0]) for report in reports[1:])]


def changes(reports: Sequence[Report]) -> list[tuple[str, str]]:
    """Paired tests of each stage between neighbouring runs, in words; none where prompts, sampling or reward differ."""
    if {"the prompts", "the sampling", "the reward model"} & set(differing(reports)):
        return []
    found = []
    for number_, (before, after) in enumerate(pairwise(reports), 1):
        earlier = {stage.stage: stage for stage in before.stages}
        for stage in after.stages:
            if stage.stage in earlier:
                tests = stats.compare(np.array(earlier[stage.stage].rewards), np.array(stage.rewards))
                told = f"{number(tests.difference.value, sign=True)}, paired t-test p {probability(tests.t_p)}"
                found.append((f"{stage.stage}, run {number_} → {number_ + 1}", told if tests.t_p else f"{told} (same)"))
    return found


def print_comparison(reports: Sequence[Report], console: Console | None = None) -> None:
    """The runs as columns, and below them what moved."""
    console = console or Console()
    table = Table(title="Runs", title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("")
    for place, report in enumerate(reports, 1):
        table.add_column(Text(f"{place}: {report.recipe}"), justify="right")
    for label, cells in _rows(reports):
        table.add_row(label, *map(Text, cells))
    console.print(table)
    for label, told in changes(reports):
        console.print(Text(f"{label}: {told}"))
    if parted := differing(reports):
        console.print(
            Text(f"Not the same in all runs: {', '.join(parted)}. Rewards are compared with care.", style="yellow")
        )


def _rows(reports: Sequence[Report]) -> list[tuple[str, list[str]]]:
    stages = list(dict.fromkeys(stage.stage for report in reports for stage in report.stages))
    rows = [("made", [report.created[:16].replace("T", " ") for report in reports])]
    for name in stages:
        found = [next((stage for stage in report.stages if stage.stage == name), None) for report in reports]
        rows.append((f"{name}, version", [stage.version if stage else "–" for stage in found]))
        rows.append((f"{name}, mean reward", [ranged(stage.mean) if stage else "–" for stage in found]))
    decided = [deciding_pair(report.pairs, [stage.stage for stage in report.stages]) for report in reports]
    rows.append(("gain of the last rlf", [ranged(pair.difference, sign=True) if pair else "–" for pair in decided]))
    rows.append(("… paired t-test p", [probability(pair.t_p) if pair else "–" for pair in decided]))
    rows.append(("… KL, nats", [number(pair.kl.k1.value) if pair and pair.kl else "–" for pair in decided]))
    rows.append(("… length ratio", [number(pair.length_ratio) if pair else "–" for pair in decided]))
    rows.append(("accepted", ["–" if r.accepted is None else "yes" if r.accepted else "no" for r in reports]))
    rows.append(
        ("the judge parts", ["yes" if warnings(r) else "no" if r.judge and r.judge.gains else "–" for r in reports])
    )
    names = dict.fromkeys(one.name for report in reports for one in report.benchmarks)
    for name in names:
        scores = [next((one.scores for one in report.benchmarks if one.name == name), {}) for report in reports]
        rows.append(
            (f"{name}, last stage", [number(list(one.values())[-1].value, 3) if one else "–" for one in scores])
        )
    return rows
