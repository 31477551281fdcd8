"""What a finished run of PPO, GRPO or RLOO leaves: the adapter, the curves, and the manifest that proves it done."""

from pathlib import Path
from typing import Any

from sawyer.runs import Run
from train.ppo.actor import STAGE
from train.ppo.curves import draw_curves
from train.ppo.probe import Prober


def finish(run: Run, prober: Prober, **told: Any) -> Path:
    """Write all of it and return the adapter's folder; ``told`` goes into the manifest as well.

    Raises:
        CheckpointError: the adapter cannot be written; the checkpoints are intact.
    """
    with run.output("adapter") as folder:
        prober.actor.policy.save_adapter(STAGE, folder)
    rows = run.metrics()
    curves = run.folder / "curves.png"
    draw_curves(rows, curves)
    last = {key: value for key, value in rows[-1].items() if key not in ("step", "time")}
    tasks = prober.tasks
    prompts = {"train": len(tasks.train), "held_out": len(tasks.held_out), "left_out": tasks.left_out}
    told |= {"steps": prober.spec.steps, "prompts": prompts, "reward": prober.reward.state(), "figures": last}
    run.finish(run.folder / "adapter", curves, **told)
    return run.folder / "adapter"
