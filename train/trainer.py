"""Hugging Face's Trainer made exact: killed anywhere and resumed, it ends with the same weights, bit for bit (CPU).

Why not TRL's SFTTrainer: on a CPU its fused head scores every position instead of the replies' alone and computes
entropy besides, it replaces the forward of the backbone that all stages share, casts NF4 adapters to bf16 and
reports each start to a server. What is left of it once data arrive tokenised is this file.

What differs from the plain Trainer: the order of the data is a function of (seed, epoch) alone; evaluation and
samples draw nothing from the generators that training uses; checkpoints are sealed by ``Run``, so that a torn one is
skipped; a loss that is not finite ends the run instead of being left out of the mean. One process, any device.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch.utils.data import Sampler
from transformers import PrinterCallback, Trainer, TrainingArguments

from sawyer.compute import autocast
from sawyer.errors import CheckpointError, RecipeError, TrainingError
from sawyer.recipe import PREFERENCE_METHODS, ClassifierSpec, RewardSpec, SftSpec, T5Spec
from sawyer.recipe.preference import PreferenceSpec
from sawyer.runs import Run
from train.memory import enough_memory

WEIGHTS = "trainable.safetensors"
STATE = "trainer_state.json"
# Batches sorted together: enough to find neighbours of like length, few enough to keep an epoch's order random.
BUCKET_BATCHES = 50


class LengthBuckets(Sampler[int]):
    """Random order in which ``batch_size`` neighbours have like lengths, so that little is padding.

    The order is a function of seed and epoch, never of a generator's state: a resumed run finds its place again.
    """

    def __init__(self, lengths: Sequence[int], batch_size: int, seed: int) -> None:
        self.lengths, self.batch_size, self.seed, self.epoch = list(lengths), batch_size, seed, 0

    def __len__(self) -> int:
        return len(self.lengths)

    def set_epoch(self, epoch: int) -> None:
        """Called by the data loader before each epoch."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self.seed * 10_007 + self.epoch)
        order = torch.randperm(len(self.lengths), generator=generator).tolist()
        width = self.batch_size * BUCKET_BATCHES
        batches = []
        for start in range(0, len(order), width):
            bucket = sorted(order[start : start + width], key=lambda index: -self.lengths[index])
            batches += [bucket[i : i + self.batch_size] for i in range(0, len(bucket), self.batch_size)]
        # A short batch anywhere but at the end would shift the borders of all that follow.
        full = [batch for batch in batches if len(batch) == self.batch_size]
        rest = [batch for batch in batches if len(batch) < self.batch_size]
        for index in torch.randperm(len(full), generator=generator).tolist():
            yield from full[index]
        for batch in rest:
            yield from batch


class SealedCheckpoints:
    """A Trainer's checkpoints by way of ``Run``, which seals them: mixed in before the Trainer's own class.

    They hold the trainable weights alone; ``train(resume_from_checkpoint=folder)`` goes on from one.
    """

    run: Run

    def _save_checkpoint(self, model: Any, trial: Any = None) -> None:
        self.run.save_checkpoint(self.state.global_step, self._write_checkpoint)

    def _write_checkpoint(self, folder: Path) -> None:
        """Trainable weights as safetensors, and the Trainer's own optimiser, schedule and generator states."""
        weights = {name: p.detach().cpu().contiguous() for name, p in self._trainable().items()}
        save_file(weights, folder / WEIGHTS)
        self._save_optimizer_and_scheduler(str(folder))
        self._save_scaler(str(folder))
        self._save_rng_state(str(folder))
        self.state.stateful_callbacks["TrainerControl"] = self.control.state()
        self.state.save_to_json(str(folder / STATE))

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        saved = load_file(Path(resume_from_checkpoint) / WEIGHTS)
        own = self._trainable()
        if {n: p.shape for n, p in own.items()} != {n: p.shape for n, p in saved.items()}:
            raise CheckpointError(
                f"The checkpoint {resume_from_checkpoint} belongs to a model of another shape. Resume with the recipe "
                "the run began with, or start anew without --resume."
            )
        with torch.no_grad():
            for name, parameter in own.items():
                parameter.copy_(saved[name])

    def _trainable(self) -> dict[str, torch.nn.Parameter]:
        return {name: p for name, p in self.model.named_parameters() if p.requires_grad}


