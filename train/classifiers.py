"""The recipe's own text classifiers, of which a reward is made: RoBERTa with a tokenizer of its own, cross-entropy.

They stand in for published ones (linguistic acceptability, sentiment) where there is no network, and show how a team
trains its own.
"""

import random
import shutil
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn.functional import cross_entropy
from transformers import set_seed

from sawyer.compute import autocast, compute_dtype, pick_device, set_threads
from sawyer.data import Example, is_held_out, load_examples, load_prompts
from sawyer.errors import TrainingError
from sawyer.recipe import ClassifierSpec, Recipe
from sawyer.recipe.classifiers import CorruptSpec, SlipSpec
from sawyer.runs import Run, write_json
from sawyer.scoring import encode_single, reward_text
from train.callbacks import Reporter
from train.corruption import spoil
from train.reward_model import load_classifier, round_to_bfloat16, save_classifier
from train.reward_report import score_in_batches
from train.reward_scratch import scratch_start, source_texts
from train.sentences import source_sentences
from train.slips import loaded_words, slip
from train.trainer import ExactTrainer, Rows, pad_right, training_arguments

REPORT = "classifier_report.json"
SCORE_BATCH = 64
BUNDLE = 4  # rows of a group kept together: a group of any size must not make a batch of any size


@dataclass(frozen=True)
class Labelled:
    """A text's token ids and the number of its label."""

    ids: list[int]
    label: int


def train_classifiers(recipe: Recipe, run: Run) -> Path:
    """Train every classifier of ``recipe.classifiers``; returns a folder with a subfolder for each.

    With a run opened for resuming, finished ones are kept and the interrupted one goes on from its checkpoint.

    Raises:
        DataError: a source is missing or empty. ModelError: an encoder to start from cannot be loaded.
        TrainingError: fewer than two labels, nothing left to train on, or the loss is not finite.
    """
    assert recipe.classifiers
    set_threads(recipe.threads)
    figures: dict[str, Any] = {}
    for name, spec in recipe.classifiers.items():
        with Run(run.folder / name, step=f"classifiers.{name}", recipe=recipe, resume=run.resume) as inner:
            figures[name] = inner.finished or train_classifier(recipe, spec, inner)
    with run.output("model") as folder:
        for name in recipe.classifiers:
            shutil.copytree(run.folder / name / "model", folder / name)
    told = {name: done.get("held_out", {}).get("accuracy") for name, done in figures.items()}
    run.finish(run.folder / "model", accuracy=told)
    return run.folder / "model"


def train_classifier(recipe: Recipe, spec: ClassifierSpec, run: Run) -> dict[str, Any]:
    """Train one classifier into ``run.folder / "model"`` (model, tokenizer, report); returns the report."""
    written = load_examples(spec.sources, recipe.seed, spec.labels)
    kept = [example for example in written if example.is_held_out(spec.held_out)]
    train = [example for example in written if not example.is_held_out(spec.held_out)]
    barred = [*(example.text for example in kept), *unseen(recipe)]
    more = corrupted(spec.corrupt, barred, recipe.seed) if spec.corrupt else []
    if spec.slip:
        more += slipped(spec.slip, train, source_texts(spec.text_sources, recipe.seed), barred, recipe.seed)
    train += more
    examples = [*train, *kept]
    names = sorted({example.label for example in examples})
    if len(names) < 2:
        raise TrainingError(
            f"All {len(examples)} records of {run.step}.sources have the label {names[0]!r}: a classifier needs two or "
            "more. Add a source with others, or map the labels under 'labels'."
        )
    device = pick_device()
    dtype = compute_dtype(recipe.model, device)
    # Of sound text alone: its words are then single tokens, and what was spoilt within a word falls into pieces.
    sound = (e.text for e in train if not (spec.corrupt and e.label == spec.corrupt.spoilt))
    texts = (text for part in (sound, source_texts(spec.text_sources, recipe.seed)) for text in part)
    start: Path | str = spec.model or scratch_start(recipe, run, spec, texts, [len(train)])
    set_seed(recipe.seed)
    model, tokenizer = load_classifier(
        start, spec.max_length, revision=spec.revision if spec.model else None, labels=names, section=run.step
    )
    model.to(device)
    rows, judged = (
        [Labelled(encode_single(tokenizer, e.text, spec.max_length), names.index(e.label)) for e in part]
        for part in (train, kept)
    )
    trainer = _trainer(spec, run, model, tokenizer.pad_token_id, bundles(train, rows), judged, dtype)
    trainer.fit()
    small = spec.model is None
    if small:
        round_to_bfloat16(model)
    model.eval()
    held_out = judge(judged, predict(model, judged, tokenizer.pad_token_id, torch.float32), names)
    report = {"labels": names, "train": dict(Counter(e.label for e in train)), "held_out": held_out}
    with run.output("model") as folder:
        save_classifier(model, tokenizer, folder, small=small)
        write_json(folder / REPORT, report)
    run.finish(run.folder / "model", steps=trainer.state.global_step, **report)
    return report


