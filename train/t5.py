"""A small T5 from nothing: spans of text to fill in (Raffel et al. 2020, section 3.1.4), then tasks with their answers.

For recipes that show the encoder-decoder case without a download; larger ones start from a published FLAN-T5.
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch.nn.functional import cross_entropy
from transformers import T5Config, T5ForConditionalGeneration, set_seed

from sawyer.chat import ChatFormat
from sawyer.compute import autocast, compute_dtype, pick_device, set_threads
from sawyer.data import Prompt, is_held_out, load_prompts, load_texts
from sawyer.errors import TrainingError
from sawyer.recipe import Recipe, T5Spec
from sawyer.runs import Run
from sawyer.scoring import reward_text, rouge_l
from train.callbacks import Reporter
from train.tokenizer import train_tokenizer
from train.trainer import ExactTrainer, Rows, pad_right, to_device, training_arguments

SENTINELS = 24  # marks of left-out spans, <extra_id_0> first
NOISE, SPAN = 0.15, 3.0  # share of tokens left out and mean length of a span, as T5's
IGNORED = -100
SHOWN = 4  # held-out tasks whose greedy answers are kept as samples
JUDGED = 64  # held-out tasks whose greedy answers are compared with the references at the end


@dataclass(frozen=True)
class Pair:
    """What the encoder reads and what the decoder must write, as token ids that both end with EOS."""

    source: list[int]
    target: list[int]


def train_t5(recipe: Recipe, run: Run) -> Path:
    """Train the backbone of ``recipe.t5`` and return its folder (model and tokenizer, as plain transformers load it).

    Resumes from the run's newest sound checkpoint when the run was opened with ``resume``.

    Raises:
        DataError: a source is missing or empty.
        TrainingError: no task is left to learn from, or the loss is not finite.
    """
    assert recipe.t5 is not None
    spec = recipe.t5
    set_threads(recipe.threads)
    tasks = [prompt for prompt in load_prompts(spec.tasks, recipe.seed) if prompt.reference]
    share = max(spec.held_out, recipe.ppo.held_out if recipe.ppo else 0.0)
    train = [task for task in tasks if not is_held_out(task.messages, share)]
    kept = [task for task in tasks if is_held_out(task.messages, share)]
    if not train:
        raise TrainingError(
            f"None of the {len(tasks)} tasks of t5.tasks with an answer is left to learn from: {len(kept)} are held "
            f"out (held_out {share:g}). Add tasks, or lower t5.held_out and ppo.held_out."
        )
    texts = list(_texts(spec, recipe.seed, share))
    chat = tokenizer_of(recipe, run, texts, train)
    device = pick_device()
    dtype = compute_dtype(recipe.model, device)
    set_seed(recipe.seed)
    model: Any = T5ForConditionalGeneration(config_of(recipe, chat)).to(device)
    held_out = [encode(task, chat, spec) for task in kept]
    trainer = Seq2SeqTrainer(
        run=run,
        lengths=[],
        dtype=dtype,
        model=model,
        args=training_arguments(run, spec, device=device, dtype=dtype, micro_batch=spec.batch_size, num_train_epochs=1),
        train_dataset=Rows(plan(spec, chat, texts, [encode(task, chat, spec) for task in train], recipe.seed)),
        data_collator=partial(collate, pad_id=chat.pad_id),
    )
    trainer.add_callback(
        Reporter(
            run,
            tokens=lambda: trainer.tokens,
            evaluate=lambda: {"held_out_loss": loss_of(model, held_out, chat.pad_id, dtype)} if held_out else {},
            sample=lambda: samples(model, chat, kept[:SHOWN], spec),
            sample_every=spec.sample_every,
            title="t5",
        )
    )
    trainer.fit()
    model.eval()
    judged = [rouge_l(str(row["reference"]), row["reply"]) for row in samples(model, chat, kept[:JUDGED], spec)]
    figures = {"rouge_l": sum(judged) / len(judged)} if judged else {}
    with run.output("model") as folder:
        model.save_pretrained(folder)
        chat.tokenizer.save_pretrained(folder)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    counts = {"train": len(train), "held_out": len(kept)}
    run.finish(run.folder / "model", steps=trainer.state.global_step, parameters=parameters, tasks=counts, **figures)
    return run.folder / "model"


class Seq2SeqTrainer(ExactTrainer):
    """Mean loss over the tokens of a batch's targets; rows are read in the order of the plan."""

    loss_is_scaled_for_ga = False

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """In nats a token."""
        with self.precision():
            logits = model(**inputs, use_cache=False).logits
        return cross_entropy(logits.float().flatten(0, 1), inputs["labels"].flatten(), ignore_index=IGNORED)

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        return torch.utils.data.SequentialSampler(self.train_dataset)


