"""Starts one command of SAWYER over and over and kills it with SIGKILL at given moments; ``test_ppo_kill`` runs it.

    python -m tests.train.killer RUN_FOLDER LOG MOMENTS.json sawyer-arguments…

A program of its own, so that importing, which takes seconds, is done once: every start is a fork of this process, which
computes nothing itself and so has no threads that a fork would lose. Prints one JSON object for each kill.
"""

import importlib
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

# What a PPO run imports along the way; a child then finds it in memory.
LIBRARIES = (
    "sawyer.cli.app",
    "sawyer.cli.training",
    "sawyer.scoring",
    "train.pipeline",
    "train.ppo",
    "datasets.packaged_modules",
    "matplotlib.backends.backend_agg",
    "matplotlib.figure",
    "pandas",
    "peft",
    "torch.utils.tensorboard",
    "transformers.models.auto.modeling_auto",
    "transformers.models.auto.tokenization_auto",
    "transformers.models.llama.modeling_llama",
)
PAUSE = 0.0005


def start(arguments: list[str], log: Path) -> int:
    """Fork a child that runs the command and return its process id."""
    child = os.fork()
    if child:
        return child
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(output, 1)
    os.dup2(output, 2)
    code = 1
    try:
        from sawyer.cli.app import main

        sys.argv = ["sawyer", *arguments]
        main()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 0
    finally:
        os._exit(code)


def kill_at(moment: dict[str, Any], run: Path, child: int, log_before: int | None) -> dict[str, Any] | None:
    """Wait for the moment, kill the child, and tell what it was doing; None if it ended before.

    A moment has ``steps``, the steps that must have been logged since the start; then ``wait`` seconds pass. With
    ``writing`` a checkpoint must be half written at the kill. A start without ``steps`` is killed while it loads.
    """
    tries = 0
    while True:
        if not _reached(moment, run, log_before):
            if os.waitpid(child, os.WNOHANG)[0]:
                return None
            time.sleep(PAUSE)
            continue
        time.sleep(moment["wait"] if tries == 0 else 0)
        os.kill(child, signal.SIGSTOP)  # stands still while it is looked at
        if os.WIFEXITED(os.waitpid(child, os.WUNTRACED)[1]):
            return None
        half = [folder.name for folder in (run / "checkpoints").glob(".step-*.tmp")]
        if half or not moment.get("writing"):
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return {**moment, "logged": _steps(run), "half_written": half}
        os.kill(child, signal.SIGCONT)
        tries += 1


def _reached(moment: dict[str, Any], run: Path, log_before: int | None) -> bool:
    steps = moment.get("steps")
    if steps is None:
        return True
    # A resumed run cuts its log and puts it in place anew: until then the lines are those of the run before.
    if _mark(run) == log_before or _steps(run) < steps:
        return False
    return not moment.get("writing") or any((run / "checkpoints").glob(".step-*.tmp"))


def _steps(run: Path) -> int:
    """Steps in the log; the row of the untrained policy counts for none."""
    log = run / "metrics.jsonl"
    return max(0, log.read_bytes().count(b"\n") - 1) if log.exists() else 0


def _mark(run: Path) -> int | None:
    log = run / "metrics.jsonl"
    return log.stat().st_ino if log.exists() else None


def main() -> None:
    run, log, moments, *arguments = sys.argv[1:]
    for name in LIBRARIES:
        importlib.import_module(name)
    for moment in json.loads(Path(moments).read_text(encoding="utf-8")):
        mark = _mark(Path(run))
        done = kill_at(moment, Path(run), start(arguments, Path(log)), mark)
        if done is not None:
            print(json.dumps(done), flush=True)


if __name__ == "__main__":
    main()
