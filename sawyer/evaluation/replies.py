"""Asking the stages, with every reply kept in a file: an interrupted evaluation goes on where it stopped.

A prompt's random numbers come from its own seed, the same for all stages. A reply therefore depends neither on the
batch it was made in nor on what was asked before, and differences between stages carry less noise.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from sawyer.errors import UsageError
from sawyer.generation import Generation, Row, decode, finish_generation, row_seed
from sawyer.models import Policy


class ReplyCache:
    """Replies by key, one JSON line each; lines are appended as replies are made.

    Raises:
        UsageError: the file cannot be read or written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._replies: dict[str, Generation] = {}
        try:
            text = path.read_text(encoding="utf-8") if path.exists() else ""
            if text and not text.endswith("\n"):  # a line torn by a kill: what follows must not be glued to it
                with path.open("a", encoding="utf-8") as stream:
                    stream.write("\n")
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(
                f"The kept replies {path} cannot be used: {error}. Remove the file and try again."
            ) from error
        for line in text.split("\n"):  # splitlines would also split at U+2028 inside a reply
            try:
                row = json.loads(line)
                reply = Generation(list(row["ids"]), str(row["text"]), bool(row["finished"]), [])
                self._replies[row["key"]] = reply
            except (ValueError, KeyError, TypeError):
                continue  # a torn line: that reply is made again

    def get(self, key: str) -> Generation | None:
        """The reply kept under ``key``, its log-probabilities left out."""
        return self._replies.get(key)

    def add(self, rows: dict[str, Generation]) -> None:
        """Keep replies; they are on the disk when this returns."""
        lines = [
            json.dumps(
                {"key": key, "text": reply.text, "ids": reply.ids, "finished": reply.finished}, ensure_ascii=False
            )
            for key, reply in rows.items()
        ]
        try:
            with self.path.open("a", encoding="utf-8") as stream:
                stream.write("".join(f"{line}\n" for line in lines))
        except OSError as error:
            raise UsageError(
                f"The replies cannot be written to {self.path}: {error.strerror or error}. Those made so far are kept: "
                "free some space and start the evaluation again."
            ) from error
        self._replies |= rows


@dataclass(frozen=True)
class Question:
    """How a set of prompts is asked."""

    max_new_tokens: int
    temperature: float
    top_p: float
    seed: int


def ask(
    policy: Policy,
    stage: str,
    prompts: Sequence[Sequence[int]],
    question: Question,
    cache: ReplyCache,
    *,
    batch_size: int,
    tick: Callable[[int], None] = lambda done: None,
) -> list[Generation]:
    """One reply of ``stage`` to every prompt (token ids), from the cache where it is there.

    ``tick`` is called with the number of replies at hand.
    """
    stop = tuple(policy.chat.stop_strings(stage))
    rows = [
        Row(
            prompt,
            stage,
            question.max_new_tokens,
            question.temperature,
            question.top_p,
            row_seed(question.seed, index),
            stop,
        )
        for index, prompt in enumerate(prompts)
    ]
    who = digest(policy, stage)
    keys = [_key(who, row) for row in rows]
    replies = [cache.get(key) for key in keys]
    # Prompts of like length together: less padding.
    todo = sorted((i for i, reply in enumerate(replies) if reply is None), key=lambda i: len(rows[i].prompt))
    tick(len(rows) - len(todo))
    for start in range(0, len(todo), batch_size):
        places = todo[start : start + batch_size]
        made = _answer(policy, [rows[place] for place in places])
        cache.add({keys[place]: reply for place, reply in zip(places, made, strict=True)})
        for place, reply in zip(places, made, strict=True):
            replies[place] = reply
        tick(len(rows) - len(todo) + start + len(places))
    return [reply for reply in replies if reply is not None]


def digest(policy: Policy, stage: str) -> str:
    """A hash of everything of the stage that shapes its replies: backbone, precision, adapter weights and scaling."""
    spec = policy.spec
    total = hashlib.sha256(f"{policy.fingerprint}:{spec.dtype}:{spec.quantization}:{policy.device.type}".encode())
    if stage != "base":
        config = policy.model.peft_config[stage]
        total.update(f"{config.r}:{config.lora_alpha}:{config.use_rslora}".encode())
        for parameter in policy.parameters_of(stage):
            total.update(parameter.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return total.hexdigest()


def _answer(policy: Policy, rows: Sequence[Row]) -> list[Generation]:
    tokens: list[list[Any]] = [[] for _ in rows]
    for step in decode(policy, rows):
        for token in step:
            tokens[token.row].append(token)
    return [finish_generation(policy, row, made) for row, made in zip(rows, tokens, strict=True)]


def _key(who: str, row: Row) -> str:
    asked = [who, list(row.prompt), row.max_tokens, row.temperature, row.top_p, row.seed, row.stop]
    return hashlib.sha256(json.dumps(asked).encode()).hexdigest()[:32]
