"""``sawyer compare-methods``: several methods from the same SFT on the same data, and one table of what they gave.

Each method trains in a process of its own, so that its peak memory is its own and its failure nobody else's. Results
are registered as versions of ``rlf`` and not promoted. Under ``runs/<recipe>/methods`` lie a run folder and a record
for each method, the evaluation, and ``comparison.json`` and ``comparison.md``. A method whose settings, data section
and start are those of its record is not trained again; one that was interrupted goes on.
"""

import hashlib
import json
import multiprocessing
import os
import resource
import sys
import threading
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sawyer.errors import SawyerError, TrainingError, UsageError
from sawyer.evaluation.prompts import held_out_prompts
from sawyer.home import Home
from sawyer.progress import note
from sawyer.quiet import quieten
from sawyer.recipe import Recipe
from sawyer.registry import Registry
from sawyer.runs import write_json
from sawyer.stage_version import holds
from train.method_table import Comparison, MethodRow, rows_of, to_markdown
from train.pipeline import RLF, SCORED, check_step, current_parts, needs_trained, register_output, run_step

FOLDER = "methods"


def compare_methods(recipe: Recipe, home: Home, methods: Sequence[str]) -> Comparison:
    """Train what is not trained yet, evaluate all, and write the table; what is promoted stays as it is.

    Raises:
        UsageError: an unknown method, one named twice, a missing stage, no reward or prompts to compare by.
        TrainingError: every method failed.
    """
    check_methods(methods)
    parts = current_parts(recipe, home)
    for method in methods:
        check_step(method, recipe, parts)
    if parts.reward is None and (recipe.ppo is None or needs_trained(recipe)):
        raise UsageError(
            f"The methods are compared by the recipe's reward: run `sawyer train reward {recipe.name}` first, or set "
            "ppo.reward."
        )
    held_out_prompts(recipe)
    folder = home.runs / recipe.name / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    rows = [_trained(method, recipe, home, folder) for method in methods]
    done = [row for row in rows if row.version is not None]
    if not done:
        raise TrainingError("Every method failed: " + " ".join(f"{row.method}: {row.error}" for row in rows))
    # Imported here: torch takes seconds and memory, which the methods' own processes have until now.
    from sawyer.evaluation import evaluate

    reference = "sft" if parts.sft is not None else "base"
    report = evaluate(recipe, home, stages=[reference, *(str(row.version) for row in done)], out=folder / "evaluate")
    comparison = Comparison(
        recipe=recipe.name, created=report.created, reward_model=report.reward_model,
        prompts=report.prompts.count, reference=reference, rows=rows_of(rows, report, reference),
    )  # fmt: skip
    write_json(folder / "comparison.json", comparison.model_dump(mode="json"))
    (folder / "comparison.md").write_text(to_markdown(comparison), encoding="utf-8")
    return comparison


def check_methods(methods: Sequence[str]) -> None:
    """Raise UsageError unless each is a method that trains rlf, and named once."""
    unknown = [method for method in methods if method not in RLF]
    if unknown or not methods:
        given = ", ".join(unknown) or "none"
        raise UsageError(f"Methods to compare are of: {', '.join(RLF)}; given: {given}.")
    twice = sorted({method for method in methods if list(methods).count(method) > 1})
    if twice:
        raise UsageError(f"Name each method once; given twice: {', '.join(twice)}.")


