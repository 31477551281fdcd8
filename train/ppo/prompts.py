"""The prompts of a PPO run: read, tokenised, split, and dealt out by step number alone."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sawyer.chat import ChatFormat
from sawyer.data import is_held_out, load_prompts
from sawyer.errors import DataError
from sawyer.recipe import PpoSpec

Messages = list[dict[str, str]]


@dataclass(frozen=True)
class Task:
    """A prompt: its messages (what a reward sees, a reference included) and its token ids (what the policy sees)."""

    messages: Messages
    ids: list[int]


@dataclass(frozen=True)
class Tasks:
    """Prompts to learn from and prompts never learnt from; ``left_out`` counts those longer than ``ppo.max_prompt``."""

    train: list[Task]
    held_out: list[Task]
    left_out: int

    def deal(self, step: int, count: int, seed: int, each: int = 1) -> list[Task]:
        """The prompts of a step's ``count`` episodes, ``each`` of them for one prompt: a stretch of shuffled passes
        over ``train`` that never end.

        It depends on (step, count, seed) alone, so a resumed run needs no cursor.
        """
        dealt: list[Task] = []
        count //= each
        for place in range(step * count, (step + 1) * count):
            turn, index = divmod(place, len(self.train))
            if not dealt or index == 0:
                order = random.Random(f"{seed}:prompts:{turn}").sample(range(len(self.train)), len(self.train))
            dealt.append(self.train[order[index]])
        return [task for task in dealt for _ in range(each)]


def load_tasks(spec: PpoSpec, chat: ChatFormat, stage: str, seed: int) -> Tasks:
    """Read ``ppo.prompts`` and split them by conversation hash.

    Raises:
        DataError: a source is unusable, or no prompt is left to learn from.
    """
    train: list[Task] = []
    held_out: list[Task] = []
    prompts = load_prompts(spec.prompts, seed)
    for prompt in prompts:
        task = Task(prompt.asked, chat.encode_prompt(prompt.messages, stage))
        if 0 < len(task.ids) <= spec.max_prompt:
            (held_out if is_held_out(prompt.messages, spec.held_out) else train).append(task)
    left_out = len(prompts) - len(train) - len(held_out)
    if not train:
        raise DataError(
            f"No prompt is left to train on: of {len(prompts)} read, {left_out} are longer than ppo.max_prompt "
            f"({spec.max_prompt} tokens) and {len(held_out)} are held out (ppo.held_out {spec.held_out:g}). Raise the "
            "first, lower the second, or name more in ppo.prompts."
        )
    return Tasks(train, held_out, left_out)


def spread(rows: Sequence[Any], count: int) -> list[Any]:
    """At most ``count`` rows, evenly spread over the list."""
    if len(rows) <= count:
        return list(rows)
    return [rows[index * len(rows) // count] for index in range(count)]
