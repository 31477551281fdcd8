"""Diagnosis of a PPO run from its own records: what the watch sees at the end of the metrics.

Works on running, stopped and finished runs alike; nothing is loaded but JSON lines and the recipe.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sawyer.errors import UsageError
from sawyer.home import Home
from sawyer.recipe import load_recipe
from sawyer.runs import MANIFEST, read_lines
from train.ppo.watch import Finding, Row, examine

SHOWN = (
    "objective/score",
    "objective/kl",
    "objective/entropy",
    "rollout/length",
    "rollout/eos_rate",
    "rollout/distinct_2",
    "value/explained_variance",
    "policy/clip_fraction",
    "heldout/score",
    "heldout/guard",
)


@dataclass(frozen=True)
class Diagnosis:
    """A run's state and what is wrong with it; ``figures`` are (key, first, last) of what people look at first."""

    folder: Path
    steps: int
    planned: int
    finished: bool
    findings: list[Finding]
    figures: list[tuple[str, float, float]]


def find_run(name: str, home: Home) -> Path:
    """The folder of a PPO run: given as such, or by the name of its recipe.

    Raises:
        UsageError: there is no such run; those there are, are listed.
    """
    for folder in (Path(name), Path(name) / "ppo", home.runs / name, home.runs / name / "ppo"):
        if (folder / "metrics.jsonl").is_file() and (folder / "recipe.yaml").is_file():
            return folder
    known = sorted(file.parent.parent.name for file in home.runs.glob("*/ppo/metrics.jsonl"))
    raise UsageError(
        f"There is no PPO run {name!r}: give the folder of one (with metrics.jsonl and recipe.yaml) or the name of its "
        f"recipe. Under {home.runs}: {', '.join(known) or 'none yet'}."
    )


def diagnose(folder: Path) -> Diagnosis:
    """Read a run's metrics and say what is wrong at their end.

    Raises:
        UsageError: the run is not one of PPO, or has no metrics yet.
    """
    spec = load_recipe(folder / "recipe.yaml").ppo
    rows = read_lines(folder / "metrics.jsonl")
    trained = [row for row in rows if "objective/score" in row]
    if spec is None or not trained:
        what = "is not of PPO" if spec is None or rows else "has no metrics yet"
        raise UsageError(f"The run {folder} {what}: the doctor reads runs of `sawyer train ppo`.")
    return Diagnosis(
        folder=folder,
        steps=int(rows[-1]["step"]),
        planned=spec.steps,
        finished=(folder / MANIFEST).exists(),
        findings=sorted(examine(rows, spec), key=lambda finding: not finding.stops),  # the gravest first
        figures=[(key, *ends) for key in SHOWN if (ends := _ends(rows, key)) is not None],
    )


def _ends(rows: Sequence[Row], key: str) -> tuple[float, float] | None:
    values = [row[key] for row in rows if key in row]
    return (values[0], values[-1]) if values else None
