"""One side of a benchmark, seen from the process that compares: started, stepped in turn with the other, stopped."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
MODULES = {"ours": "benchmarks.ppo_ours", "trl": "benchmarks.ppo_trl"}


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