def tokenizer_of(recipe: Recipe, run: Run, texts: Sequence[str], tasks: Sequence[Prompt]) -> ChatFormat:
    """Train the tokenizer, or read it back from an interrupted run: EOS ends every text, sentinels mark spans."""
    from tokenizers import processors
    from transformers import AutoTokenizer

    assert recipe.t5 is not None
    spec = recipe.t5.tokenizer
    if not (run.folder / "tokenizer").exists():
        written = [text for task in tasks for text in (reward_text(task.messages), str(task.reference))]
        with run.output("tokenizer") as folder:
            tokenizer = train_tokenizer(
                [*written, *texts],
                vocab_size=spec.vocab_size - SENTINELS,
                characters=spec.characters,
                chat=recipe.model.chat,
                context=recipe.model.context,
                folder=folder,
            )
            tokenizer.add_special_tokens({"additional_special_tokens": [f"<extra_id_{n}>" for n in range(SENTINELS)]})
            eos = (tokenizer.eos_token, tokenizer.eos_token_id)
            tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
                single=f"$A {eos[0]}", pair=f"$A {eos[0]} $B {eos[0]}", special_tokens=[eos]
            )
            tokenizer.chat_template, tokenizer.padding_side = None, "right"
            (folder / "chat_template.jinja").unlink(missing_ok=True)
            tokenizer.save_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(run.folder / "tokenizer")
    return ChatFormat(tokenizer, recipe.model.chat, encoder_decoder=True)


def config_of(recipe: Recipe, chat: ChatFormat) -> T5Config:
    """T5 v1.1 of the recipe's shape (gated GELU), embeddings tied."""
    assert recipe.t5 is not None
    shape = recipe.t5.architecture
    return T5Config(
        vocab_size=len(chat.tokenizer),
        d_model=shape.hidden_size,
        d_kv=shape.hidden_size // shape.heads,
        d_ff=shape.intermediate_size,
        num_layers=shape.layers,
        num_decoder_layers=shape.layers,
        num_heads=shape.heads,
        feed_forward_proj="gated-gelu",
        dropout_rate=0.0,
        pad_token_id=chat.pad_id,
        eos_token_id=chat.eos_id,
        decoder_start_token_id=chat.pad_id,
        tie_word_embeddings=True,
    )


def encode(task: Prompt, chat: ChatFormat, spec: T5Spec) -> Pair:
    """A task's prompt and answer, each cut to the recipe's length with EOS kept."""
    source, target = chat.encode_prompt(task.messages, "base"), chat.encode_text(str(task.reference))
    return Pair([*source[:-1][: spec.max_input - 1], chat.eos_id], [*target[: spec.max_output - 1], chat.eos_id])


def plan(spec: T5Spec, chat: ChatFormat, texts: Sequence[str], tasks: Sequence[Pair], seed: int) -> list[Pair]:
    """Every row of the run in order: ``text_steps`` batches of spans, then ``epochs`` passes over the tasks.

    It depends on the recipe alone, so a resumed run finds its place again.
    """
    rows: list[Pair] = []
    if spec.text_steps:
        pieces = list(chunks(texts, chat, spec.max_input, seed))
        if not pieces:
            raise TrainingError("t5.text_steps need text, and t5.sources hold none: add sources, or set it to 0.")
        sentinels = [chat.tokenizer.convert_tokens_to_ids(f"<extra_id_{n}>") for n in range(SENTINELS)]
        for place in range(spec.text_steps * spec.batch_size):
            draw = random.Random(f"{seed}:span:{place}")
            rows.append(corrupt(pieces[place % len(pieces)], sentinels, chat.eos_id, draw))
    wanted = round(spec.epochs * len(tasks))
    while wanted > 0:
        order = random.Random(f"{seed}:tasks:{wanted}").sample(range(len(tasks)), len(tasks))
        rows += [tasks[index] for index in order[:wanted]]
        wanted -= len(tasks)
    return rows


