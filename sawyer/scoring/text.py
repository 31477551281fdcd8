"""Texts as scorers see them: the protocol, and how a prompt and a response become one input."""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from sawyer.data_formats import Message
from sawyer.errors import TrainingError

WANTED = "it must give one number a response. Mend it, or name another in ppo.reward; the checkpoints so far are kept."


class TextScorer(Protocol):
    """Anything that scores responses to prompts."""

    def score(self, prompts: Sequence[Sequence[Message]], responses: Sequence[str]) -> np.ndarray:
        """Return float32 ``[n]``: one score for each response to its prompt (a list of messages)."""
        ...


def reward_text(prompt: Sequence[Message]) -> str:
    """The prompt as a reward model reads it: bare text of a single user turn, else ``role: content`` lines."""
    if len(prompt) == 1:
        return prompt[0]["content"]
    return "\n".join(f"{message['role']}: {message['content']}" for message in prompt)


def encode_pair(tokenizer: Any, prompt: str, response: str, max_length: int) -> list[int]:
    """Token ids of the pair (prompt, response): the prompt is cut on the left, the response never.

    Only a response that alone is longer than the limit is cut, at its end. No text becomes a special token.
    """
    special = tokenizer.num_special_tokens_to_add(pair=True)
    plain = {"add_special_tokens": False, "split_special_tokens": True, "verbose": False}
    first = tokenizer(prompt, **plain)["input_ids"]
    second = tokenizer(response, **plain)["input_ids"][: max_length - special]
    room = max_length - special - len(second)
    return join_pair(tokenizer, first[len(first) - room :] if len(first) > room else first, second)


def encode_single(tokenizer: Any, text: str, max_length: int) -> list[int]:
    """Token ids of one text between the tokenizer's special tokens, cut at its end. No text becomes a special token."""
    special = tokenizer.num_special_tokens_to_add(pair=False)
    ids = tokenizer(text, add_special_tokens=False, split_special_tokens=True, verbose=False)["input_ids"]
    head = [i for i in (tokenizer.cls_token_id,) if i is not None]
    end = [i for i in (tokenizer.sep_token_id,) if i is not None]
    return [*head, *ids[: max_length - special], *end]


def join_pair(tokenizer: Any, first: list[int], second: list[int]) -> list[int]:
    """Put the tokenizer's own special tokens around two id sequences."""
    cls, sep = tokenizer.cls_token_id, tokenizer.sep_token_id
    # RoBERTa: <s> a </s></s> b </s>; BERT: [CLS] a [SEP] b [SEP]. Fewer ids only when there are no such tokens.
    double = tokenizer.num_special_tokens_to_add(pair=True) == 4
    head, end = [i for i in (cls,) if i is not None], [i for i in (sep,) if i is not None]
    return [*head, *first, *end, *(end if double else []), *second, *end]


def as_scores(answer: Any, count: int, who: str) -> np.ndarray:
    """Another program's answer as float32 ``[count]``.

    Raises:
        TrainingError: it is not one number a response. NaN passes: whoever sums the scores refuses it.
    """
    try:
        scores = np.asarray(answer.detach().cpu() if hasattr(answer, "detach") else answer, dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise TrainingError(f"{who} answered {str(answer)[:120]!r}; {WANTED}") from error
    if scores.shape != (count,):
        raise TrainingError(f"{who} answered with shape {scores.shape} to {count} responses; {WANTED}")
    return scores
