"""ROUGE-L: how much of a reference reply a response holds, in order (Lin 2004)."""

import re
from collections.abc import Sequence

import numpy as np

from sawyer.data_formats import Message
from sawyer.errors import UsageError

WORDS = re.compile(r"[a-z0-9]+")


class RougeScorer:
    """F1 of the longest common subsequence of words of response and reference, case and punctuation ignored.

    The reference is what the last message of a prompt carries under ``reference``, as prompts read from data with a
    summary or an answer do (:attr:`sawyer.data.Prompt.asked`).
    """

    def score(self, prompts: Sequence[Sequence[Message]], responses: Sequence[str]) -> np.ndarray:
        """Float32 ``[n]``, from 0 (no word in common) to 1 (the same words in the same order).

        Raises:
            UsageError: a prompt has no reference.
        """
        references = [prompt[-1].get("reference") if prompt else None for prompt in prompts]
        lacking = next((prompt for prompt, text in zip(prompts, references, strict=True) if text is None), None)
        if lacking is not None:
            raise UsageError(
                f"A rouge part compares replies with a reference, but the prompt {lacking[-1]['content'][:80]!r} has "
                "none: give its data source a field named summary, answer or response (see 'fields')."
            )
        pairs = zip(references, responses, strict=True)
        return np.array([rouge_l(str(reference), response) for reference, response in pairs], np.float32)


def rouge_l(reference: str, response: str) -> float:
    """ROUGE-L F1 of two texts; 0 where one has no word."""
    wanted, given = WORDS.findall(reference.lower()), WORDS.findall(response.lower())
    if not wanted or not given:
        return 0.0
    row = [0] * (len(given) + 1)  # lengths of the longest common subsequences with the words of `wanted` so far
    for word in wanted:
        before = 0
        for place, other in enumerate(given, start=1):
            before, row[place] = row[place], before + 1 if word == other else max(row[place], row[place - 1])
    common = row[-1]
    return 2 * common / (len(wanted) + len(given))
