"""SAWYER's PPO against TRL's on the same work: episodes per second, peak memory, and both ratios.

    python benchmarks/ppo_vs_trl.py            # installs TRL into a folder of its own first, then five rounds of each
    python benchmarks/ppo_vs_trl.py --json     # one JSON object
    python benchmarks/ppo_vs_trl.py --scan     # TRL's settings one after the other, to choose its best

Each side is a process that runs its own training loop and is held after every step; the rounds alternate. Run it on an
idle machine, for a busy one slows the sides unevenly.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run as a file, it finds its neighbours all the same

from benchmarks.environment import TRL, default_folder, make_environment
from benchmarks.outcome import check_work, machine, ratios, show, summarise
from benchmarks.trl_settings import TRL_SETTINGS, TRL_VARIANTS
from benchmarks.worker import MODULES, Worker, alternate


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
