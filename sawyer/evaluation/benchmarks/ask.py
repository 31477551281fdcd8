"""The stages asked every benchmark, each result kept in a file: an interrupted run goes on where it stopped."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from sawyer.errors import UsageError
from sawyer.evaluation.benchmarks.figures import benchmark_figures
from sawyer.evaluation.benchmarks.harness import build_task, check_harness, expand, open_model, run_task
from sawyer.evaluation.examiner import adapter_of
from sawyer.evaluation.replies import digest
from sawyer.evaluation.report import BenchmarkFigures
from sawyer.models import Policy
from sawyer.progress import progress
from sawyer.runs import write_json


@dataclass(frozen=True)
class BenchmarkPlan:
    """Which benchmarks are asked and how: ``limit`` questions of each (None: all), ``fewshot`` examples before each."""

    names: tuple[str, ...]
    limit: int | None = None
    fewshot: int | None = None
    batch_size: int = 8


def ask_benchmarks(
    policy: Policy, stages: Sequence[str], pairs: Sequence[tuple[str, str]], plan: BenchmarkPlan, kept: Path, seed: int
) -> list[BenchmarkFigures]:
    """Ask every benchmark of every stage and compare the pairs (before, after).

    Args:
        kept: JSON file of results; what is there for the same weights, data and settings is not asked again.

    Raises:
        UsageError: the harness is missing or knows no such task. DataError: local data are absent or damaged.
    """
    check_harness()
    names = expand(plan.names)
    tasks = {name: build_task(name) for name in names}
    cache = _kept(kept)
    found: dict[str, dict[str, np.ndarray]] = {name: {} for name in names}
    metrics: dict[str, str] = {}
    with progress("benchmarks", len(names) * len(stages)) as tick:
        for stage in stages:
            who, model = digest(policy, adapter_of(stage)), None
            for name, task in tasks.items():
                key = _key(who, name, task, plan, seed)
                if key not in cache:
                    model = model or open_model(policy, adapter_of(stage), plan.batch_size)
                    with policy.using(adapter_of(stage)):
                        values, metric = run_task(model, task, limit=plan.limit, fewshot=plan.fewshot, seed=seed)
                    cache[key] = {"task": name, "stage": stage, "metric": metric, "values": values.tolist()}
                    write_json(kept, cache)
                found[name][stage] = np.array(cache[key]["values"], dtype=np.float64)
                metrics[name] = cache[key]["metric"]
                tick(sum(map(len, found.values())), stage=stage)
    return benchmark_figures(found, metrics, pairs, seed)


def _kept(file: Path) -> dict[str, Any]:
    """The results kept so far. UsageError: the file cannot be used."""
    try:
        return json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    except (OSError, ValueError) as error:
        raise UsageError(f"The kept results {file} cannot be used: {error}. Remove the file and try again.") from error


def _key(who: str, name: str, task: Any, plan: BenchmarkPlan, seed: int) -> str:
    docs = hashlib.sha256(repr(list(task.eval_docs)[: plan.limit]).encode()).hexdigest()
    asked = [who, name, plan.limit, plan.fewshot, seed, version("lm_eval"), docs]
    return hashlib.sha256(json.dumps(asked).encode()).hexdigest()[:32]
