"""Supervised fine-tuning: a LoRA adapter on the frozen backbone, with loss on the assistant's tokens and EOS only."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch.nn.functional import cross_entropy
from transformers import set_seed

from sawyer.compute import autocast, compute_dtype, set_threads
from sawyer.data import load_conversations
from sawyer.errors import TrainingError
from sawyer.fused import can_fuse, fuse
from sawyer.models import Policy
from sawyer.recipe import Recipe
from sawyer.runs import Run
from train.callbacks import Reporter
from train.samples import greedy_samples
from train.sft_data import IGNORED, Row, SftRows, collate, split_rows
from train.trainer import ExactTrainer, Rows, head_only_at, to_device, training_arguments

STAGE = "sft"


def train_sft(recipe: Recipe, run: Run, backbone: Path | str) -> Path:
    """Train the adapter of ``recipe.sft`` on ``backbone`` and return its folder.

    Resumes from the run's newest sound checkpoint when the run was opened with ``resume``.

    Raises:
        DataError: a source is missing or empty.
        ModelError: the backbone cannot be loaded.
        TrainingError: nothing is left to train on, or the loss is not finite.
    """
    assert recipe.sft is not None
    spec = recipe.sft
    set_threads(recipe.threads)
    set_seed(recipe.seed)
    policy = Policy.load(backbone, spec=recipe.model)
    if policy.is_encoder_decoder:
        raise TrainingError(
            f"The backbone {backbone} is an encoder-decoder, and sft trains decoder-only models. Leave the sft section "
            "out: rlf then starts from the backbone itself."
        )
    rows = split_rows(load_conversations(spec.sources, recipe.seed), policy.chat, spec)
    policy.add_adapter(STAGE, recipe.lora)
    if can_fuse(policy):  # nearly twice as fast on two cores, measured on nano
        fuse(policy.model, compute_dtype(recipe.model, policy.device))
    with policy.using(STAGE, train=True):
        trainer = _trainer(recipe, run, policy, rows)
        trainer.fit()
        figures = _held_out(policy, rows, spec.micro_batch, trainer.dtype)
    with run.output("adapter") as folder:
        policy.save_adapter(STAGE, folder)
    counts = {"train": len(rows.train), "held_out": len(rows.held_out), "shortened": rows.shortened}
    steps = trainer.state.global_step
    run.finish(run.folder / "adapter", steps=steps, conversations={**counts, "dropped": rows.dropped}, **figures)
    return run.folder / "adapter"


class SftTrainer(ExactTrainer):
    """Mean loss over the replies' tokens of a whole optimiser step, however they fall into micro-batches."""

    loss_is_scaled_for_ga = True

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """Summed loss of the micro-batch over the step's number of learnt tokens."""
        with self.precision():
            loss, count = reply_loss(model, inputs)
        return loss / (count if num_items_in_batch is None else num_items_in_batch)

    def _get_num_items_in_batch(self, batch_samples: list[Any], device: torch.device) -> torch.Tensor:
        counts = [(batch["labels"][:, 1:] != IGNORED).sum() for batch in batch_samples]
        return torch.stack(counts).sum().clamp(min=1).to(device)


def reply_loss(model: Any, batch: dict[str, torch.Tensor]) -> tuple[torch.Tensor, int]:
    """Summed negative log-likelihood (float32, nats) of a batch's labelled tokens, and their number.

    The output layer runs only where a labelled token follows.
    """
    targets = batch["labels"][:, 1:]
    learnt = torch.zeros_like(batch["labels"], dtype=torch.bool)
    learnt[:, :-1] = targets != IGNORED
    with head_only_at(model.get_output_embeddings(), learnt):
        output = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], use_cache=False)
    wanted = targets[targets != IGNORED]
    return cross_entropy(output.logits.float(), wanted, reduction="sum"), len(wanted)


@torch.no_grad()
def held_out_loss(
    model: Any, rows: Sequence[Row], *, pad_id: int, batch_size: int, device: torch.device, dtype: torch.dtype
) -> float:
    """Mean loss over the learnt tokens of ``rows``, in nats a token; every token counts the same."""
    total, tokens = 0.0, 0
    ordered = sorted(rows, key=lambda row: len(row.ids))
    for start in range(0, len(ordered), batch_size):
        batch = to_device(collate(ordered[start : start + batch_size], pad_id), device)
        with autocast(device, dtype):
            loss, count = reply_loss(model, batch)
        total, tokens = total + float(loss), tokens + count
    return total / max(tokens, 1)


def _held_out(policy: Policy, rows: SftRows, batch_size: int, dtype: torch.dtype) -> dict[str, float]:
    """The held-out loss as a figure to log; nothing when nothing is held out."""
    if not rows.held_out:
        return {}
    was_training = policy.model.training
    policy.model.eval()
    loss = held_out_loss(
        policy.model,
        rows.held_out,
        pad_id=policy.chat.pad_id,
        batch_size=batch_size,
        device=policy.device,
        dtype=dtype,
    )
    policy.model.train(was_training)
    return {"held_out_loss": loss}


def _trainer(recipe: Recipe, run: Run, policy: Policy, rows: SftRows) -> SftTrainer:
    assert recipe.sft is not None
    spec = recipe.sft
    dtype = compute_dtype(recipe.model, policy.device)
    if spec.gradient_checkpointing:
        policy.model.gradient_checkpointing_enable()
    trainer = SftTrainer(
        run=run,
        lengths=[len(row.ids) for row in rows.train],
        dtype=dtype,
        model=policy.model,
        args=training_arguments(
            run, spec, device=policy.device, dtype=dtype, micro_batch=spec.micro_batch, optim=spec.optimizer
        ),
        train_dataset=Rows(rows.train),
        data_collator=partial(collate, pad_id=policy.chat.pad_id),
    )
    trainer.add_callback(
        Reporter(
            run,
            tokens=lambda: trainer.tokens,
            evaluate=lambda: _held_out(policy, rows, spec.micro_batch, dtype),
            sample=lambda: samples(policy, rows),
            sample_every=spec.sample_every,
        )
    )
    return trainer


def samples(policy: Policy, rows: SftRows) -> list[dict[str, Any]]:
    """Greedy replies of the adapter to a few held-out prompts, beside the replies the data give."""
    asked = []
    for conversation in rows.held_out_conversations:
        first = next(i for i, message in enumerate(conversation.messages) if message["role"] == "assistant")
        asked.append((conversation.messages[:first], conversation.messages[first]["content"]))
    return greedy_samples(policy, STAGE, asked)