def _trained(method: str, recipe: Recipe, home: Home, folder: Path) -> MethodRow:
    """The method's record, made by a training process unless it is there and fits."""
    file, key = folder / f"{method}.json", _key(method, recipe, home)
    record = _read(file)
    resume = record.get("key") == key
    registry = Registry.of(recipe, home)
    if resume and record.get("version") in {version.ref for version in registry.versions("rlf")}:
        note(f"{method}: trained before, {record['version']}")
        return MethodRow.model_validate(record["row"])
    spent = float(record.get("seconds", 0.0)) if resume else 0.0
    write_json(file, {"key": key, "seconds": spent})
    result = folder / f".{method}.result.json"
    result.unlink(missing_ok=True)  # of a comparison that was killed
    began = time.monotonic()
    # A fresh interpreter: a forked one would begin with the memory of this process.
    process = multiprocessing.get_context("spawn").Process(
        target=_train_alone, args=(method, recipe, home, folder, resume)
    )
    process.start()
    try:
        process.join()
    except BaseException:
        process.terminate()
        process.join()
        raise
    finally:
        spent += time.monotonic() - began
        told = _read(result)
        result.unlink(missing_ok=True)
        row = MethodRow(method=method, seconds=round(spent, 1), **(told or {"error": _ended(process.exitcode)}))
        write_json(file, {"key": key, "seconds": spent, "version": row.version, "row": row.model_dump(mode="json")})
    if row.error:
        note(f"{method} failed: {row.error}")
    return row


def _train_alone(method: str, recipe: Recipe, home: Home, folder: Path, resume: bool) -> None:
    """Train and register in this process; what came of it is written beside the record."""
    quieten()
    _end_with_parent()
    told: dict[str, Any]
    try:
        parts = current_parts(recipe, home)
        output = run_step(method, recipe, home, parts, resume=resume, folder=folder / method)
        registry = Registry.of(recipe, home)
        sft = registry.current("sft")
        made = {"method": method, "sft": sft.ref if sft is not None else None}
        mine = [v for v in registry.versions("rlf") if {key: v.info.get(key) for key in made} == made]
        same = (version.ref for version in reversed(mine) if holds(version, output))
        version = next(same, None) or register_output(method, output, recipe, home, registry, parts, {})
        told = {"version": version}
    except SawyerError as error:
        told = {"error": str(error)}
    except Exception as error:
        traceback.print_exc()
        told = {"error": f"{type(error).__name__}: {error}"}
    told |= {"cpu_seconds": round(time.process_time(), 1), "memory_mib": peak_memory(), "gpu_mib": _gpu_memory()}
    write_json(folder / f".{method}.result.json", told)


def _end_with_parent() -> None:
    """Let this process end when the one that started it is killed: two trainings in one folder would clash."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def wait() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def peak_memory() -> float:
    """The most main memory this process has held, in MiB."""
    status = Path("/proc/self/status")
    if status.exists():  # getrusage counts the process that started this one as well
        lines = dict(line.split(":", 1) for line in status.read_text(encoding="utf-8").splitlines() if ":" in line)
        return round(int(lines["VmHWM"].split()[0]) / 1024, 1)
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(used / (1024 * 1024 if sys.platform == "darwin" else 1024), 1)


def _gpu_memory() -> float | None:
    import torch

    return round(torch.cuda.max_memory_allocated() / 2**20, 1) if torch.cuda.is_available() else None


def _key(method: str, recipe: Recipe, home: Home) -> str:
    """A hash of what the method's result depends on: its settings, and the versions it is built on."""
    registry = Registry.of(recipe, home)
    stages = ["base", "sft", *(("reward", "classifiers") if method in SCORED else ())]
    found = {stage: registry.current(stage) for stage in stages}
    built_on = {stage: version and [version.ref, version.created.isoformat()] for stage, version in found.items()}
    sections = ("seed", "model", "lora", method, "sft" if method == "spin" else "reward", "ppo")
    told = recipe.model_dump(mode="json", include=set(sections if method in SCORED else sections[:-1]))
    return hashlib.sha256(json.dumps([told, built_on], sort_keys=True).encode()).hexdigest()[:16]


def _read(file: Path) -> dict[str, Any]:
    """A record; a missing or torn one is none."""
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


def _ended(code: int | None) -> str:
    """What to say of a process that left no result."""
    if code is not None and code < 0:
        return f"its process was ended by signal {-code} (9 is often a lack of memory); run the command again to go on"
    return f"its process ended with code {code}; run the command again to go on"
