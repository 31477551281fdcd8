"""Scorers behind HTTP: a reward model on another machine, or any program that speaks JSON."""

import os
import time
from collections.abc import Callable, Sequence
from typing import Any

import httpx
import numpy as np

from sawyer.data_formats import Message
from sawyer.errors import TrainingError, UsageError
from sawyer.patience import GaveUpError, post
from sawyer.scoring.text import as_scores


class HttpScorer:
    """A service that takes ``{"prompts": [[message, …], …], "responses": [text, …]}`` and answers ``{"scores": […]}``.

    Args:
        url: where to POST.
        timeout: seconds a batch may take.
        retries: further tries after a lost connection, a timeout or a busy service, waiting 0.5, 1, 2, … seconds, or
            what Retry-After asks for.
        batch_size: responses in one request.
        token_env: name of the environment variable that holds a bearer token.
        sleep: waits between tries.

    Raises:
        UsageError: ``token_env`` names a variable that is not set.
    """

    def __init__(
        self,
        url: str,
        *,
        timeout: float = 30.0,
        retries: int = 3,
        batch_size: int = 32,
        token_env: str | None = None,
        transport: httpx.BaseTransport | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.url, self.retries, self.batch_size, self._sleep = url, retries, batch_size, sleep
        headers = {}
        if token_env is not None:
            if not os.environ.get(token_env):
                raise UsageError(f"The reward service {url} needs a token: set the environment variable {token_env}.")
            headers["Authorization"] = f"Bearer {os.environ[token_env]}"
        self._client = httpx.Client(timeout=timeout, headers=headers, transport=transport)

    def score(self, prompts: Sequence[Sequence[Message]], responses: Sequence[str]) -> np.ndarray:
        """The service's scores, float32 ``[n]``.

        Raises:
            TrainingError: the service cannot be reached, refuses, or answers something else than scores.
        """
        parts = [
            self._batch([list(p) for p in prompts[i : i + self.batch_size]], list(responses[i : i + self.batch_size]))
            for i in range(0, len(responses), self.batch_size)
        ]
        return np.concatenate(parts) if parts else np.zeros(0, np.float32)

    def _batch(self, prompts: list[list[Message]], responses: list[str]) -> np.ndarray:
        answer = self._post({"prompts": prompts, "responses": responses})
        try:
            scores = answer.json()["scores"]
        except (ValueError, KeyError, TypeError) as error:
            raise TrainingError(
                f"The reward service {self.url} answered {answer.text[:120]!r}; it must answer "
                '{"scores": [one number a response]}.'
            ) from error
        return as_scores(scores, len(responses), f"The reward service {self.url}")

    def _post(self, body: dict[str, Any]) -> httpx.Response:
        try:
            return post(self._client, self.url, body, retries=self.retries, sleep=self._sleep)
        except GaveUpError as error:
            raise TrainingError(
                f"The reward service {self.url} gave no scores {error}. Start or mend the service, or raise timeout or "
                "retries of this part of ppo.reward; then go on with --resume."
            ) from error