def chunks(texts: Sequence[str], chat: ChatFormat, length: int, seed: int) -> Iterator[list[int]]:
    """Texts in random order, cut to pieces of at most ``length`` - 1 tokens; short rests are left out."""
    order = random.Random(f"{seed}:texts").sample(range(len(texts)), len(texts))
    for index in order:
        ids = chat.encode_text(texts[index])
        for start in range(0, len(ids), length - 1):
            if len(ids) - start >= 8:
                yield ids[start : start + length - 1]


def corrupt(ids: Sequence[int], sentinels: Sequence[int], eos: int, draw: random.Random) -> Pair:
    """Leave spans of a text out: the source holds a sentinel for each, the target each sentinel and its span."""
    spans = max(1, min(len(sentinels), round(len(ids) * NOISE / SPAN)))
    hidden = max(spans, round(len(ids) * NOISE))
    lengths, gaps = _split(hidden, spans, draw), _split(len(ids) - hidden, spans, draw)
    source: list[int] = []
    target: list[int] = []
    place = 0
    for sentinel, gap, length in zip(sentinels, gaps, lengths, strict=False):
        source += [*ids[place : place + gap], sentinel]
        target += [sentinel, *ids[place + gap : place + gap + length]]
        place += gap + length
    return Pair([*source, *ids[place:], eos], [*target, eos])


def collate(rows: Sequence[Pair], pad_id: int) -> dict[str, torch.Tensor]:
    """``input_ids``, ``attention_mask`` int64 [n, longest source] and ``labels`` int64 [n, longest target]."""
    return {
        "input_ids": pad_right([row.source for row in rows], pad_id),
        "attention_mask": pad_right([[1] * len(row.source) for row in rows], 0),
        "labels": pad_right([row.target for row in rows], IGNORED),
    }


@torch.no_grad()
def loss_of(model: Any, rows: Sequence[Pair], pad_id: int, dtype: torch.dtype, batch_size: int = 64) -> float:
    """Mean loss of the targets in nats a token."""
    total, count = 0.0, 0
    for start in range(0, len(rows), batch_size):
        batch = to_device(collate(rows[start : start + batch_size], pad_id), model.device)
        with autocast(model.device, dtype):
            logits = model(**batch, use_cache=False).logits
        labels = batch["labels"]
        total += float(
            cross_entropy(logits.float().flatten(0, 1), labels.flatten(), ignore_index=IGNORED, reduction="sum")
        )
        count += int((labels != IGNORED).sum())
    return total / max(count, 1)


@torch.no_grad()
def samples(model: Any, chat: ChatFormat, tasks: Sequence[Prompt], spec: T5Spec) -> list[dict[str, Any]]:
    """Greedy answers to tasks beside their references."""
    if not tasks:
        return []
    sources = [encode(task, chat, spec).source for task in tasks]
    ids = pad_right(sources, chat.pad_id).to(model.device)
    mask = pad_right([[1] * len(row) for row in sources], 0).to(model.device)
    made = model.generate(input_ids=ids, attention_mask=mask, max_new_tokens=spec.max_output, do_sample=False)
    return [
        {"prompt": task.messages, "reply": chat.tokenizer.decode(row, skip_special_tokens=True).strip(),
         "reference": task.reference}
        for task, row in zip(tasks, made, strict=True)
    ]  # fmt: skip


def _split(total: int, parts: int, draw: random.Random) -> list[int]:
    """``total`` as the sum of ``parts`` random whole numbers, each at least 1 where there is enough."""
    cuts = sorted(draw.sample(range(1, total), parts - 1)) if total > parts - 1 and parts > 1 else []
    edges = [0, *cuts, total]
    return [after - before for before, after in pairwise(edges)]


def _texts(spec: T5Spec, seed: int, share: float) -> Iterator[str]:
    for source in spec.sources:
        for text in load_texts(source, seed):
            if not (text.messages and is_held_out(text.messages, share)):
                yield text.text or "\n".join(message["content"] for message in text.messages)
