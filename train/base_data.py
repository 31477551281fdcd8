"""Pretraining data: documents of every source as token streams, and the fixed order in which they are read.

The order is a pure function of the recipe: step s reads the same sequences whether or not the run was interrupted.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sawyer.chat import ChatFormat
from sawyer.data import Text, is_held_out, load_texts
from sawyer.errors import DataError
from sawyer.recipe import BaseSpec, DataSource, Recipe
from sawyer.recipe.pretraining import PhaseSpec

Order = list[tuple[str, int]]


@dataclass(frozen=True)
class Corpus:
    """Token streams by source name: ``train`` and ``held_out`` hold uint16 arrays, documents end with EOS."""

    train: dict[str, np.ndarray]
    held_out: dict[str, np.ndarray]


def source_key(source: DataSource) -> str:
    """Name of a source in ``phases[].weights`` and in the token files: the last part of its path."""
    return source.name.rstrip("/").rsplit("/", 1)[-1].split(".")[0]


def held_out_share(recipe: Recipe) -> float:
    """Share of conversations that no stage may train on: the largest that any section holds out."""
    sections = (recipe.sft, recipe.reward, recipe.ppo)
    return max([0.02, *(section.held_out for section in sections if section is not None)])


def read_documents(recipe: Recipe) -> dict[str, list[Text]]:
    """Read every source of the base section, conversations of the held-out share left out."""
    assert recipe.base is not None
    share = held_out_share(recipe)
    documents: dict[str, list[Text]] = {}
    for source in recipe.base.sources:
        if source_key(source) in documents:
            raise DataError(f"Two sources of base.sources share the name {source_key(source)}: name each once.")
        texts = load_texts(source, recipe.seed)
        kept = [text for text in texts if not (text.messages and is_held_out(text.messages, share))]
        documents[source_key(source)] = kept
    return documents


def plain_text(text: Text, source: DataSource) -> str:
    """The document as plain text, for training the tokenizer and for sources rendered without a template."""
    if not text.messages:
        return text.text
    if source.render == "text":
        return "\n\n".join(message["content"] for message in text.messages)
    names = {"user": "A", "assistant": "B", "system": "Note"}
    return "\n".join(f"{names[message['role']]}: {message['content']}" for message in text.messages)


def build_corpus(
    recipe: Recipe, documents: dict[str, list[Text]], chat: ChatFormat, folder: Path, say: Callable[[int], None]
) -> Corpus:
    """Tokenise all documents into ``folder`` (one array a source and part), or read them back if they are there.

    The last hundredth of a source's documents (at least one) is held out for the validation loss.
    """
    assert recipe.base is not None
    folder.mkdir(parents=True, exist_ok=True)
    train, held_out = {}, {}
    for index, source in enumerate(recipe.base.sources):
        key = source_key(source)
        parts = {part: folder / f"{key}.{part}.npy" for part in ("train", "held_out")}
        if not all(path.exists() for path in parts.values()):
            texts = documents[key]
            kept = max(1, len(texts) // 100)
            _write(parts["held_out"], texts[-kept:], source, chat)
            _write(parts["train"], texts[:-kept] or texts, source, chat)
        train[key] = np.load(parts["train"], mmap_mode="r")
        held_out[key] = np.load(parts["held_out"], mmap_mode="r")
        say(index + 1)
    return Corpus(train, held_out)


def phase_order(spec: BaseSpec, phase: PhaseSpec, corpus: Corpus, seed: int, cursors: dict[str, int]) -> Order:
    """The (source, offset) of every sequence of a phase, mixed by weight and shuffled.

    Each source is read on from ``cursors`` (advanced here) and from its beginning again when it ends.
    """
    weights = {source_key(source): source.weight for source in spec.sources}
    unknown = sorted(set(phase.weights) - set(weights))
    if unknown:
        raise DataError(
            f"base.phases weights name {', '.join(unknown)}, which is no source; sources: {', '.join(weights)}."
        )
    weights = phase.weights or weights
    total = sum(weights.values())
    length = phase.sequence_length
    order: Order = []
    for key, weight in weights.items():
        stream = len(corpus.train[key])
        for _ in range(round(phase.tokens * weight / total / length)):
            order.append((key, cursors[key]))
            cursors[key] = (cursors[key] + length) % stream
    random.Random(seed).shuffle(order)
    per_step = max(1, phase.batch_tokens // length)
    return order[: len(order) // per_step * per_step]


def read_batch(streams: dict[str, np.ndarray], order: Order, length: int) -> np.ndarray:
    """Gather sequences as int64 ``[batch, length]``; a stream is read round its end."""
    rows = [np.take(streams[key], np.arange(start, start + length), mode="wrap") for key, start in order]
    return np.stack(rows).astype(np.int64)


def held_out_order(corpus: Corpus, length: int, most: int = 8) -> Order:
    """The first sequences of every source's held-out stream, at most ``most`` each."""
    return [
        (key, start)
        for key, stream in corpus.held_out.items()
        for start in range(0, max(1, min(len(stream) - length, most * length)), length)
    ]


def _write(path: Path, texts: list[Text], source: DataSource, chat: ChatFormat) -> None:
    """Tokenise documents, each ``BOS … EOS``, and save them as one array (beside, then renamed)."""
    bos = chat.tokenizer.bos_token_id
    chunks: list[np.ndarray] = []
    for start in range(0, len(texts), 256):
        block = texts[start : start + 256]
        for ids in _encode(block, source, chat):
            chunks.append(np.asarray([*([] if ids[:1] == [bos] else [bos]), *ids, *_end(ids, chat)], np.uint16))
    beside = path.with_name(path.name + ".tmp.npy")
    np.save(beside, np.concatenate(chunks))
    beside.replace(path)


def _encode(block: list[Text], source: DataSource, chat: ChatFormat) -> list[list[int]]:
    if source.render == "chat" and any(text.messages for text in block):
        return [chat.encode_conversation(text.messages)[0] for text in block if text.messages]
    plain = [plain_text(text, source) for text in block]
    encoded = chat.tokenizer(plain, add_special_tokens=False, split_special_tokens=True)["input_ids"]
    return [ids for ids in encoded if ids]


def _end(ids: list[int], chat: ChatFormat) -> list[int]:
    return [] if ids[-1] == chat.eos_id else [chat.eos_id]


def shuffled_texts(documents: dict[str, list[Text]], sources: list[DataSource], seed: int) -> list[str]:
    """All documents' plain text in one fixed random order, each source at most as large as its weight's share.

    The tokenizer is trained on the head of this list.
    """
    total = sum(source.weight for source in sources)
    picked: list[str] = []
    budget = sum(len(documents[source_key(source)]) for source in sources)
    for source in sources:
        texts = documents[source_key(source)]
        picked += [plain_text(text, source) for text in texts[: max(50, round(budget * source.weight / total))]]
    random.Random(seed).shuffle(picked)
    return picked
