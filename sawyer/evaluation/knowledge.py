"""Multiple-choice knowledge where its data are at hand: TruthfulQA (mc1) and MMLU, scored by log-probabilities.

A small seam, so that a round can refuse a candidate that has unlearnt what it knew. Each answer is scored as a reply of
the stage to the question, by its mean log-probability a token (MMLU's answers differ in length; mc1 takes the sum, as
TruthfulQA's authors do); the likeliest counts. Data: ``truthfulqa/mc_task.json(.gz)`` and ``mmlu/test/*.csv(.gz)`` in
``SAWYER_DATA``, as their authors publish them.
"""

import csv
import gzip
import io
import json
import os
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from sawyer.data_formats import Message
from sawyer.errors import DataError
from sawyer.logprobs import Batch, collate, response_logits, token_logprobs
from sawyer.models import Policy
from sawyer.progress import progress

BATCH = 16


@dataclass(frozen=True)
class Question:
    """A question, its answers, and the place of the right one."""

    text: str
    answers: tuple[str, ...]
    right: int


def ask_knowledge(
    policy: Policy, stages: Sequence[str], limit: int, seed: int
) -> tuple[dict[str, dict[str, np.ndarray]], list[str]]:
    """Ask the stages ``limit`` questions, drawn by ``seed``, of every test whose data are at hand.

    Returns:
        Test -> stage -> ``[n]`` of 1 (right) and 0; and the names of the tests that were not made.

    Raises:
        DataError: a file is there and cannot be read.
    """
    found, skipped = {}, []
    for name, read, mean in (("TruthfulQA", truthfulqa, False), ("MMLU", mmlu, True)):
        questions = read()
        if not questions:
            skipped.append(name)
            continue
        asked = random.Random(f"{seed}:{name}").sample(questions, min(limit, len(questions)))
        with progress(name, len(stages)) as tick:
            right = {}
            for stage in stages:
                right[stage] = np.array([choose(policy, stage, q, mean) == q.right for q in asked], dtype=np.float64)
                tick(len(right), stage=stage)
        found[name] = right
    return found, skipped


def truthfulqa() -> list[Question]:
    """The questions with one true answer (mc1); none where the file is not at hand."""
    file = _find("truthfulqa/mc_task.json")
    if file is None:
        return []
    try:
        rows = json.loads(_text(file))
        return [
            Question(r["question"], tuple(r["mc1_targets"]), list(r["mc1_targets"].values()).index(1)) for r in rows
        ]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{file} is not TruthfulQA's mc_task.json: {error}. Mend it or take it away.") from error


def mmlu() -> list[Question]:
    """The test questions of all subjects; none where the folder is not at hand."""
    root = os.environ.get("SAWYER_DATA")
    questions = []
    for file in sorted((Path(root) / "mmlu" / "test").glob("*.csv*")) if root else []:
        for row in csv.reader(io.StringIO(_text(file))):
            if len(row) != 6 or row[5] not in tuple("ABCD"):
                raise DataError(
                    f"{file} is not a subject of MMLU: a row has {len(row)} fields instead of question, four answers "
                    "and A, B, C or D. Mend it or take it away."
                )
            questions.append(Question(row[0], tuple(row[1:5]), "ABCD".index(row[5])))
    return questions


@torch.inference_mode()
def choose(policy: Policy, stage: str, question: Question, mean: bool) -> int:
    """The place of the answer that the stage finds likeliest, -1 where the question is too long for it."""
    messages: list[Message] = [{"role": "user", "content": question.text}]
    prompt = policy.chat.encode_prompt(messages, stage)
    replies = [policy.chat.encode_text(answer) for answer in question.answers]
    if len(prompt) + max(map(len, replies)) > policy.context or not all(replies):
        return -1
    scores: list[float] = []
    start = policy.model.config.decoder_start_token_id if policy.is_encoder_decoder else None
    for first in range(0, len(replies), BATCH):
        part = replies[first : first + BATCH]
        batch = collate([prompt] * len(part), part, policy.chat.pad_id)
        batch = Batch(*(tensor.to(policy.device) for tensor in batch))
        with policy.using(stage) as model:
            logits, _ = response_logits(model, batch, decoder_start=start)
        told = torch.where(batch.response_mask, token_logprobs(logits, batch.responses, 1.0), 0.0).double().sum(1)
        scores += (told / torch.tensor([len(ids) if mean else 1 for ids in part], device=told.device)).tolist()
    return int(np.argmax(scores))


def _find(name: str) -> Path | None:
    root = os.environ.get("SAWYER_DATA")
    places = [Path(root) / name, Path(root) / f"{name}.gz"] if root else []
    return next((place for place in places if place.is_file()), None)


def _text(file: Path) -> str:
    try:
        if file.suffix == ".gz":
            with gzip.open(file, "rt", encoding="utf-8-sig") as stream:
                return stream.read()
        return file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError, EOFError) as error:
        raise DataError(f"{file} cannot be read: {error}.") from error
