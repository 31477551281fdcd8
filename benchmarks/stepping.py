"""What the workers of a benchmark share: one step at a time on request, seconds by phase, memory. Standard library
alone at import, for one worker lives in an environment without SAWYER.

A worker writes one JSON object a line. After each step it waits for ``step`` or ``stop`` on standard input.
"""

import json
import os
import platform
import resource
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from functools import wraps
from importlib.metadata import version
from pathlib import Path
from typing import Any

MIB = 1024 * 1024


class Pace:
    """Holds a training loop after every step until it is told to go on.

    Attributes:
        seconds: spent in wrapped functions since the step began, by phase.
        counts: whatever the worker counts in a step, such as tokens.
    """

    def __init__(self) -> None:
        # Libraries print: what they say goes to the log, and the real standard output carries messages alone.
        self._out = os.fdopen(os.dup(1), "w", encoding="utf-8")
        os.dup2(2, 1)
        self.seconds: Counter[str] = Counter()
        self.counts: Counter[str] = Counter()
        self._began = self._cpu_began = 0.0

    def say(self, **message: Any) -> None:
        """Send one message to the driver."""
        self._out.write(json.dumps(message) + "\n")
        self._out.flush()

    def loaded(self, packages: Sequence[str]) -> None:
        """Report the memory that the imports alone take, and versions. The first step begins here."""
        versions = {name: version(name) for name in packages} | {"python": platform.python_version()}
        self.say(memory=memory(), versions=versions)
        self._begin()

    def step_done(self) -> None:
        """Report the step that ends here, wait, and begin the next; leave the process when told to stop."""
        took = time.perf_counter() - self._began
        spent = time.process_time() - self._cpu_began
        phases, counts = dict(self.seconds), dict(self.counts)
        self.say(seconds=took, cpu_seconds=spent, phases=phases, counts=counts, memory=memory())
        if sys.stdin.readline().strip() != "step":
            raise SystemExit(0)
        self._begin()

    def watch(self, owner: Any, name: str, phase: str, count: Callable[[Any], dict[str, int]] | None = None) -> None:
        """Time the function ``name`` of a module or class as ``phase``; ``count`` reads counts off its result."""
        inner = getattr(owner, name)

        @wraps(inner)
        def timed(*args: Any, **kwargs: Any) -> Any:
            began = time.perf_counter()
            result = inner(*args, **kwargs)
            self.seconds[phase] += time.perf_counter() - began
            if count is not None:
                self.counts.update(count(result))
            return result

        setattr(owner, name, timed)

    def watch_optimizers(self) -> None:
        """Count the steps of every torch optimiser."""
        from torch.optim.optimizer import register_optimizer_step_post_hook

        register_optimizer_step_post_hook(lambda *_: self.counts.update(optimizer_steps=1))

    def _begin(self) -> None:
        self.seconds.clear()
        self.counts.clear()
        self._began, self._cpu_began = time.perf_counter(), time.process_time()


def memory() -> dict[str, float]:
    """Resident memory of this process in MiB: now, and its peak so far; and of the largest child that has ended."""
    children = _maxrss(resource.RUSAGE_CHILDREN)
    try:
        lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    except OSError:  # not Linux
        peak = _maxrss(resource.RUSAGE_SELF)
        return {"now": peak, "peak": peak, "largest_child": children}
    now, peak = (int(lines[key].split()[0]) / 1024 for key in ("VmRSS", "VmHWM"))
    return {"now": now, "peak": peak, "largest_child": children}


def read_settings(folder: Path) -> dict[str, Any]:
    """The workload's settings: ``shared``, ``ours`` and ``trl``."""
    return json.loads((folder / "settings.json").read_text(encoding="utf-8"))


def _maxrss(who: int) -> float:
    used = resource.getrusage(who).ru_maxrss
    return used / (MIB if sys.platform == "darwin" else 1024)
