"""Penalties that need no model: replies of an unwanted length, replies that repeat themselves. 0 is best."""

from collections.abc import Sequence

import numpy as np

from sawyer.data_formats import Message


class LengthScorer:
    """0 for replies of ``target`` ± ``slack`` words, else −(words beyond the slack) / target."""

    def __init__(self, target: int, slack: int = 0) -> None:
        self.target, self.slack = target, slack

    def score(self, prompts: Sequence[Sequence[Message]], responses: Sequence[str]) -> np.ndarray:
        """Float32 ``[n]``, at most 0."""
        words = np.array([len(response.split()) for response in responses], np.float32)
        beyond = np.maximum(0.0, np.abs(words - self.target) - self.slack)
        return (-beyond / self.target).astype(np.float32)


class RepetitionScorer:
    """Minus the share of a reply's word n-grams that it has used before, where above ``free``: 0 is best, −1 worst."""

    def __init__(self, ngram: int = 3, free: float = 0.0) -> None:
        self.ngram, self.free = ngram, free

    def score(self, prompts: Sequence[Sequence[Message]], responses: Sequence[str]) -> np.ndarray:
        """Float32 ``[n]``, in [−1, 0]."""
        return np.array([-max(0.0, self._share(response) - self.free) for response in responses], np.float32)

    def _share(self, response: str) -> float:
        words = response.lower().split()
        grams = [tuple(words[i : i + self.ngram]) for i in range(len(words) - self.ngram + 1)]
        return 1 - len(set(grams)) / len(grams) if grams else 0.0
