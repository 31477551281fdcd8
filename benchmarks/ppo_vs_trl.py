"""SAWYER's PPO against TRL's on the same work: episodes per second, peak memory, and both ratios.

    python benchmarks/ppo_vs_trl.py            # installs TRL into a folder of its own first, then five rounds of each
    python benchmarks/ppo_vs_trl.py --json     # one JSON object
    python benchmarks/ppo_vs_trl.py --scan     # TRL's settings one after the other, to choose its best

Each side is a process that runs its own training loop and is held after every step; the rounds alternate. Run it on an
idle machine, for a busy one slows the sides unevenly.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from statistics import median
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run as a file, it finds its neighbours all the same

from benchmarks.environment import TRL, default_folder, make_environment

ROOT = Path(__file__).resolve().parents[1]
MODULES = {"ours": "benchmarks.ppo_ours", "trl": "benchmarks.ppo_trl"}
TARGETS = {"episodes_per_second_ratio": "at least 4", "memory_ratio": "at most 0.5"}

TRL_SETTINGS: dict[str, Any] = {
    "micro_batch": 32,
    "rollout_batch": 32,
    "policy_dtype": "float32",
    "reward_dtype": "float32",
    "value_dtype": "float32",
    "autocast": False,
    "torch_compile": False,
}
"""TRL at its fastest on two cores, as ``--scan`` found it."""

FROZEN_BF16 = {"policy_dtype": "bfloat16", "reward_dtype": "bfloat16"}
TRL_VARIANTS: tuple[dict[str, Any], ...] = (
    {},
    {"autocast": True},
    FROZEN_BF16,
    FROZEN_BF16 | {"autocast": True},
    FROZEN_BF16 | {"autocast": True, "micro_batch": 16},
    FROZEN_BF16 | {"autocast": True, "micro_batch": 8},
    FROZEN_BF16 | {"autocast": True, "micro_batch": 8, "rollout_batch": 8},
    {"autocast": True, "torch_compile": True},
)
"""What the value model learns stays float32: at this learning rate bf16 weights would round every update away."""


class Worker:
    """One side, in a process of its own: started, stepped and stopped over its standard streams."""

    def __init__(self, name: str, python: Path | str, folder: Path) -> None:
        self.name, self._log = name, folder / f"{name}.log"
        self.steps: list[dict[str, Any]] = []
        self._process = subprocess.Popen(
            [str(python), "-m", MODULES[name], str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log.open("w", encoding="utf-8"),
            text=True,
            cwd=ROOT,
            env=_environment(),
        )
        self.loaded = self._read()
        self.first = self._read()  # includes loading the models, and compiling where there is something to compile

    def step(self) -> None:
        """Run one step and keep what it reports."""
        assert self._process.stdin is not None
        self._process.stdin.write("step\n")
        self._process.stdin.flush()
        self.steps.append(self._read())

    def stop(self) -> None:
        """End the process; there is nothing left that it should do."""
        self._process.kill()
        self._process.wait()

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            tail = self._log.read_text(encoding="utf-8")[-4000:]
            raise SystemExit(f"The worker {MODULES[self.name]} ended early. The end of its log:\n{tail}")
        return json.loads(line)


def _environment() -> dict[str, str]:
    """The same for both: no GPU, no hub, no thread or library settings but the caller's own."""
    quiet = {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": ""}
    return os.environ | quiet | {"TRL_EXPERIMENTAL_SILENCE": "1", "PYTHONWARNINGS": "ignore"}


def alternate(workers: Sequence[Worker], warmup: int, rounds: int) -> None:
    """Step the workers in turn; what the warm-up reports is dropped."""
    for number in range(warmup + rounds):
        for worker in workers:
            if number == warmup:
                worker.steps.clear()
            print(f"round {number + 1 - warmup} of {rounds}: {worker.name}", file=sys.stderr)
            worker.step()


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


def compare(options: argparse.Namespace) -> dict[str, Any]:
    """Run both sides (or one) and return the result as one JSON object."""
    from benchmarks.workload import QUICK, Shared, prepare

    where = machine()
    if where["load_before"] > 0.5:
        print(f"Other work is running here (load {where['load_before']:.1f}): times will say little.", file=sys.stderr)
    shared = replace(QUICK if options.quick else Shared(), **({"threads": options.threads} if options.threads else {}))
    sides = [options.only] if options.only else ["ours", "trl"]
    theirs = TRL_SETTINGS | {key: min(TRL_SETTINGS[key], shared.batch) for key in ("micro_batch", "rollout_batch")}
    theirs |= _settings(options.trl)
    ours = _nested(_settings(options.ours))
    pythons = {"ours": sys.executable, "trl": make_environment(options.folder) if "trl" in sides else None}
    with tempfile.TemporaryDirectory(prefix="sawyer-benchmark-") as name:
        parameters = prepare(Path(name), shared, ours, theirs)
        workers: list[Worker] = []
        try:
            for side in sides:
                workers.append(Worker(side, pythons[side] or "", Path(name)))
            alternate(workers, options.warmup, options.rounds)
        finally:
            for worker in workers:
                worker.stop()
    result: dict[str, Any] = {
        "benchmark": "ppo_vs_trl",
        "machine": where,
        "settings": {"shared": asdict(shared), "parameters": parameters, "ours": ours, "trl": theirs,
                     "trl_environment": list(TRL), "rounds": options.rounds, "warmup": options.warmup},
        "work_a_step": check_work(workers, asdict(shared)),
        "seconds": {worker.name: [step["seconds"] for step in worker.steps] for worker in workers},
    }  # fmt: skip
    result |= {worker.name: summarise(worker, shared.batch) for worker in workers}
    result["versions"] = {worker.name: result[worker.name].pop("versions") for worker in workers}
    return result | ratios(result)


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


def scan(options: argparse.Namespace) -> dict[str, Any]:
    """Run TRL alone under each of its variants; seconds a step and peak memory of each."""
    rows = []
    for variant in TRL_VARIANTS:
        changed = [f"{key}={json.dumps(value)}" for key, value in variant.items()]
        told = argparse.Namespace(**{**vars(options), "only": "trl", "trl": [*options.trl, *changed]})
        try:
            result = compare(told)
        except SystemExit as error:
            rows.append({"variant": variant, "failed": str(error)[-300:]})
            continue
        side = result["trl"]
        figures = {key: side[key] for key in ("seconds_a_step", "cpu_seconds_a_step", "episodes_per_second")}
        rows.append({"variant": variant, **figures, "peak_mib": side["memory_mib"]["peak"]})
        print(json.dumps(rows[-1]), file=sys.stderr)
    return {"benchmark": "ppo_vs_trl scan", "machine": machine(), "settings": TRL_SETTINGS, "variants": rows}


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


def _settings(pairs: Sequence[str]) -> dict[str, Any]:
    """``key=value`` pairs; values are JSON where they can be read as such."""
    made = {}
    for pair in pairs:
        key, _, value = pair.partition("=")
        try:
            made[key] = json.loads(value)
        except ValueError:
            made[key] = value
    return made


def _nested(flat: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """``ppo.micro_batch`` and the like as sections."""
    sections: dict[str, dict[str, Any]] = {}
    for key, value in flat.items():
        section, _, name = key.partition(".")
        sections.setdefault(section, {})[name] = value
    return sections


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--rounds", type=int, default=5, help="measured steps of each side")
    parser.add_argument("--warmup", type=int, default=2, help="steps of each side before, besides the very first")
    parser.add_argument("--threads", type=int, help="CPU threads of each side; default: torch's own choice")
    parser.add_argument("--only", choices=sorted(MODULES), help="run one side alone")
    parser.add_argument("--folder", type=Path, default=default_folder(), help="of the environment made for TRL")
    parser.add_argument("--ours", action="append", default=[], metavar="SECTION.KEY=VALUE",
                        help="another recipe value for our side: ppo.…, model.… or reward.…")  # fmt: skip
    parser.add_argument("--trl", action="append", default=[], metavar="KEY=VALUE",
                        help=f"another setting for TRL: {', '.join(TRL_SETTINGS)}")  # fmt: skip
    parser.add_argument("--scan", action="store_true", help="try TRL's settings and print what each gives")
    parser.add_argument("--quick", action="store_true", help="tiny models, one round: does it run at all")
    options = parser.parse_args(arguments)
    if options.quick:
        options.rounds, options.warmup = 1, 0
    return options


def main() -> None:
    """Run, then print."""
    options = parse()
    result = scan(options) if options.scan else compare(options)
    if options.json or options.scan:
        print(json.dumps(result, indent=2))
    else:
        show(result)


if __name__ == "__main__":
    main()