def corrupted(spec: CorruptSpec, held_out: Sequence[str], seed: int) -> list[Example]:
    """Every sentence of ``spec.sources`` beside each spoilt copy of it, but for sentences in the ``held_out`` texts.

    Raises:
        TrainingError: the sources hold no whole sentence.
    """
    barred = "\n".join(held_out)
    sentences = source_sentences(spec.sources, seed)
    found = [text for text in sentences if text not in barred and len(text.split()) <= spec.longest]
    if not found:
        raise TrainingError(
            f"corrupt.sources hold no sentence of at most {spec.longest} words that ends in a mark: name "
            "other sources, or raise corrupt.longest."
        )
    others = sorted({word for text in found for word in text.rstrip(".!?").split() if word.isalpha()})
    made = []
    for copy in range(spec.copies):
        for text in found:
            group, draw = f"{copy}:{text}", random.Random(f"{seed}:spoil:{copy}:{text}")
            spoilt = spoil(text, others, draw, spec.pieces)
            made += [Example(text, spec.sound, "corrupt", group), Example(spoilt, spec.spoilt, "corrupt", group)]
    return made


def slipped(
    spec: SlipSpec, records: Sequence[Example], ordinary: Iterable[str], held_out: Sequence[str], seed: int
) -> list[Example]:
    """Sentences of ``spec.sources`` beside copies with a loaded word of ``records``, each with that word's label.

    Sentences without a place for one, and those in the ``held_out`` texts, are left out. Words that ``ordinary`` text
    has much of are not loaded.

    Raises:
        TrainingError: the records have no loaded words, or the sources no sentence for them.
    """
    barred = "\n".join(held_out)
    sentences = [text for text in source_sentences(spec.sources, seed) if text not in barred]
    words = loaded_words(records, spec.plain, [*ordinary, *sentences])
    made = []
    for copy in range(spec.copies if words else 0):
        for text in sentences:
            group, draw = f"slip:{copy}:{text}", random.Random(f"{seed}:slip:{copy}:{text}")
            label = draw.choice(sorted(words))
            changed = slip(text, draw.choice(words[label]), draw)
            if changed:
                made += [Example(text, spec.plain, "slip", group), Example(changed, label, "slip", group)]
    if not made:
        raise TrainingError(
            f"Nothing to slip in: the records have {sum(map(len, words.values()))} loaded words (after a determiner, "
            f"in no record labelled {spec.plain!r}), and slip.sources {len(sentences)} sentences. Correct slip.plain "
            "or name other sources."
        )
    return made


def unseen(recipe: Recipe) -> list[str]:
    """What PPO is judged on: the texts of the prompts it holds out, and their references."""
    if recipe.ppo is None:
        return []
    share = recipe.ppo.held_out
    prompts = [p for p in load_prompts(recipe.ppo.prompts, recipe.seed) if is_held_out(p.messages, share)]
    return [text for p in prompts for text in (reward_text(p.messages), p.reference) if text]


