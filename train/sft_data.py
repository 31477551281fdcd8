"""Conversations as rows of token ids with a loss mask, cut to whole turns, and padded batches of them."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from sawyer.chat import ChatFormat
from sawyer.data import Conversation, is_held_out
from sawyer.errors import TrainingError
from sawyer.recipe import SftSpec
from train.trainer import pad_right

IGNORED = -100  # label of a token without loss, as everywhere in transformers


@dataclass(frozen=True)
class Row:
    """One conversation: token ids, and a label for each (its own id, or ``IGNORED``)."""

    ids: list[int]
    labels: list[int]


@dataclass(frozen=True)
class SftRows:
    """The rows of a run. ``shortened`` lost later turns to max_length, ``dropped`` did not fit with one reply."""

    train: list[Row]
    held_out: list[Row]
    held_out_conversations: list[Conversation]
    shortened: int
    dropped: int


def split_rows(conversations: Sequence[Conversation], chat: ChatFormat, spec: SftSpec) -> SftRows:
    """Tokenise conversations and split them by the hash of their first user turn.

    A repeated conversation (a source's weight above 1) is repeated in training only.

    Raises:
        TrainingError: no conversation is left to train on.
    """
    train: list[Row] = []
    held_out: dict[tuple[int, ...], tuple[Row, Conversation]] = {}
    shortened = dropped = 0
    cache: dict[int, tuple[Row | None, bool]] = {}  # repetitions are the same object
    for conversation in conversations:
        if id(conversation) not in cache:
            cache[id(conversation)] = encode(conversation, chat, spec.max_length)
        row, cut = cache[id(conversation)]
        shortened += cut
        if row is None:
            dropped += 1
        elif is_held_out(conversation.messages, spec.held_out):
            held_out.setdefault(tuple(row.ids), (row, conversation))
        else:
            train.append(row)
    if not train:
        raise TrainingError(
            f"None of the {len(conversations)} conversations of sft.sources is left to train on: {dropped} are longer "
            f"than sft.max_length ({spec.max_length} tokens) with their first reply alone, {len(held_out)} are held "
            f"out (sft.held_out {spec.held_out:g}). Raise sft.max_length, lower sft.held_out, or add sources."
        )
    kept = list(held_out.values())
    return SftRows(train, [row for row, _ in kept], [conversation for _, conversation in kept], shortened, dropped)


def encode(conversation: Conversation, chat: ChatFormat, max_length: int) -> tuple[Row | None, bool]:
    """Tokenise a conversation, leaving out last turns until it fits; returns (row or None, whether it was cut).

    Cutting at a token would teach replies that stop in mid-sentence; cutting at a turn does not.
    """
    messages = list(conversation.messages)
    while messages:
        ids, mask = chat.encode_conversation(messages)
        if len(ids) <= max_length:
            if not any(mask):
                return None, True
            labels = [token if learn else IGNORED for token, learn in zip(ids, mask, strict=True)]
            return Row(ids, labels), len(messages) < len(conversation.messages)
        messages.pop()
        while messages and messages[-1]["role"] != "assistant":
            messages.pop()
    return None, True


def collate(rows: Sequence[Row], pad_id: int) -> dict[str, torch.Tensor]:
    """Pad rows on the right: ``input_ids``, ``attention_mask``, ``labels``, each int64 [n, longest].

    Masks come from the lengths: ``pad_id`` is often the EOS id, which does belong to replies.
    """
    ids = pad_right([row.ids for row in rows], pad_id)
    mask = pad_right([[1] * len(row.ids) for row in rows], 0)
    return {
        "input_ids": ids,
        "attention_mask": mask,
        "labels": pad_right([row.labels for row in rows], IGNORED),
    }
