"""The reward model: a RoBERTa sequence classifier with its own tokenizer, trained on preference pairs.

Loss: -log σ(r_chosen − r_rejected − margin) (Bradley–Terry; the margin as in Llama 2, arXiv 2307.09288, section
3.2.2). Input: the tokenizer's text pair (prompt, reply), the prompt cut on its left where both are too long.
"""

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn.functional import logsigmoid
from transformers import AutoModelForSequenceClassification, AutoTokenizer, set_seed
from transformers.utils import logging as transformers_logging

from sawyer.compute import autocast, compute_dtype, pick_device, set_threads
from sawyer.data import Pair, load_pairs
from sawyer.errors import ModelError, TrainingError
from sawyer.loading import reading, refuse_pickle
from sawyer.recipe import Recipe, RewardSpec
from sawyer.runs import Run, write_json
from sawyer.scoring import longest_input, reward_text
from train.callbacks import Reporter
from train.reward_pairs import PairRow, PairRows, collate, encode_rows, prepare_rows
from train.reward_report import report, score_in_batches, with_other_prompts
from train.reward_samples import own_samples
from train.reward_scratch import scratch_start, source_texts
from train.trainer import ExactTrainer, Rows, pad_right, training_arguments

REPORT = "reward_report.json"
SCORE_BATCH = 64
SAMPLE_PAIRS = 6


def train_reward(recipe: Recipe, run: Run, backbone: Path | str | None = None, sft: Path | None = None) -> Path:
    """Train the classifier of ``recipe.reward`` and return its folder (model, tokenizer, ``reward_report.json``).

    Args:
        backbone, sft: the policy that makes ``reward.own_samples``; not needed when that is 0.

    Resumes from the run's newest sound checkpoint when the run was opened with ``resume``.

    Raises:
        DataError: a source is missing or empty.
        ModelError: ``reward.model`` cannot be loaded.
        TrainingError: nothing is left to train on, or the loss is not finite.
    """
    assert recipe.reward is not None
    spec = recipe.reward
    if spec.model is None and spec.scratch is None:
        raise TrainingError("The reward section names nothing to start from: give reward.model or reward.scratch.")
    set_threads(recipe.threads)
    device = pick_device()
    dtype = compute_dtype(recipe.model, device)
    pairs = load_pairs(spec.sources, recipe.seed) + own_samples(recipe, run, backbone, sft)
    start: Path | str = spec.model or scratch_start(recipe, run, spec, _texts(recipe, pairs),
                                                    [len(pairs), spec.own_samples])  # fmt: skip
    set_seed(recipe.seed)
    model, tokenizer = load_classifier(start, spec.max_length, revision=spec.revision if spec.model else None)
    rows = prepare_rows(pairs, tokenizer, spec)
    model.to(device)
    trainer = _trainer(recipe, run, model, tokenizer, rows, device, dtype)
    trainer.fit()
    if spec.model is None:
        round_to_bfloat16(model)
    figures = evaluate(model, tokenizer, rows, spec, recipe.seed, device)
    with run.output("model") as folder:
        save_classifier(model, tokenizer, folder, small=spec.model is None)
        write_json(folder / REPORT, {"pairs": _counts(rows), "margin": spec.margin, "held_out": figures})
    overall = figures["overall"]["accuracy"]
    told = {} if overall is None else {"held_out_accuracy": overall}
    run.finish(run.folder / "model", steps=trainer.state.global_step, pairs=_counts(rows), **told)
    return run.folder / "model"


def _texts(recipe: Recipe, pairs: Sequence[Pair]) -> Iterator[str]:
    assert recipe.reward is not None
    for pair in pairs:
        yield from (reward_text(pair.prompt), pair.chosen, pair.rejected)
    yield from source_texts(recipe.reward.text_sources, recipe.seed)


