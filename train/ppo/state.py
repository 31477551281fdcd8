"""What a PPO run needs to go on as if it had never stopped: safetensors and JSON, nothing pickled.

Prompts, sampling and shuffling depend on the recipe's seed and the step number alone, so no cursor is kept.
"""

import json
from pathlib import Path
from typing import Any

import torch
from peft import set_peft_model_state_dict
from safetensors.torch import load_file, save_file

from sawyer.errors import CheckpointError
from sawyer.runs import write_json
from sawyer.scoring import Reward
from train.ppo.actor import STAGE
from train.ppo.maths import KlController
from train.ppo.update import Learner

ADAPTER = "adapter"
TENSORS = "state.safetensors"
FIGURES = "state.json"


def save_state(
    folder: Path, learner: Learner, reward: Reward, controller: KlController, guard: Reward | None = None
) -> None:
    """Write adapter (a complete PEFT folder), value head, optimiser, KL coefficient and statistics of the rewards."""
    actor = learner.actor
    actor.policy.save_adapter(STAGE, folder / ADAPTER)
    tensors = {f"value.{name}": tensor for name, tensor in actor.value_head.state_dict().items()}
    for index, parameter in enumerate(actor.parameters()):
        for name, value in learner.optimizer.state.get(parameter, {}).items():
            tensors[f"optimizer.{index}.{name}"] = torch.as_tensor(value)  # the 8-bit one counts steps in an int
    tensors["generator"] = torch.get_rng_state()  # nothing draws from it; kept for models that might
    # Cloned: 8-bit moments share a table of their 256 values, and safetensors keeps no tensor twice.
    save_file({name: tensor.detach().cpu().clone().contiguous() for name, tensor in tensors.items()}, folder / TENSORS)
    figures = {"beta": controller.beta, "reward": reward.state()}
    write_json(folder / FIGURES, figures | ({"guard": guard.state()} if guard else {}))


def load_state(
    folder: Path, learner: Learner, reward: Reward, controller: KlController, guard: Reward | None = None
) -> KlController:
    """Put everything back in place and return the controller as it was.

    Raises:
        CheckpointError: a file is missing or does not fit.
    """
    actor = learner.actor
    try:
        adapter = load_file(folder / ADAPTER / "adapter_model.safetensors")
        tensors = load_file(folder / TENSORS)
        figures = json.loads((folder / FIGURES).read_text(encoding="utf-8"))
        result: Any = set_peft_model_state_dict(actor.policy.model, adapter, adapter_name=STAGE)
        if result.unexpected_keys:
            raise ValueError(f"unknown adapter weights {result.unexpected_keys[:3]}")
        head = {name: tensors[f"value.{name}"] for name in actor.value_head.state_dict()}
        actor.value_head.load_state_dict(head)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:300]
        raise CheckpointError(
            f"The checkpoint {folder} does not fit this recipe or is corrupt: {reason}. Delete the folder to go on "
            "from the checkpoint before it, or start anew without --resume."
        ) from error
    _load_optimizer(learner, tensors)
    torch.set_rng_state(tensors["generator"])
    reward.load_state(figures["reward"])
    if guard is not None:
        guard.load_state(figures.get("guard", {}))
    return KlController(figures["beta"], controller.target, controller.horizon)


def _load_optimizer(learner: Learner, tensors: dict[str, torch.Tensor]) -> None:
    states: dict[int, dict[str, Any]] = {}
    for key, tensor in tensors.items():
        if key.startswith("optimizer."):
            _, index, name = key.split(".")
            counts = name == "step" and not tensor.is_floating_point()
            states.setdefault(int(index), {})[name] = int(tensor) if counts else tensor
    groups = learner.optimizer.state_dict()["param_groups"]
    learner.optimizer.load_state_dict({"state": states, "param_groups": groups})
