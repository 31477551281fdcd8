"""Kills a round by SIGKILL in every step, each time at its worst moment, and goes on; ``test_round_kill`` runs it.

    python -m tests.train.round_killer HOME RECIPE

The worst moment of a step is after its work and before its manifest. The two long steps are killed in the middle as
well. A program of its own, as ``killer`` is, whose children are forks. Prints one JSON object for each kill.
"""

import importlib
import json
import os
import signal
import sys
import time
from pathlib import Path

from sawyer.home import Home
from sawyer.rounds import RoundBook
from sawyer.types.rounds import ROUND_STEPS
from tests.train.killer import LIBRARIES, PAUSE, start

MIDDLE = {"reward": "reward/judge/metrics.jsonl", "rlf": "rlf/run/checkpoints/step-0000001"}


def kill_before_manifest(step: str, arguments: list[str], log: Path) -> bool:
    """Start a child that kills itself where the step's manifest would be written; whether it did."""
    from train.round import work

    seal = work.seal

    def die(folder: Path, **info: object) -> None:
        if info["step"] == step:
            os.kill(os.getpid(), signal.SIGKILL)
        seal(folder, **info)

    work.seal = die
    try:
        child = start(arguments, log)
    finally:
        work.seal = seal
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])


def kill_in_the_middle(sign: Path, arguments: list[str], log: Path) -> bool:
    """Start a child and kill it once the file is there; whether it still lived."""
    child = start(arguments, log)
    while not sign.exists():
        if os.waitpid(child, os.WNOHANG)[0]:
            return False
        time.sleep(PAUSE)
    os.kill(child, signal.SIGKILL)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])


def main() -> None:
    home, recipe = sys.argv[1:]
    for name in (*LIBRARIES, "train.round"):
        importlib.import_module(name)
    book, log = RoundBook(Home(Path(home)), "test"), Path(home) / "killer.log"
    first = ["round", recipe, "--home", home]
    begun = False
    for step in ROUND_STEPS:
        arguments = [*first, "--resume"] if begun else first
        if step in MIDDLE:
            killed = kill_in_the_middle(book.folder(1) / MIDDLE[step], arguments, log)
            print(json.dumps({"step": step, "where": "middle", "killed": killed, "state": book.record(1).state}))
        killed = kill_before_manifest(step, [*first, "--resume"] if begun else first, log)
        begun = True
        print(json.dumps({"step": step, "where": "manifest", "killed": killed, "state": book.record(1).state}))
    child = start([*first, "--resume"], log)
    print(json.dumps({"ended": os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])}))


if __name__ == "__main__":
    main()
