"""The worker that runs SAWYER's ``train_ppo`` one step at a time: ``python -m benchmarks.ppo_ours FOLDER``."""

import sys
from pathlib import Path
from typing import Any

import transformers.models.llama.modeling_llama

import train.ppo.loop
import train.ppo.rollout
from benchmarks.stepping import Pace, read_settings
from sawyer.recipe import Recipe
from sawyer.runs import Run
from train.ppo import train_ppo
from train.ppo.update import Learner

PACKAGES = ("sawyer", "torch", "transformers", "peft", "accelerate", "numpy")
FOREVER = 1_000_000
MICRO_BATCH = 8  # as TRL's; 16 is a few per cent faster here and takes a fifth more memory


class PacedRun(Run):
    """A run that waits after each step's log line; all else is a run's own."""

    def __init__(self, folder: Path, recipe: Recipe, pace: Pace) -> None:
        super().__init__(folder, step="ppo", recipe=recipe)
        self._pace = pace

    def log(self, step: int, **metrics: float) -> None:
        super().log(step, **metrics)
        if step:  # 0 holds the figures before training
            self._pace.step_done()


def recipe_of(folder: Path, settings: dict[str, Any]) -> Recipe:
    """The workload as a recipe; ``ours`` holds further keys of ``ppo``, ``model`` and the reward's part."""
    shared, ours = settings["shared"], settings["ours"]
    part = {"name": "reward", "classifier": str(folder / "reward"), "batch_size": shared["batch"], "dtype": "bfloat16"}
    ppo = {
        "prompts": [{"name": str(folder / "prompts.jsonl")}],
        "reward": [part | ours.get("reward", {})],
        "steps": FOREVER,
        "batch_size": shared["batch"],
        "minibatch_size": shared["batch"],
        "micro_batch": min(MICRO_BATCH, shared["batch"]),
        "epochs": shared["epochs"],
        "max_prompt": shared["prompt_tokens"],
        "max_new_tokens": shared["response_tokens"],
        "temperature": shared["temperature"],
        "lr": shared["learning_rate"],
        "kl": {"beta": shared["kl_coefficient"]},
        "target_kl": None,  # every epoch is run
        "normalize_samples": shared["batch"],
        "held_out": 0.0,
        "save_every": FOREVER,
        "sample_every": FOREVER,
        "watch": False,
    }
    model = {"backbone": str(folder / "policy"), "context": 128, "chat": shared["chat"]}
    return Recipe.model_validate(
        {
            "name": "benchmark",
            "threads": shared["threads"],
            "model": model | ours.get("model", {}),
            "lora": {"r": shared["lora_r"], "alpha": shared["lora_alpha"]},
            "ppo": ppo | ours.get("ppo", {}),
        }
    )


def watch_phases(pace: Pace) -> None:
    """Time the loop's public pieces; ``collect`` contains ``answer`` and ``judge``, and the rest of it measures."""
    pace.watch(train.ppo.rollout, "answer", "generation")
    pace.watch(train.ppo.rollout, "judge", "scoring", lambda scores: {"scored": len(scores.total)})
    pace.watch(train.ppo.loop, "collect", "collecting", lambda made: {"response_tokens": int(made.lengths.sum())})
    pace.watch(Learner, "step", "update")
    pace.watch_optimizers()


def main(folder: Path) -> None:
    """Train until told to stop."""
    assert transformers.models.llama.modeling_llama  # its import counts among the imports, as on the other side
    settings = read_settings(folder)
    pace = Pace()
    watch_phases(pace)
    recipe = recipe_of(folder, settings)
    pace.loaded(PACKAGES)
    with PacedRun(folder / "run", recipe, pace) as run:
        train_ppo(recipe, run, folder / "policy", None, None)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
