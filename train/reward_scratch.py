"""A small RoBERTa from nothing: its own byte-level BPE tokenizer and, if asked, masked-language-model pretraining.

Reward models and classifiers both begin with it.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch.nn.functional import cross_entropy
from transformers import RobertaConfig, RobertaForMaskedLM, RobertaTokenizerFast, set_seed

from sawyer.compute import compute_dtype, pick_device
from sawyer.data import load_texts
from sawyer.errors import TrainingError
from sawyer.recipe import ClassifierSpec, DataSource, Recipe, RewardSpec
from sawyer.recipe.classifiers import RobertaSpec
from sawyer.runs import Run
from sawyer.scoring import reward_text
from train.callbacks import Reporter
from train.trainer import ExactTrainer, Rows, head_only_at, training_arguments

# RoBERTa's order: positions are counted from pad_token_id + 1, and loaders expect these names.
SPECIAL = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
PAD_ID, MASK_ID = 1, 4
TOKENIZER_CHARACTERS = 20_000_000
MASKED = 0.15  # BERT's share; 80 % of it <mask>, 10 % another token, 10 % unchanged
SEQUENCE = 128
BATCH = 64
PRETRAIN_LR = 1e-3


def scratch_start(
    recipe: Recipe, run: Run, spec: RewardSpec | ClassifierSpec, texts: Iterable[str], made_from: Any
) -> Path:
    """Return the folder of a fresh encoder and tokenizer for ``spec.scratch``, made once per run folder.

    Args:
        texts: what the tokenizer is trained on, and the encoder where ``spec.text_steps`` ask for it; read only when
            the folder is not there yet.
        made_from: whatever else decides what ``texts`` are (JSON); the folder's name carries it and the shape, so
            that another recipe never meets it.

    Raises:
        DataError: a source of text is missing or empty.
        TrainingError: pretraining is asked for and there is too little text.
    """
    assert spec.scratch is not None
    keys = {"scratch", "sources", "text_sources", "text_steps", "max_length"}
    told = json.dumps([recipe.seed, spec.model_dump(mode="json", include=keys), made_from])
    name = f"start-{hashlib.sha256(told.encode()).hexdigest()[:12]}"
    if (run.folder / name).exists():
        return run.folder / name
    texts = list(texts)
    tokenizer = train_tokenizer(texts, spec.scratch.vocab_size, spec.max_length)
    set_seed(recipe.seed)
    model = RobertaForMaskedLM(encoder_config(spec.scratch, tokenizer, spec.max_length, run.step))
    if spec.text_steps:
        length = min(SEQUENCE, spec.max_length)
        _pretrain(recipe, run, spec, model, chunks(texts, tokenizer, length, recipe.seed))
    with run.output(name) as folder:
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    return run.folder / name


def train_tokenizer(texts: Iterable[str], vocab_size: int, max_length: int) -> RobertaTokenizerFast:
    """Train a byte-level BPE tokenizer with RoBERTa's special tokens; ``max_length`` is recorded in it."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    # With add_prefix_space a word is the same token at the start of a text and within it.
    learner = Tokenizer(models.BPE())
    learner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=SPECIAL,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    learner.train_from_iterator(_limited(texts, TOKENIZER_CHARACTERS), trainer)
    learnt = json.loads(learner.to_str())["model"]
    return RobertaTokenizerFast(
        vocab=learnt["vocab"],
        merges=[tuple(merge) for merge in learnt["merges"]],
        add_prefix_space=True,
        model_max_length=max_length,
    )


def encoder_config(
    spec: RobertaSpec, tokenizer: RobertaTokenizerFast, max_length: int, section: str = "reward"
) -> RobertaConfig:
    """The config of the recipe's shape (``section.scratch``) for texts of at most ``max_length`` tokens.

    Attention dropout is off: on a CPU drawing its masks took a quarter of a step (measured), and hidden dropout
    regularises enough.

    Raises:
        TrainingError: ``hidden_size`` is no multiple of ``heads``.
    """
    if spec.hidden_size % spec.heads:
        raise TrainingError(
            f"{section}.scratch.hidden_size {spec.hidden_size} must be a multiple of {section}.scratch.heads "
            f"{spec.heads}."
        )
    return RobertaConfig(
        vocab_size=len(tokenizer),
        hidden_size=spec.hidden_size,
        num_hidden_layers=spec.layers,
        num_attention_heads=spec.heads,
        intermediate_size=spec.intermediate_size,
        max_position_embeddings=max_length + PAD_ID + 1,
        type_vocab_size=1,
        attention_probs_dropout_prob=0.0,
        hidden_dropout_prob=spec.dropout,
        initializer_range=spec.initializer,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )


