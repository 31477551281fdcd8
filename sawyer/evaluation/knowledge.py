"""Multiple-choice knowledge where its data are at hand: TruthfulQA (mc1) and MMLU, scored by log-probabilities.

A small seam, so that a round can refuse a candidate that has unlearnt what it knew. Each answer is scored as a reply of
the stage to the question, by its mean log-probability a token (MMLU's answers differ in length; mc1 takes the sum, as
TruthfulQA's authors do); the likeliest counts. Data: ``truthfulqa/mc_task.json(.gz)`` and ``mmlu/test/*.csv(.gz)`` in
``SAWYER_DATA``, as their authors publish them.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from sawyer.data_formats import Message
from sawyer.evaluation.benchmarks import local
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
    if local.find_data("truthfulqa/mc_task.json") is None:
        return []
    targets = [(doc["question"], doc["mc1_targets"]) for doc in local.truthfulqa()]
    return [Question(text, tuple(told["choices"]), told["labels"].index(1)) for text, told in targets]


def mmlu() -> list[Question]:
    """The test questions of all subjects; none where the folder is not at hand."""
    docs = [doc for subject in local.mmlu_subjects() for doc in local.mmlu(subject, "test")]
    return [Question(doc["question"], tuple(doc["choices"]), doc["answer"]) for doc in docs]


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
