"""A small T5 from nothing: copying, spans of text to fill in (Raffel et al. 2020, section 3.1.4) and first sentences,
then tasks with their answers. What its rows are made of is in ``t5_tasks``.

For recipes that show the encoder-decoder case without a download; larger ones start from a published FLAN-T5.
"""

from collections.abc import Iterator, Sequence
from functools import partial
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
from train.sentences import first_sentences
from train.t5_tasks import SENTINELS, Pair, encode, plan
from train.tokenizer import train_tokenizer
from train.trainer import ExactTrainer, Rows, pad_right, to_device, training_arguments

IGNORED = -100
# Rate of the position biases, times that of the rest: copying forms in a quarter of the steps (measured).
BIAS_RATE = 30.0
SHOWN = 4  # held-out tasks whose greedy answers are kept as samples
JUDGED = 128  # held-out tasks whose greedy answers are compared with the references at the end


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
    figures = judge(samples(model, chat, kept[:JUDGED], spec), spec)
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

    def create_optimizer(self, model: Any = None) -> Any:
        """AdamW in which T5's position biases have a rate of their own.

        They are added to attention as they are, and Adam moves a parameter by about its rate a step: at the common one
        a head takes a thousand steps to settle on the neighbouring token, and copying waits for that.
        """
        if self.optimizer is None:
            kind, options = self.get_optimizer_cls_and_kwargs(self.args)
            decayed = set(self.get_decay_parameter_names(self.model))
            groups: list[dict[str, Any]] = [
                {"params": [], "lr": self.args.learning_rate * factor, "weight_decay": decay}
                for factor in (1.0, BIAS_RATE)
                for decay in (self.args.weight_decay, 0.0)
            ]
            for name, parameter in self.model.named_parameters():
                groups[2 * ("relative_attention_bias" in name) + (name not in decayed)]["params"].append(parameter)
            self.optimizer = kind(groups, **options)
        return self.optimizer

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


def judge(rows: Sequence[dict[str, Any]], spec: T5Spec) -> dict[str, float]:
    """Mean ROUGE-L of greedy answers, and of the first sentence of each task's text; empty without rows.

    The second is the baseline that is hard to beat for news; the text is what ``lead_template`` leaves of a prompt.
    """
    if not rows:
        return {}
    before, _, after = spec.lead_template.partition("{text}")
    texts = [reward_text(row["prompt"]).removeprefix(before).removesuffix(after) for row in rows]
    answers = {"rouge_l": [row["reply"] for row in rows], "rouge_l_first_sentence": first_sentences(texts)}
    references = [str(row["reference"]) for row in rows]
    return {name: sum(map(rouge_l, references, given)) / len(rows) for name, given in answers.items()}


def _texts(spec: T5Spec, seed: int, share: float) -> Iterator[str]:
    for source in spec.sources:
        for text in load_texts(source, seed):
            if not (text.messages and is_held_out(text.messages, share)):
                yield text.text or "\n".join(message["content"] for message in text.messages)