class RewardTrainer(ExactTrainer):
    """Pairwise loss; chosen and rejected replies go through the model in one forward pass."""

    loss_is_scaled_for_ga = False

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """Mean over the batch's pairs, in nats."""
        with self.precision():
            rewards = model(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"]).logits
        chosen, rejected = rewards.float().squeeze(-1).chunk(2)
        return pairwise_loss(chosen, rejected, inputs["margin"])


def pairwise_loss(chosen: torch.Tensor, rejected: torch.Tensor, margin: torch.Tensor) -> torch.Tensor:
    """Mean of -log σ(chosen − rejected − margin); all float32 [n]."""
    return -logsigmoid(chosen - rejected - margin).mean()


def load_classifier(
    start: Path | str,
    max_length: int,
    *,
    revision: str | None = None,
    labels: Sequence[str] = ("reward",),
    section: str = "reward",
) -> tuple[Any, Any]:
    """Load an encoder or classifier with an output for each of ``labels``, in float32, and its tokenizer.

    Safetensors only. ``section`` is the recipe's, for errors.

    Raises:
        ModelError: it is absent, gated, of another kind, or too short for ``max_length`` tokens.
    """
    if Path(start).is_dir():
        refuse_pickle(Path(start))
    told = transformers_logging.get_verbosity()
    # Otherwise it reports at length that the head is new, which is the point.
    transformers_logging.set_verbosity_error()
    # Said, because transformers would ask on the terminal whether to run a repository's code.
    options: dict[str, Any] = {"revision": revision, "trust_remote_code": False}
    try:
        with reading("reward model", start, f"{section}.model"):
            tokenizer = AutoTokenizer.from_pretrained(start, **options)
            model = AutoModelForSequenceClassification.from_pretrained(
                start,
                num_labels=len(labels),
                dtype=torch.float32,
                use_safetensors=True,
                # A classifier of other labels lends its encoder and gets a new head.
                ignore_mismatched_sizes=True,
                **options,
            )
    finally:
        transformers_logging.set_verbosity(told)
    if tokenizer.pad_token_id is None or not tokenizer.is_fast:
        raise ModelError(
            f"The tokenizer of the reward model {start} has no padding token, or is not a fast one. Name another "
            f"encoder in {section}.model, such as roberta-base."
        )
    limit = longest_input(model.config, tokenizer)
    if max_length > limit:
        raise ModelError(
            f"The reward model {start} reads at most {limit} tokens, but {section}.max_length is {max_length}: "
            "lower it."
        )
    tokenizer.model_max_length = max_length
    model.config.id2label = dict(enumerate(labels))
    model.config.label2id = {label: index for index, label in enumerate(labels)}
    return model, tokenizer


@torch.no_grad()
def rewards_of(
    model: Any, texts: Sequence[list[int]], pad_id: int, device: torch.device, dtype: torch.dtype
) -> np.ndarray:
    """Rewards of token lists, float32 [n]; the model is in evaluation mode."""

    def score(batch: list[list[int]]) -> np.ndarray:
        ids = pad_right(batch, pad_id).to(device)
        mask = pad_right([[1] * len(row) for row in batch], 0).to(device)
        with autocast(device, dtype):
            logits = model(input_ids=ids, attention_mask=mask).logits
        return logits.float().squeeze(-1).cpu().numpy()

    return score_in_batches(texts, score, SCORE_BATCH)


def evaluate(
    model: Any, tokenizer: Any, rows: PairRows, spec: RewardSpec, seed: int, device: torch.device
) -> dict[str, Any]:
    """The report on the held-out pairs (see ``train.reward_report``), in float32."""
    model.eval()

    def both(items: Sequence[PairRow]) -> tuple[np.ndarray, np.ndarray]:
        texts = [row.chosen for row in items] + [row.rejected for row in items]
        scores = rewards_of(model, texts, tokenizer.pad_token_id, device, torch.float32)
        return scores[: len(items)], scores[len(items) :]

    chosen, rejected = both(rows.held_out)
    moved = with_other_prompts([row.pair for row in rows.held_out], seed)
    shuffled = both(encode_rows(moved, tokenizer, spec)) if moved else None
    return report(rows.held_out, chosen, rejected, train_rows=rows.train, shuffled=shuffled)


def _trainer(
    recipe: Recipe,
    run: Run,
    model: Any,
    tokenizer: Any,
    rows: PairRows,
    device: torch.device,
    dtype: torch.dtype,
) -> RewardTrainer:
    assert recipe.reward is not None
    spec, pad_id = recipe.reward, tokenizer.pad_token_id

    def held_out(items: Sequence[PairRow]) -> tuple[np.ndarray, np.ndarray]:
        texts = [row.chosen for row in items] + [row.rejected for row in items]
        scores = rewards_of(model, texts, pad_id, device, dtype)
        return scores[: len(items)], scores[len(items) :]

    def figures() -> dict[str, float]:
        if not rows.held_out:
            return {}
        chosen, rejected = held_out(rows.held_out)
        found = report(rows.held_out, chosen, rejected, train_rows=rows.train, shuffled=None)
        matched = found["length_matched"]["accuracy"]
        extra = {} if matched is None else {"held_out_accuracy_length_matched": matched}
        return {"held_out_accuracy": found["overall"]["accuracy"], "held_out_loss": found["loss"], **extra}

    def samples() -> list[dict[str, Any]]:
        shown = (rows.held_out or rows.train)[:SAMPLE_PAIRS]
        return [_sample(row, float(c), float(r)) for row, c, r in zip(shown, *held_out(shown), strict=True)]

    trainer = RewardTrainer(
        run=run,
        lengths=[max(len(row.chosen), len(row.rejected)) for row in rows.train],
        dtype=dtype,
        model=model,
        args=training_arguments(run, spec, device=device, dtype=dtype, micro_batch=spec.batch_size),
        train_dataset=Rows(rows.train),
        data_collator=partial(collate, pad_id=pad_id),
    )
    trainer.add_callback(
        Reporter(
            run,
            tokens=lambda: trainer.tokens,
            evaluate=figures,
            sample=samples,
            sample_every=5 * spec.save_every,
        )
    )
    return trainer


def _sample(row: PairRow, chosen: float, rejected: float) -> dict[str, Any]:
    return {
        "prompt": reward_text(row.pair.prompt),
        "chosen": row.pair.chosen,
        "rejected": row.pair.rejected,
        "reward_chosen": chosen,
        "reward_rejected": rejected,
    }


def _counts(rows: PairRows) -> dict[str, Any]:
    by_source: dict[str, dict[str, int]] = {}
    for part, items in (("train", rows.train), ("held_out", rows.held_out)):
        for row in items:
            by_source.setdefault(row.pair.source, {"train": 0, "held_out": 0})[part] += 1
    return {"train": len(rows.train), "held_out": len(rows.held_out), "by_source": by_source}


def round_to_bfloat16(model: Any) -> None:
    """Round the weights to what the small file will hold, before they are judged."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(parameter.to(torch.bfloat16))


def save_classifier(model: Any, tokenizer: Any, folder: Path, *, small: bool) -> None:
    """Save model and tokenizer; ``small``: as bfloat16 safetensors whose config says float32 (as the nano base)."""
    state = {name: value.cpu().to(torch.bfloat16) if small else value for name, value in model.state_dict().items()}
    model.config.dtype = torch.float32
    model.save_pretrained(folder, state_dict=state)
    tokenizer.save_pretrained(folder)