class ClassifierTrainer(ExactTrainer):
    """Mean cross-entropy of the labels."""

    loss_is_scaled_for_ga = False

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """Mean over the batch, in nats."""
        with self.precision():
            logits = model(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"]).logits
        return cross_entropy(logits.float(), inputs["labels"])


def bundles(examples: Sequence[Example], rows: Sequence[Labelled]) -> list[list[Labelled]]:
    """Rows of the same group together, at most ``BUNDLE`` of them: they share a batch.

    Where one text was made from another, all that their gradients do not have in common is what tells them apart.
    """
    found: dict[str, list[Labelled]] = {}
    for example, row in zip(examples, rows, strict=True):
        found.setdefault(f"group {example.group}" if example.group else f"text {example.text}", []).append(row)
    return [part[start : start + BUNDLE] for part in found.values() for start in range(0, len(part), BUNDLE)]


def collate(items: Sequence[Sequence[Labelled]], pad_id: int) -> dict[str, torch.Tensor]:
    """The rows of bundles: ``input_ids`` and ``attention_mask`` int64 [n, longest], ``labels`` int64 [n]."""
    rows = [row for item in items for row in item]
    return {
        "input_ids": pad_right([row.ids for row in rows], pad_id),
        "attention_mask": pad_right([[1] * len(row.ids) for row in rows], 0),
        "labels": torch.tensor([row.label for row in rows]),
    }


@torch.no_grad()
def predict(model: Any, rows: Sequence[Labelled], pad_id: int, dtype: torch.dtype) -> np.ndarray:
    """Number of the likeliest label of each row, float32 [n]; the model is in evaluation mode."""

    def best(batch: list[list[int]]) -> np.ndarray:
        ids = pad_right(batch, pad_id).to(model.device)
        mask = pad_right([[1] * len(row) for row in batch], 0).to(model.device)
        with autocast(model.device, dtype):
            return model(input_ids=ids, attention_mask=mask).logits.float().argmax(-1).float().cpu().numpy()

    return score_in_batches([row.ids for row in rows], best, SCORE_BATCH)


def judge(rows: Sequence[Labelled], predicted: np.ndarray, names: Sequence[str]) -> dict[str, Any]:
    """Accuracy beside the commonest label's share, Matthews correlation, and recall by label; empty without rows."""
    if not rows:
        return {}
    wanted = np.array([row.label for row in rows])
    table = np.zeros((len(names), len(names)), np.int64)
    np.add.at(table, (wanted, predicted.astype(np.int64)), 1)
    counts = table.sum(1)
    return {
        "n": len(rows),
        "accuracy": float(np.trace(table) / len(rows)),
        "commonest": float(counts.max() / len(rows)),
        "matthews": matthews(table),
        "recall": {name: float(table[i, i] / counts[i]) for i, name in enumerate(names) if counts[i]},
    }


def matthews(table: np.ndarray) -> float:
    """Matthews correlation of a confusion table int64 [wanted, predicted] (Gorodkin 2004); 0 where undefined."""
    right, total = float(np.trace(table)), float(table.sum())
    wanted, predicted = table.sum(1).astype(float), table.sum(0).astype(float)
    spread = (total**2 - (predicted**2).sum()) * (total**2 - (wanted**2).sum())
    return float((right * total - (wanted * predicted).sum()) / np.sqrt(spread)) if spread > 0 else 0.0


def _trainer(
    spec: ClassifierSpec,
    run: Run,
    model: Any,
    pad_id: int,
    rows: list[list[Labelled]],
    kept: list[Labelled],
    dtype: torch.dtype,
) -> ClassifierTrainer:
    if not rows:
        raise TrainingError(
            f"Nothing is left to train on: all {len(kept)} records of {run.step}.sources are held out ({run.step}."
            f"held_out {spec.held_out:g}). Lower it, or add sources."
        )
    names = [model.config.id2label[index] for index in range(model.config.num_labels)]

    def figures() -> dict[str, float]:
        found = judge(kept, predict(model, kept, pad_id, dtype), names)
        return {f"held_out_{key}": found[key] for key in ("accuracy", "matthews")} if found else {}

    trainer = ClassifierTrainer(
        run=run,
        lengths=[max(len(row.ids) for row in item) for item in rows],
        dtype=dtype,
        model=model,
        args=training_arguments(run, spec, device=model.device, dtype=dtype, micro_batch=spec.batch_size),
        train_dataset=Rows(rows),
        data_collator=partial(collate, pad_id=pad_id),
    )
    trainer.add_callback(Reporter(run, tokens=lambda: trainer.tokens, evaluate=figures))
    return trainer
