"""One question to a judge: a chat completion at any OpenAI-compatible URL, and what it cost."""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass

import httpx

from sawyer.errors import ModelError
from sawyer.patience import GaveUpError, post

TOKEN = "SAWYER_JUDGE_TOKEN"  # the environment variable that holds the bearer token, if the service wants one


@dataclass(frozen=True)
class Told:
    """What the judge wrote, and the tokens the service counted (0 where it does not say)."""

    text: str
    prompt_tokens: int
    completion_tokens: int


class ChatJudge:
    """Args: url: of the API, such as ``https://api.openai.com/v1`` or ``http://127.0.0.1:8000/v1``. model: its name."""

    def __init__(
        self,
        url: str,
        model: str,
        *,
        timeout: float = 120.0,
        retries: int = 4,
        max_tokens: int = 512,
        transport: httpx.BaseTransport | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.url, self.model, self.retries, self.max_tokens, self._sleep = (
            url.rstrip("/"),
            model,
            retries,
            max_tokens,
            sleep,
        )
        token = os.environ.get(TOKEN)
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._client = httpx.Client(timeout=timeout, headers=headers, transport=transport)

    def ask(self, text: str) -> Told:
        """One answer, as little left to chance as the service allows.

        Raises:
            ModelError: the service cannot be reached, refuses, or answers something else than a chat completion.
        """
        body = {
            "model": self.model,
            "messages": [{"role": "user", "content": text}],
            "temperature": 0,
            "max_tokens": self.max_tokens,
        }
        try:
            answer = post(self._client, f"{self.url}/chat/completions", body, retries=self.retries, sleep=self._sleep)
        except GaveUpError as error:
            raise ModelError(
                f"The judge {self.model} at {self.url} gave no answer {error}. Check --llm-judge and --llm-model, and "
                f"{TOKEN} if it needs a token. What was judged so far is kept: the same command goes on from there."
            ) from error
        try:
            read = answer.json()
            content, usage = read["choices"][0]["message"]["content"], read.get("usage") or {}
            return Told(content or "", int(usage.get("prompt_tokens", 0)), int(usage.get("completion_tokens", 0)))
        except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
            raise ModelError(
                f"The judge at {self.url} answered {answer.text[:120]!r}, which is no chat completion. Name the root "
                "of an OpenAI-compatible API in --llm-judge, such as http://127.0.0.1:8000/v1."
            ) from error