def chunks(texts: Iterable[str], tokenizer: RobertaTokenizerFast, length: int, seed: int) -> list[list[int]]:
    """Documents joined by ``</s>`` in random order and cut to sequences of exactly ``length`` tokens, ``<s>`` first."""
    documents = [text for text in texts if text.strip()]
    order = torch.randperm(len(documents), generator=torch.Generator().manual_seed(seed)).tolist()
    stream: list[int] = []
    for start in range(0, len(order), 1000):
        batch = [documents[index] for index in order[start : start + 1000]]
        encoded = tokenizer(batch, add_special_tokens=False, split_special_tokens=True, verbose=False)
        for ids in encoded["input_ids"]:
            stream += [*ids, tokenizer.eos_token_id]
    body = length - 1
    starts = range(0, len(stream) - body + 1, body)
    return [[tokenizer.bos_token_id, *stream[start : start + body]] for start in starts]


def mask_tokens(rows: Sequence[tuple[int, list[int]]], vocab_size: int, seed: int) -> dict[str, torch.Tensor]:
    """Mask a batch of (place in the plan, ids): ``input_ids``, ``attention_mask``, ``labels``, int64 [n, length].

    Masks are drawn from (seed, place), never from a global generator: the data loader reads ahead, so a resumed run
    would draw others.
    """
    ids = torch.tensor([row for _, row in rows])
    labels = torch.full_like(ids, -100)
    inputs = ids.clone()
    for index, (place, _) in enumerate(rows):
        generator = torch.Generator().manual_seed(seed * 1_000_003 + place)
        draw = torch.rand(ids.shape[1], generator=generator)
        kind = torch.rand(ids.shape[1], generator=generator)
        other = torch.randint(len(SPECIAL), vocab_size, (ids.shape[1],), generator=generator)
        chosen = (draw < MASKED) & (ids[index] >= len(SPECIAL))
        labels[index, chosen] = ids[index, chosen]
        inputs[index, chosen & (kind < 0.8)] = MASK_ID
        random_ones = chosen & (kind >= 0.9)
        inputs[index, random_ones] = other[random_ones]
    return {"input_ids": inputs, "attention_mask": torch.ones_like(ids), "labels": labels}


class MaskedTrainer(ExactTrainer):
    """Mean loss over the masked tokens; the output layer sees only these."""

    loss_is_scaled_for_ga = False

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """Mean negative log-likelihood of the masked tokens, in nats."""
        wanted = inputs["labels"] != -100
        with self.precision(), head_only_at(model.lm_head, wanted):
            logits = model(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"]).logits
        return cross_entropy(logits.float(), inputs["labels"][wanted], reduction="sum") / wanted.sum().clamp(min=1)


def _pretrain(
    recipe: Recipe, run: Run, spec: RewardSpec | ClassifierSpec, model: RobertaForMaskedLM, rows: list[list[int]]
) -> None:
    """Train in a run folder of its own inside ``run``, with checkpoints of its own."""
    if not rows:
        raise TrainingError(
            f"{run.step}.text_steps is {spec.text_steps}, but {run.step}.sources and {run.step}.text_sources hold less "
            f"than one sequence of {SEQUENCE} tokens. Add text_sources, or set text_steps to 0."
        )
    device = pick_device()
    dtype = compute_dtype(recipe.model, device)
    inner = Run(run.folder / "pretrain", step=run.step, recipe=recipe, resume=run.resume)
    total = spec.text_steps * BATCH
    with inner:
        trainer = MaskedTrainer(
            run=inner,
            lengths=[1] * total,
            dtype=dtype,
            model=model,
            args=training_arguments(
                inner,
                spec,
                device=device,
                dtype=dtype,
                micro_batch=BATCH,
                per_device_train_batch_size=BATCH,
                gradient_accumulation_steps=1,
                num_train_epochs=1,
                learning_rate=max(spec.lr, PRETRAIN_LR),
                warmup_steps=0.06,
            ),
            # One epoch over a plan of text_steps batches, going round the text as often as it takes.
            train_dataset=Rows([(place, rows[place % len(rows)]) for place in range(total)]),
            data_collator=partial(mask_tokens, vocab_size=model.config.vocab_size, seed=recipe.seed),
        )
        trainer.add_callback(Reporter(inner, tokens=lambda: trainer.tokens, title=f"{run.step}: masked text"))
        trainer.fit()
    model.to("cpu")


def source_texts(sources: Sequence[DataSource], seed: int) -> Iterator[str]:
    """The documents of ``text_sources``, conversations as text."""
    for source in sources:
        for document in load_texts(source, seed):
            yield document.text or reward_text(document.messages)


def _limited(texts: Iterable[str], characters: int) -> Iterator[str]:
    for text in texts:
        if characters <= 0:
            return
        characters -= len(text)
        yield text
