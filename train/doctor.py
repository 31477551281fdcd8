"""Diagnosis of a run of PPO, GRPO or RLOO from its own records: what the watch sees at the end of the metrics.

Works on running, stopped and finished runs alike; nothing is loaded but JSON lines and the recipe.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sawyer.errors import UsageError
from sawyer.home import Home
from sawyer.recipe import METHODS, load_recipe, plan_of
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
    """The folder of a run: given as such, by the name of its recipe (PPO's first), or as ``recipe/grpo``.

    Raises:
        UsageError: there is no such run; those there are, are listed.
    """
    for place in (Path(name), home.runs / name):
        for folder in (place, *(place / method for method in ("ppo", *METHODS))):
            if (folder / "metrics.jsonl").is_file() and (folder / "recipe.yaml").is_file():
                return folder
    files = [file for method in ("ppo", *METHODS) for file in home.runs.glob(f"*/{method}/metrics.jsonl")]
    known = sorted(str(file.parent.relative_to(home.runs)).removesuffix("/ppo") for file in files)
    raise UsageError(
        f"There is no run {name!r} of PPO, GRPO or RLOO: give the folder of one (with metrics.jsonl and recipe.yaml) "
        f"or the name of its recipe. Under {home.runs}: {', '.join(known) or 'none yet'}."
    )


def method_of(folder: Path) -> str:
    """What a run was trained by: as its manifest says once it is finished, before that by the folder's name."""
    manifest = folder / MANIFEST
    name = folder.resolve().name
    if manifest.exists():
        name = json.loads(manifest.read_text(encoding="utf-8")).get("step", name)
    # A run that made room for another is kept beside it, with ``.before`` to its name.
    return next((method for method in METHODS if name.removesuffix(".before") == method), "ppo")


def diagnose(folder: Path) -> Diagnosis:
    """Read a run's metrics and say what is wrong at their end, with the keys of the run's own method.

    Raises:
        UsageError: the run is not one of PPO, GRPO or RLOO, or has no metrics yet.
    """
    recipe, method = load_recipe(folder / "recipe.yaml"), method_of(folder)
    rows = read_lines(folder / "metrics.jsonl")
    trained = [row for row in rows if "objective/score" in row]
    if recipe.ppo is None or not trained:
        what = "is not of PPO" if recipe.ppo is None or rows else "has no metrics yet"
        raise UsageError(f"The run {folder} {what}: the doctor reads runs of `sawyer train ppo` (or grpo, rloo).")
    spec = plan_of(method, recipe).ppo if method in METHODS else recipe.ppo
    return Diagnosis(
        folder=folder,
        steps=int(rows[-1]["step"]),
        planned=spec.steps,
        finished=(folder / MANIFEST).exists(),
        findings=sorted(examine(rows, spec, method), key=lambda finding: not finding.stops),  # the gravest first
        figures=[(key, *ends) for key in SHOWN if (ends := _ends(rows, key)) is not None],
    )


def _ends(rows: Sequence[Row], key: str) -> tuple[float, float] | None:
    values = [row[key] for row in rows if key in row]
    return (values[0], values[-1]) if values else None
