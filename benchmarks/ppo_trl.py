"""The worker that runs TRL's ``PPOTrainer.train`` one step at a time: ``python -m benchmarks.ppo_trl FOLDER``.

It runs in the environment made for TRL and imports nothing of SAWYER. The trainer is used as its documentation shows:
LoRA on the policy, the policy without it as the reference, reward and value model as sequence classifiers.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

import torch
import transformers.models.llama.modeling_llama
import trl.experimental.ppo.ppo_trainer as ppo_trainer
from datasets import Dataset
from peft import LoraConfig
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer, TrainerCallback
from trl.experimental.ppo import PPOConfig, PPOTrainer

from benchmarks.stepping import Pace, read_settings

PACKAGES = ("trl", "torch", "transformers", "peft", "accelerate", "numpy")
STEPS = 100_000


class Paced(TrainerCallback):
    """Waits after each step of the trainer's own loop."""

    def __init__(self, pace: Pace) -> None:
        self._pace = pace

    def on_step_end(self, *_: Any, **__: Any) -> None:
        """One rollout and its epochs are done."""
        self._pace.step_done()


def config_of(folder: Path, settings: dict[str, Any]) -> PPOConfig:
    """The workload as TRL's configuration; ``micro_batch`` divides the batch, the optimiser steps once an epoch."""
    shared, own = settings["shared"], settings["trl"]
    return PPOConfig(
        output_dir=str(folder / "trl"),
        use_cpu=True,
        report_to="none",
        save_strategy="no",
        disable_tqdm=True,
        logging_steps=1,
        num_sample_generations=0,
        per_device_train_batch_size=own["micro_batch"],
        gradient_accumulation_steps=shared["batch"] // own["micro_batch"],
        local_rollout_forward_batch_size=own["rollout_batch"],
        torch_compile=own["torch_compile"],
        total_episodes=STEPS * shared["batch"],
        num_ppo_epochs=shared["epochs"],
        num_mini_batches=1,
        response_length=shared["response_tokens"],
        stop_token=None,
        temperature=shared["temperature"],
        learning_rate=shared["learning_rate"],
        kl_coef=shared["kl_coefficient"],
    )


def trainer_of(folder: Path, settings: dict[str, Any], pace: Pace) -> PPOTrainer:
    """Models and trainer."""
    shared, own = settings["shared"], settings["trl"]
    tokenizer = AutoTokenizer.from_pretrained(folder / "policy", padding_side="left")
    policy = AutoModelForCausalLM.from_pretrained(folder / "policy", dtype=getattr(torch, own["policy_dtype"]))
    reward, value = (
        AutoModelForSequenceClassification.from_pretrained(folder / "reward", dtype=getattr(torch, own[key]))
        for key in ("reward_dtype", "value_dtype")
    )
    prompts = json.loads((folder / "prompt_ids.json").read_text(encoding="utf-8"))
    return PPOTrainer(
        args=config_of(folder, settings),
        processing_class=tokenizer,
        model=policy,
        ref_model=None,  # the policy without its adapter
        reward_model=reward.eval().requires_grad_(False),
        value_model=value,
        train_dataset=Dataset.from_dict({"input_ids": prompts}),
        callbacks=[Paced(pace)],
        peft_config=LoraConfig(
            r=shared["lora_r"],
            lora_alpha=shared["lora_alpha"],
            lora_dropout=0.0,
            target_modules="all-linear",
            task_type="CAUSAL_LM",
        ),
    )


def watch_phases(pace: Pace, prompt_tokens: int, trainer: PPOTrainer, padding: int) -> None:
    """Time generation, count what was made of it, and count the texts scored."""

    def made(result: tuple[torch.Tensor, torch.Tensor]) -> dict[str, int]:
        return {"response_tokens": int((result[0][:, prompt_tokens:] != padding).sum())}

    pace.watch(ppo_trainer, "batch_generation", "generation", made)
    trainer.reward_model.score.register_forward_hook(lambda _, __, out: pace.counts.update(scored=len(out)))
    pace.watch(trainer.accelerator, "backward", "backward")
    pace.watch_optimizers()


def main(folder: Path) -> None:
    """Train until told to stop."""
    assert transformers.models.llama.modeling_llama  # its import counts among the imports, as on the other side
    settings = read_settings(folder)
    shared = settings["shared"]
    if settings["trl"]["autocast"]:
        # What `accelerate launch --mixed_precision bf16` sets; the trainer's own bf16 does not reach its accelerator.
        os.environ["ACCELERATE_MIXED_PRECISION"] = "bf16"
    if shared["threads"]:
        torch.set_num_threads(shared["threads"])
    pace = Pace()
    pace.loaded(PACKAGES)
    trainer = trainer_of(folder, settings, pace)
    watch_phases(pace, shared["prompt_tokens"], trainer, trainer.processing_class.pad_token_id)
    trainer.train()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
