"""What a comparison found: where it ran, seconds and memory of each side, their ratios, and all of it as tables."""

import os
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.worker import Worker

TARGETS = {"episodes_per_second_ratio": "at least 4", "memory_ratio": "at most 0.5"}


def summarise(worker: Worker, batch: int) -> dict[str, Any]:
    """Median seconds, where they went, and memory in MiB."""
    seconds = median(step["seconds"] for step in worker.steps)
    imports, peak = worker.loaded["memory"]["now"], worker.steps[-1]["memory"]["peak"]
    return {
        "episodes_per_second": batch / seconds,
        "seconds_a_step": seconds,
        "cpu_seconds_a_step": median(step["cpu_seconds"] for step in worker.steps),
        "first_step_seconds": worker.first["seconds"],
        "phases": phases(worker.steps),
        "work": worker.steps[-1]["counts"],
        "memory_mib": {
            "imports": imports,
            "peak": peak,
            "above_imports": peak - imports,
            "largest_child": worker.steps[-1]["memory"]["largest_child"],
        },
        "versions": worker.loaded["versions"],
    }


def phases(steps: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Median seconds of each phase of a step. Of collecting, what is neither generation nor scoring is measuring."""
    names = sorted(steps[0]["phases"])
    spent = {name: median(step["phases"].get(name, 0.0) for step in steps) for name in names}
    if "collecting" in spent:
        spent["measuring"] = spent.pop("collecting") - spent["generation"] - spent["scoring"]
    spent["rest"] = median(step["seconds"] for step in steps) - sum(spent.values())
    return spent


def check_work(workers: Sequence[Worker], shared: Mapping[str, Any]) -> dict[str, int]:
    """What every measured step of every side did; an error unless it is the work that was asked for."""
    wanted = {
        "response_tokens": shared["batch"] * shared["response_tokens"],
        "scored": shared["batch"],
        "optimizer_steps": shared["epochs"],
    }
    for worker in workers:
        for step in worker.steps:
            if step["counts"] != wanted:
                raise SystemExit(f"{worker.name} did {step['counts']} in a step, not {wanted}: nothing to compare.")
    return wanted


def machine() -> dict[str, Any]:
    """What it ran on, and how busy that was before."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "cpu": _cpu_model(),
        "cores": cores,
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "system": platform.platform(),
        "load_before": os.getloadavg()[0],
    }


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def ratios(result: Mapping[str, Any]) -> dict[str, Any]:
    """Ours divided by theirs; empty where only one side ran."""
    if not ("ours" in result and "trl" in result):
        return {}
    ours, theirs = result["ours"], result["trl"]
    memory = {key: ours["memory_mib"][key] / theirs["memory_mib"][key] for key in ("peak", "above_imports")}
    return {
        "episodes_per_second_ratio": ours["episodes_per_second"] / theirs["episodes_per_second"],
        "memory_ratio": memory["peak"],
        "memory_ratio_above_imports": memory["above_imports"],
        "targets": TARGETS,
    }


def show(result: Mapping[str, Any]) -> None:
    """Print the result as tables."""
    from rich.console import Console
    from rich.table import Table

    console = Console()
    sides = [side for side in ("ours", "trl") if side in result]
    where = result["machine"]
    table = Table(title=f"PPO on {where['cores']} cores ({where['cpu']})")
    table.add_column("")
    for side in sides:
        table.add_column({"ours": "SAWYER", "trl": f"TRL {result['versions'].get('trl', {}).get('trl')}"}[side])
    for title, read in ROWS.items():
        table.add_row(title, *(read(result[side]) for side in sides))
    for name in dict.fromkeys(name for side in sides for name in result[side]["phases"]):
        spent = [result[side]["phases"].get(name) for side in sides]
        table.add_row(f"  {name}, s", *("" if value is None else f"{value:.3f}" for value in spent))
    console.print(table)
    work = ", ".join(f"{value} {name.replace('_', ' ')}" for name, value in result["work_a_step"].items())
    console.print(f"Each step of each side: {work}.", highlight=False)
    for name, target in TARGETS.items():
        if name in result:
            console.print(f"{name.replace('_', ' ')}: {result[name]:.2f} (target: {target})", highlight=False)
    if "memory_ratio" in result:
        above = result["memory_ratio_above_imports"]
        console.print(f"memory ratio without what the imports take: {above:.2f}", highlight=False)


ROWS = {
    "episodes a second": lambda side: f"{side['episodes_per_second']:.2f}",
    "peak memory, MiB": lambda side: f"{side['memory_mib']['peak']:.0f}",
    "of it after the imports alone": lambda side: f"{side['memory_mib']['imports']:.0f}",
    "seconds a step (median)": lambda side: f"{side['seconds_a_step']:.3f}",
    "processor seconds a step": lambda side: f"{side['cpu_seconds_a_step']:.3f}",
}
