"""GRPO and RLOO in PPO's place: the same start, prompts, reward and figures, another way to learn from the scores."""

from pathlib import Path
from typing import Any

import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from trl import GRPOConfig, RLOOConfig

from sawyer.compute import set_threads
from sawyer.errors import RecipeError, TrainingError
from sawyer.loading import load_config
from sawyer.recipe import GrpoSpec, Plan, Recipe, RlooSpec, plan_of
from sawyer.runs import Run
from sawyer.scoring import Reward
from train.ppo.actor import Actor
from train.ppo.outcome import finish
from train.ppo.probe import Prober
from train.trl_trainers import GrpoRun, RlooRun


def train_alternative(
    method: str,
    recipe: Recipe,
    run: Run,
    backbone: Path | str,
    sft: Path | None,
    reward: Path | str | Reward | None,
    classifiers: Path | None = None,
) -> Path:
    """Tune ``rlf`` by ``method`` (grpo or rloo) against the reward of ``recipe.ppo`` and return its adapter's folder.

    ``rlf`` starts as in PPO: a copy of ``sft``, which is also the reference; without one a fresh adapter, and the
    backbone is the reference. Arguments and resuming are as in :func:`train.ppo.train_ppo`.

    Raises:
        RecipeError: batches do not divide, or there is no ``ppo``. DataError: no usable prompts.
        ModelError: a model cannot be loaded. CheckpointError: a checkpoint cannot be written.
        TrainingError: an encoder-decoder, a reward that misbehaves, a loss that is not finite, or a collapse.
    """
    plan = plan_of(method, recipe)
    set_threads(recipe.threads)
    if load_config(backbone, recipe.model).is_encoder_decoder:
        raise TrainingError(
            f"The backbone {backbone} is an encoder-decoder, and {method} trains decoder-only models: use "
            "`sawyer train ppo`, which trains both."
        )
    actor = Actor.load(recipe, backbone, sft)
    if isinstance(actor.policy.model.get_output_embeddings(), BaseTunerLayer):
        raise RecipeError(
            f"lora.target {recipe.lora.target!r} adapts the output layer, which {method} would leave untrained: name "
            "other modules, or all-linear."
        )
    prober = Prober.load(actor, plan.ppo, recipe.seed, reward, classifiers)
    kind = GrpoRun if method == "grpo" else RlooRun
    kind(run, plan, prober, configuration(plan, run, actor.policy.device)).fit()
    return finish(run, prober, method=method)


def configuration(plan: Plan, run: Run, device: torch.device) -> GRPOConfig | RLOOConfig:
    """TRL's configuration: PPO's optimiser, schedule and precision; one log line and no evaluation a step."""
    spec, updates = plan.ppo, plan.updates
    values: dict[str, Any] = {
        "output_dir": str(run.folder),
        "use_cpu": device.type == "cpu",
        "seed": run.recipe.seed,
        "max_steps": spec.steps * updates,
        "per_device_train_batch_size": spec.micro_batch,
        "gradient_accumulation_steps": spec.minibatch_size // spec.micro_batch,
        "steps_per_generation": spec.batch_size // spec.micro_batch,
        "num_iterations": spec.epochs,
        "num_generations": plan.spec.group_size,
        "max_completion_length": spec.max_new_tokens,
        "temperature": spec.temperature,
        "beta": plan.beta,
        "epsilon": spec.clip,
        "learning_rate": spec.lr,
        "lr_scheduler_type": "linear",
        "optim": "adamw_torch",
        "adam_epsilon": 1e-5,
        "weight_decay": 0.0,
        "max_grad_norm": spec.grad_norm,
        "bf16": False,  # precision is the actor's (see SharedRollouts)
        "gradient_checkpointing": False,
        "disable_dropout": True,
        "shuffle_dataset": False,  # Tasks.deal has shuffled
        "save_steps": spec.save_every * updates,
        "logging_steps": updates,
        "logging_nan_inf_filter": False,
        "report_to": "none",
        "disable_tqdm": True,
        "dataloader_pin_memory": device.type == "cuda",
    }
    if isinstance(plan.spec, GrpoSpec):
        return GRPOConfig(**values, loss_type=plan.spec.loss_type, scale_rewards=plan.spec.scale_rewards)
    assert isinstance(plan.spec, RlooSpec)
    return RLOOConfig(**values, normalize_advantages=plan.spec.normalize_advantages)
