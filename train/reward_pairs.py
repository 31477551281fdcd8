"""Preference pairs as token ids for the reward model: split by prompt, cut so that no reply is lost, batched."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from sawyer.data import Pair, is_held_out
from sawyer.errors import TrainingError
from sawyer.recipe import RewardSpec
from sawyer.scoring import encode_pair, reward_text
from train.trainer import pad_right


@dataclass(frozen=True)
class PairRow:
    """A pair as the classifier reads it. Lengths are those of the replies alone, in reward tokens."""

    pair: Pair
    chosen: list[int]
    rejected: list[int]
    chosen_length: int
    rejected_length: int
    margin: float = 0.0


@dataclass(frozen=True)
class PairRows:
    """The rows of a run; no prompt is in both parts."""

    train: list[PairRow]
    held_out: list[PairRow]


def split_pairs(
    pairs: Sequence[Pair], share: float, fold: int = 0, unseen: Sequence[int] = ()
) -> tuple[list[Pair], list[Pair]]:
    """Split pairs into (train, held-out) by the hash of the conversation's first user turn.

    Pairs of the folds ``unseen`` are in neither. A repeated pair (of a source whose weight is above 1) is repeated in
    training only.
    """
    train: list[Pair] = []
    held_out: dict[tuple[str, str, str], Pair] = {}
    for pair in pairs:
        if is_held_out(pair.prompt, share, fold):
            held_out.setdefault((reward_text(pair.prompt), pair.chosen, pair.rejected), pair)
        elif not any(is_held_out(pair.prompt, share, other) for other in unseen):
            train.append(pair)
    return train, list(held_out.values())


def encode_rows(pairs: Sequence[Pair], tokenizer: Any, spec: RewardSpec) -> list[PairRow]:
    """Tokenise pairs as the reward's text pair (prompt, reply), at most ``spec.max_length`` tokens each."""
    prompts = [reward_text(pair.prompt) for pair in pairs]
    chosen_lengths = reply_lengths(tokenizer, [pair.chosen for pair in pairs])
    rejected_lengths = reply_lengths(tokenizer, [pair.rejected for pair in pairs])
    return [
        PairRow(
            pair,
            encode_pair(tokenizer, prompt, pair.chosen, spec.max_length),
            encode_pair(tokenizer, prompt, pair.rejected, spec.max_length),
            chosen_lengths[index],
            rejected_lengths[index],
            (pair.margin or 0.0) if spec.margin else 0.0,
        )
        for index, (pair, prompt) in enumerate(zip(pairs, prompts, strict=True))
    ]


def reply_lengths(tokenizer: Any, replies: Sequence[str]) -> list[int]:
    """Tokens of each reply, without special tokens."""
    if not replies:
        return []
    rows = tokenizer(list(replies), add_special_tokens=False, split_special_tokens=True, verbose=False)
    return [len(ids) for ids in rows["input_ids"]]


def prepare_rows(pairs: Sequence[Pair], tokenizer: Any, spec: RewardSpec) -> PairRows:
    """Split and tokenise.

    Raises:
        TrainingError: nothing is left to train on.
    """
    train, held_out = split_pairs(pairs, spec.held_out, spec.fold, spec.unseen)
    if not train:
        raise TrainingError(
            f"None of the {len(pairs)} pairs of reward.sources is left to train on: {len(held_out)} are held out "
            f"(reward.held_out {spec.held_out:g}). Lower reward.held_out or add sources."
        )
    return PairRows(encode_rows(train, tokenizer, spec), encode_rows(held_out, tokenizer, spec))


def collate(rows: Sequence[PairRow], pad_id: int) -> dict[str, torch.Tensor]:
    """Pad n pairs to one batch: the n chosen texts, then the n rejected ones; one forward pass scores both.

    Returns:
        ``input_ids`` and ``attention_mask`` int64 [2n, longest], ``margin`` float32 [n].
    """
    texts = [row.chosen for row in rows] + [row.rejected for row in rows]
    mask = pad_right([[1] * len(ids) for ids in texts], 0)
    margin = torch.tensor([row.margin for row in rows], dtype=torch.float32)
    return {"input_ids": pad_right(texts, pad_id), "attention_mask": mask, "margin": margin}
