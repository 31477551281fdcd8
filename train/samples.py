"""Samples to read while a policy is trained: greedy replies to a few held-out prompts."""

from collections.abc import Iterable
from typing import Any

from sawyer.chat import Message
from sawyer.generation import generate
from sawyer.models import Policy

SAMPLE_PROMPTS = 4
SAMPLE_TOKENS = 64


def greedy_samples(
    policy: Policy, stage: str, asked: Iterable[tuple[list[Message], str | None]]
) -> list[dict[str, Any]]:
    """Replies of ``stage`` to the first prompts that leave room for one, beside the reply the data give."""
    shown, prompts = [], []
    for messages, reference in asked:
        ids = policy.chat.encode_prompt(messages, stage)
        if len(ids) <= policy.context - SAMPLE_TOKENS:
            prompts.append(ids)
            shown.append((messages, reference))
        if len(prompts) == SAMPLE_PROMPTS:
            break
    if not prompts:
        return []
    stop = policy.chat.stop_strings(stage)
    replies = generate(policy, prompts, stage=stage, max_tokens=SAMPLE_TOKENS, temperature=0.0, stop=stop)
    return [
        {"prompt": messages, "reply": reply.text, "reference": reference}
        for (messages, reference), reply in zip(shown, replies, strict=True)
    ]
