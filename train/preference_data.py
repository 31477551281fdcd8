"""Given replies as the token ids that DPO, IPO, KTO, ORPO and SPIN learn from.

A prompt is rendered as the stages are asked and a reply as they answer, EOS included, with special tokens in texts
taken apart: the trainers get ids, never text that they would tokenise in their own way.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from sawyer.chat import ChatFormat, Message
from sawyer.data import Pair, Rated, is_held_out, load_pairs, load_rated
from sawyer.errors import TrainingError
from sawyer.recipe import PreferencePlan
from train.ppo.prompts import spread
from train.reward_pairs import split_pairs

HELD_OUT = 64  # a held-out figure is made twice in a run of one epoch: more would cost more than it tells


@dataclass(frozen=True)
class PairIds:
    """A pair as token ids; both replies end with EOS."""

    pair: Pair
    prompt: list[int]
    chosen: list[int]
    rejected: list[int]

    @property
    def length(self) -> int:
        """Tokens of the longer of the two sequences."""
        return len(self.prompt) + max(len(self.chosen), len(self.rejected))


@dataclass(frozen=True)
class RatedIds:
    """A rated reply as token ids; it ends with EOS."""

    rated: Rated
    prompt: list[int]
    reply: list[int]

    @property
    def length(self) -> int:
        """Tokens of the sequence."""
        return len(self.prompt) + len(self.reply)


@dataclass(frozen=True)
class PreferenceRows:
    """The rows of a run, pairs or rated replies; no prompt is in both parts. ``left_out`` were too long."""

    train: list[Any]
    held_out: list[Any]
    left_out: int

    def counts(self) -> dict[str, int]:
        """How many there are, for the manifest."""
        return {"train": len(self.train), "held_out": len(self.held_out), "left_out": self.left_out}

    def asked(self) -> list[tuple[list[Message], str]]:
        """The held-out prompts, each once, with the reply the data prefer: what samples are taken of."""
        rows = [(row.pair.prompt, row.pair.chosen) if isinstance(row, PairIds) else (row.rated.prompt, row.rated.reply)
                for row in self.held_out]  # fmt: skip
        return list({str(prompt): (prompt, reply) for prompt, reply in rows}.values())


def encode_reply(chat: ChatFormat, prompt: Sequence[Message], reply: str, stage: str) -> tuple[list[int], list[int]]:
    """Token ids of a prompt as ``stage`` is asked, and of a reply to it with the EOS that ends it."""
    ids, mask = chat.encode_conversation([*prompt, {"role": "assistant", "content": reply}])
    start = len(mask) - next((back for back, learn in enumerate(reversed(mask)) if not learn), len(mask))
    return chat.encode_prompt(prompt, stage), ids[start:]


def load_rows(plan: PreferencePlan, chat: ChatFormat, stage: str, context: int, seed: int) -> PreferenceRows:
    """Read the plan's data: rated replies for KTO, pairs for the others.

    Raises:
        DataError: a source is missing, unreadable or of no use.
        TrainingError: nothing is left to train on, or for KTO nothing of one kind.
    """
    if plan.method == "kto":
        return _rated_rows(plan, load_rated(plan.sources, seed), chat, stage, context)
    train, held_out = split_pairs(load_pairs(plan.sources, seed), plan.held_out)
    return pair_rows(plan, train, held_out, chat, stage, context)


def pair_rows(
    plan: PreferencePlan, train: Sequence[Pair], held_out: Sequence[Pair], chat: ChatFormat, stage: str, context: int
) -> PreferenceRows:
    """Tokenise pairs, leave out those that are too long, and take the plan's share of the others."""

    def encode(pair: Pair) -> list[PairIds]:
        prompt, chosen = encode_reply(chat, pair.prompt, pair.chosen, stage)
        return [PairIds(pair, prompt, chosen, encode_reply(chat, pair.prompt, pair.rejected, stage)[1])]

    return _fitting(plan, [encode(pair) for pair in train], [encode(pair) for pair in held_out], context)


def _rated_rows(
    plan: PreferencePlan, rated: Sequence[Rated], chat: ChatFormat, stage: str, context: int
) -> PreferenceRows:
    # The replies of one record share its prompt object: they stay together, so that a limit takes DPO's pairs.
    groups = [list(group) for _, group in groupby(rated, key=lambda row: id(row.prompt))]
    unique = {str([(row.prompt, row.reply) for row in g]): g for g in groups if is_held_out(g[0].prompt, plan.held_out)}
    train = [group for group in groups if not is_held_out(group[0].prompt, plan.held_out)]

    def encode(group: Sequence[Rated]) -> list[RatedIds]:
        return [RatedIds(row, *encode_reply(chat, row.prompt, row.reply, stage)) for row in group]

    rows = _fitting(plan, [encode(group) for group in train], [encode(group) for group in unique.values()], context)
    liked = sum(row.rated.liked for row in rows.train)
    if liked in (0, len(rows.train)):
        only, missing = ("liked", "disliked") if liked else ("disliked", "liked")
        raise TrainingError(
            f"KTO compares liked with disliked replies, and all {len(rows.train)} of {_named(plan)} are {only}: add "
            f"{missing} ones (prompt, completion, label) or pairs."
        )
    return rows


def _fitting(
    plan: PreferencePlan, train: Sequence[list[Any]], held_out: Sequence[list[Any]], context: int
) -> PreferenceRows:
    """The rows of the records of which none is too long, at most as many records as the plan allows."""
    longest = min(plan.spec.max_length or context, context)
    kept, tested = (
        [group for group in part if all(row.length <= longest for row in group)] for part in (train, held_out)
    )
    if not kept:
        raise TrainingError(
            f"Nothing of {_named(plan)} is left to train {plan.method} on: {len(held_out)} held out (a share of "
            f"{plan.held_out:g}), {len(train)} of the others longer than {longest} tokens. Add sources, raise "
            f"{plan.method}.max_length or lower {plan.method}.held_out."
        )
    left_out = len(train) + len(held_out) - len(kept) - len(tested)
    chosen = spread(kept, plan.spec.limit or len(kept)), spread(tested, HELD_OUT)
    return PreferenceRows(*([row for group in part for row in group] for part in chosen), left_out)


def _named(plan: PreferencePlan) -> str:
    """The key under which the plan's sources stand."""
    default = "sft" if plan.method == "spin" else "reward"
    return f"{plan.method if plan.spec.sources else default}.sources"
