"""Pretraining a small Llama from scratch: tokenizer, token streams, warm-up / stable / decay, Muon or AdamW.

Used by the tiny and nano recipes only; larger recipes start from a published backbone. Sources of the choices:
Muon (Keller Jordan, 2024) for the matrices and AdamW for embeddings and norms; trapezoidal schedule with the best
data last (MiniCPM, arXiv 2404.06395).
"""

import math
import time
from collections.abc import Callable
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import torch
from torch.nn.functional import cross_entropy

from sawyer.chat import ChatFormat
from sawyer.compute import autocast, compute_dtype, maybe_compile, pick_device, set_threads
from sawyer.errors import TrainingError
from sawyer.progress import progress
from sawyer.recipe import BaseSpec, Recipe
from sawyer.recipe.pretraining import PhaseSpec
from sawyer.runs import Run
from train.base_data import (
    Corpus,
    Order,
    build_corpus,
    held_out_order,
    phase_order,
    read_batch,
    read_documents,
    shuffled_texts,
    source_key,
)
from train.tokenizer import train_tokenizer

SAMPLE_PROMPTS = ("The", "Once upon a time", "How do I make tea?", "### User:\nHello!\n\n### Assistant:\n")


def train_base(recipe: Recipe, run: Run) -> Path:
    """Train the backbone of ``recipe.base`` and return its folder (model, tokenizer, chat template).

    Resumes from the run's newest sound checkpoint when the run was opened with ``resume``.

    Raises:
        DataError: a source is missing or empty.
        TrainingError: the loss is not finite.
    """
    assert recipe.base is not None
    spec = recipe.base
    set_threads(recipe.threads)
    torch.manual_seed(recipe.seed)
    device = pick_device()
    chat, corpus = prepare_corpus(recipe, run)
    model = new_model(recipe, chat).to(device)
    optimizers = new_optimizers(model, spec)
    plan = _plan(spec, corpus, recipe.seed)
    total = len(plan)

    step = 0
    checkpoint = run.latest_checkpoint()
    if checkpoint:
        step, folder = checkpoint
        state = torch.load(folder / "state.pt", weights_only=True, map_location=device)
        model.load_state_dict(state["model"])
        for optimizer, saved in zip(optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
    run.truncate_log(step)

    loss_fn = _loss_of(model, device, compute_dtype(recipe.model, device))
    if spec.compile:
        loss_fn = maybe_compile(loss_fn, what="base")
    started, since = time.monotonic(), step
    with progress("base", total) as tick:
        for step in range(step + 1, total + 1):  # noqa: B020 - goes on from the checkpoint's step
            phase, order = plan[step - 1]
            scale = _schedule(step, total, spec)
            for optimizer in optimizers:
                for group in optimizer.param_groups:
                    group["lr"] = group["peak_lr"] * scale
            loss = _accumulate(loss_fn, corpus, order, phase, device)
            norm = torch.nn.utils.clip_grad_norm_(model.parameters(), spec.grad_norm)
            for optimizer in optimizers:
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
            if not math.isfinite(loss):
                raise TrainingError(f"The loss is {loss} at step {step}: lower base.lr or base.muon_lr.")
            rate = (step - since) * phase.batch_tokens / (time.monotonic() - started)
            tick(step, loss=loss, tokens_per_second=round(rate))
            if step % spec.log_every == 0 or step == total:
                run.log(step, loss=loss, lr=spec.lr * scale, grad_norm=float(norm), tokens_per_second=rate)
            if step % spec.sample_every == 0 or step == total:
                run.log(step, **_held_out_loss(loss_fn, corpus, phase, device))
                run.save_samples(step, _samples(model, chat))
            if step % spec.save_every == 0 and step < total:
                run.save_checkpoint(step, lambda folder: _save_state(folder, model, optimizers), keep=2)

    with run.output("model") as folder:
        save_model(model, chat.tokenizer, folder)
    run.finish(run.folder / "model", steps=total, parameters=sum(p.numel() for p in model.parameters()))
    return run.folder / "model"


def prepare_corpus(recipe: Recipe, run: Run) -> tuple[ChatFormat, Corpus]:
    """Train the tokenizer and tokenise the documents, or read both back from an interrupted run."""
    from transformers import AutoTokenizer

    assert recipe.base is not None
    folder, tokens = run.folder / "tokenizer", run.folder / "tokens"
    documents = read_documents(recipe)
    if not folder.exists():
        texts = shuffled_texts(documents, recipe.base.sources, recipe.seed)
        with run.output("tokenizer") as beside:
            train_tokenizer(
                texts,
                vocab_size=recipe.base.tokenizer.vocab_size,
                characters=recipe.base.tokenizer.characters,
                chat=recipe.model.chat,
                context=recipe.model.context,
                folder=beside,
            )
    chat = ChatFormat(AutoTokenizer.from_pretrained(folder), recipe.model.chat)
    with progress("tokenise", len(recipe.base.sources)) as tick:
        corpus = build_corpus(recipe, documents, chat, tokens, tick)
    return chat, corpus


def new_model(recipe: Recipe, chat: ChatFormat) -> Any:
    """A Llama of the recipe's shape with fresh float32 weights, embeddings tied."""
    from transformers import LlamaConfig, LlamaForCausalLM

    assert recipe.base is not None
    shape = recipe.base.architecture
    config = LlamaConfig(
        vocab_size=len(chat.tokenizer),
        hidden_size=shape.hidden_size,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads or shape.heads,
        intermediate_size=shape.intermediate_size,
        max_position_embeddings=recipe.model.context,
        tie_word_embeddings=True,
        bos_token_id=chat.tokenizer.bos_token_id,
        eos_token_id=chat.eos_id,
        pad_token_id=chat.pad_id,
        # Compiled plain attention is a quarter faster than the CPU's fused kernel at 256 tokens (measured).
        attn_implementation="eager",
    )
    model = LlamaForCausalLM(config)
    # Residual outputs start small, so that depth does not raise the variance of the stream (GPT-2).
    deep = 1 / math.sqrt(2 * shape.layers)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name.endswith(("o_proj.weight", "down_proj.weight")):
                weight.mul_(deep)
    return model


def new_optimizers(model: Any, spec: BaseSpec) -> list[torch.optim.Optimizer]:
    """AdamW for embeddings and norms, and Muon for the matrices (or AdamW for all)."""
    matrices = [p for n, p in model.named_parameters() if p.ndim == 2 and "embed" not in n and "lm_head" not in n]
    chosen = {id(p) for p in matrices} if spec.optimizer == "muon" else set()
    rest = [p for p in model.parameters() if id(p) not in chosen]
    adamw = torch.optim.AdamW(rest, lr=spec.lr, betas=(0.9, 0.95), weight_decay=spec.weight_decay, fused=True)
    optimizers: list[torch.optim.Optimizer] = [adamw]
    if chosen:
        optimizers.append(torch.optim.Muon(matrices, lr=spec.muon_lr, momentum=0.95, weight_decay=spec.weight_decay))
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["peak_lr"] = group["lr"]
    return optimizers


def save_model(model: Any, tokenizer: Any, folder: Path) -> None:
    """Save as bfloat16 safetensors whose config says float32: half the size, loaded as float32 everywhere.

    A tied output matrix is saved once, with the embeddings.
    """
    tied = "lm_head.weight" if model.config.tie_word_embeddings else None
    state = {name: value.to(torch.bfloat16) for name, value in model.state_dict().items() if name != tied}
    model.config.dtype = torch.float32
    model.save_pretrained(folder, state_dict=state)
    tokenizer.save_pretrained(folder)


def _plan(spec: BaseSpec, corpus: Corpus, seed: int) -> list[tuple[PhaseSpec, Order]]:
    """The sequences of every step, in order."""
    cursors = {source_key(source): 0 for source in spec.sources}
    plan = []
    for index, phase in enumerate(spec.phases):
        order = phase_order(spec, phase, corpus, seed + index, cursors)
        size = max(1, phase.batch_tokens // phase.sequence_length)
        steps = [(phase, order[start : start + size]) for start in range(0, len(order), size)]
        plan += steps[: phase.steps]
    if not plan:
        raise TrainingError("base.phases ask for fewer tokens than one step holds: raise tokens or lower batch_tokens.")
    return plan


def _schedule(step: int, total: int, spec: BaseSpec) -> float:
    """Warm-up, stable, linear decay to zero: the factor on every peak rate, in [0, 1]."""
    warm, cool = max(1.0, spec.warmup * total), max(1.0, spec.decay * total)
    return min(1.0, step / warm, (total - step + 1) / cool)


def _loss_of(model: Any, device: torch.device, dtype: torch.dtype) -> Callable[[torch.Tensor], torch.Tensor]:
    def loss(ids: torch.Tensor) -> torch.Tensor:
        with autocast(device, dtype):
            logits = model(input_ids=ids, use_cache=False).logits
        return cross_entropy(logits[:, :-1].flatten(0, 1).float(), ids[:, 1:].flatten())

    return loss


def _accumulate(
    loss_fn: Callable[[torch.Tensor], torch.Tensor],
    corpus: Corpus,
    order: Order,
    phase: PhaseSpec,
    device: torch.device,
) -> float:
    """Add up the gradients of one step's sequences; returns their mean loss in nats a token."""
    loss = 0.0
    for start in range(0, len(order), phase.micro_batch):
        rows = order[start : start + phase.micro_batch]
        ids = torch.from_numpy(read_batch(corpus.train, rows, phase.sequence_length)).to(device)
        part = loss_fn(ids) * (len(rows) / len(order))
        part.backward()
        loss += float(part.detach())
    return loss


@torch.no_grad()
def _held_out_loss(
    loss_fn: Callable[[torch.Tensor], torch.Tensor], corpus: Corpus, phase: PhaseSpec, device: torch.device
) -> dict[str, float]:
    """Mean loss on held-out sequences, nats a token: overall and by source."""
    by_source: dict[str, Order] = {}
    for row in held_out_order(corpus, phase.sequence_length):
        by_source.setdefault(row[0], []).append(row)
    losses = {}
    for key, rows in by_source.items():
        # Repeated to the shape of a training batch, so that the compiled graph serves here too.
        filled = list(islice(cycle(rows), max(phase.micro_batch, len(rows))))
        batch = read_batch(corpus.held_out, filled[: phase.micro_batch], phase.sequence_length)
        losses[key] = float(loss_fn(torch.from_numpy(batch).to(device)))
    count = sum(map(len, by_source.values()))
    mean = sum(losses[key] * len(rows) for key, rows in by_source.items()) / count
    return {"held_out_loss": mean, **{f"held_out_loss/{key}": loss for key, loss in losses.items()}}


@torch.no_grad()
def _samples(model: Any, chat: ChatFormat) -> list[dict[str, Any]]:
    """Greedy continuations of a few prompts, 40 tokens each."""
    rows = []
    model.eval()
    for prompt in SAMPLE_PROMPTS:
        ids = torch.tensor([[chat.tokenizer.bos_token_id, *chat.encode_text(prompt)]], device=model.device)
        mask = torch.ones_like(ids)
        made = model.generate(ids, attention_mask=mask, max_new_tokens=40, do_sample=False)[0, ids.shape[1] :]
        rows.append({"prompt": prompt, "reply": chat.decode(made.tolist())})
    model.train()
    return rows


def _save_state(folder: Path, model: Any, optimizers: list[torch.optim.Optimizer]) -> None:
    state = {"model": model.state_dict(), "optimizers": [optimizer.state_dict() for optimizer in optimizers]}
    torch.save(state, folder / "state.pt")