class Exact(SealedCheckpoints):
    """What makes a Trainer over rows in memory exact; mixed in before the Trainer's own class.

    Args:
        run: receives the checkpoints; its ``resume`` says whether to go on from one.
        lengths: tokens of each training row, for bucketing.
        dtype: precision of the forward passes (see ``sawyer.compute``); weights and optimiser stay as they are.
    """

    def __init__(self, *, run: Run, lengths: Sequence[int], dtype: torch.dtype, **rest: Any) -> None:
        super().__init__(**rest)
        self.remove_callback(PrinterCallback)
        self.run, self.lengths, self.dtype = run, lengths, dtype
        self.tokens = 0

    def precision(self) -> Any:
        """Autocast for a forward pass; float16 is left to accelerate, which scales the loss as well."""
        return autocast(self.args.device, torch.float32 if self.args.fp16 else self.dtype)

    @property
    def section(self) -> str:
        """The recipe's section that the run belongs to."""
        return self.run.step.split(".")[0]

    def fit(self) -> None:
        """Train to the end, from the run's newest sound checkpoint when the run is resumed.

        Raises:
            TrainingError: the loss is not finite, or the device's memory does not suffice.
            CheckpointError: a checkpoint cannot be written, or belongs to another model.
        """
        found = self.run.latest_checkpoint()
        self.run.truncate_log(found[0] if found else -1)
        name = self.section
        by_micro_batch = name in ("sft", *PREFERENCE_METHODS)
        keys = f"{name}.micro_batch or set {name}.gradient_checkpointing" if by_micro_batch else f"{name}.batch_size"
        with enough_memory(self.run.recipe.name, f"lower {keys}, or shorten {name}.max_length"):
            self.train(resume_from_checkpoint=str(found[1]) if found else None)

    def training_step(self, model: Any, inputs: dict[str, Any], num_items_in_batch: Any = None) -> torch.Tensor:
        """One forward and backward pass; the weights are still sound when this raises."""
        self.tokens += int(sum(mask.sum() for name, mask in inputs.items() if name.endswith("attention_mask")))
        loss = super().training_step(model, inputs, num_items_in_batch)
        if not torch.isfinite(loss):
            raise TrainingError(
                f"The loss is {float(loss)} at step {self.state.global_step + 1}: lower {self.section}.lr (now "
                f"{self.args.learning_rate:g}), or set model.dtype to float32. Checkpoints up to here are intact."
            )
        return loss

    def _get_train_sampler(self, train_dataset: Any = None) -> LengthBuckets:
        return LengthBuckets(self.lengths, self.args.per_device_train_batch_size, self.args.seed)


class ExactTrainer(Exact, Trainer):
    """A Trainer of our own. Subclasses give ``compute_loss``."""


class Rows(torch.utils.data.Dataset[Any]):
    """Rows in memory, as a dataset."""

    def __init__(self, rows: Sequence[Any]) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Any:
        return self.rows[index]


def training_arguments(
    run: Run,
    spec: SftSpec | RewardSpec | ClassifierSpec | T5Spec | PreferenceSpec,
    *,
    device: torch.device,
    dtype: torch.dtype,
    micro_batch: int,
    kind: type[TrainingArguments] = TrainingArguments,
    **changes: Any,
) -> Any:
    """The Trainer's arguments, of TRL's ``kind`` for a trainer of TRL's, from a recipe section: linear decay after
    warm-up, gradient norm 1.

    Raises:
        RecipeError: ``batch_size`` is no multiple of ``micro_batch``.
    """
    micro_batch = min(micro_batch, spec.batch_size)
    if spec.batch_size % micro_batch:
        raise RecipeError(
            f"{run.step}.batch_size {spec.batch_size} is no multiple of {run.step}.micro_batch {micro_batch}: change "
            "one of them."
        )
    values: dict[str, Any] = {
        "output_dir": str(run.folder),
        "use_cpu": device.type == "cpu",
        "seed": run.recipe.seed,
        "num_train_epochs": spec.epochs,
        "per_device_train_batch_size": micro_batch,
        "gradient_accumulation_steps": spec.batch_size // micro_batch,
        "learning_rate": spec.lr,
        "lr_scheduler_type": "linear",
        "warmup_steps": min(spec.warmup, 0.999),  # a number below 1 is a share of all steps
        "weight_decay": spec.weight_decay,
        "max_grad_norm": 1.0,
        "fp16": dtype == torch.float16,
        "save_strategy": "steps",
        "save_steps": spec.save_every,
        "logging_strategy": "steps",
        "logging_steps": spec.log_every,
        "logging_nan_inf_filter": False,
        "eval_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "remove_unused_columns": False,
        "dataloader_pin_memory": device.type == "cuda",
    }
    return kind(**(values | changes))


def pad_right(rows: Sequence[Sequence[int]], value: int) -> torch.Tensor:
    """Stack lists of token ids to one int64 tensor [n, longest], filled with ``value`` on the right."""
    width = max(len(row) for row in rows)
    padded = torch.full((len(rows), width), value, dtype=torch.long)
    for index, row in enumerate(rows):
        padded[index, : len(row)] = torch.tensor(row, dtype=torch.long)
    return padded


@contextmanager
def head_only_at(head: torch.nn.Module, positions: torch.Tensor) -> Iterator[None]:
    """Let an output layer see the hidden states [n, width] at ``positions`` (bool [B, T]) instead of [B, T, width].

    In a small model with a large vocabulary this layer costs as much as all others, and a 32,000-token vocabulary
    takes half a gigabyte a micro-batch for logits that nobody reads.
    """
    handle = head.register_forward_pre_hook(lambda _, inputs: (inputs[0][positions.to(inputs[0].device)],))
    try:
        yield
    finally:
        handle.remove()


def to_device(batch: Mapping[str, Any], device: torch.device) -> dict[str, Any]:
    """Move a batch's tensors to ``device``."""
    return {key: value.to(device) for key, value in batch.items()}
