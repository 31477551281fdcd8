"""OpenAI's legacy completions wire format, as far as a text model can honour it.

Source: https://platform.openai.com/docs/api-reference/completions
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, Field

from sawyer.types import FinishReason, Request, Text
from serve.openai_types import ModelName, Stop, StreamOptions, Unsupported, Usage

MAX_PROMPTS = 32
"""Prompts of one request; with ``n`` choices each, ``MAX_CHOICES`` is the bound."""

MAX_CHOICES = 64


def _as_prompts(prompt: Any) -> Any:
    if isinstance(prompt, str):
        return [prompt]
    given = prompt[0] if isinstance(prompt, list) and prompt else None
    if isinstance(given, int | list):
        # Ids mean something in one vocabulary only, and could spell the control tokens that text cannot.
        raise ValueError("prompts are texts here; token ids are not accepted, so decode them first")
    return prompt


class CompletionRequest(Request):
    """``POST /v1/completions``: texts to be continued as they are, without roles and without a chat template."""

    model: ModelName
    prompt: Annotated[list[Text], Field(min_length=1, max_length=MAX_PROMPTS), BeforeValidator(_as_prompts)]
    stream: bool | None = False
    stream_options: StreamOptions | None = None
    max_tokens: int | None = Field(None, ge=1)
    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, gt=0, le=1)
    n: int | None = Field(1, ge=1, le=8)
    seed: int | None = Field(None, ge=-(2**63), lt=2**63)
    stop: Stop = Field(default_factory=list)
    logprobs: int | None = Field(None, ge=0, le=5)

    echo: Unsupported = None
    suffix: Unsupported = None
    best_of: Unsupported = None
    logit_bias: Unsupported = None
    frequency_penalty: Unsupported = None
    presence_penalty: Unsupported = None

    user: Any = None


class CompletionLogprobs(BaseModel):
    """Four lists, one entry a token. ``text_offset`` counts characters from the beginning of the choice's text."""

    tokens: list[str] = []
    token_logprobs: list[float] = []
    top_logprobs: list[dict[str, float]] | None = None
    text_offset: list[int] = []


class CompletionChoice(BaseModel):
    """One continuation, or what a chunk adds to it. ``index`` is prompt number times ``n`` plus choice number."""

    index: int
    text: str
    logprobs: CompletionLogprobs | None = None
    finish_reason: FinishReason | None = None


class Completion(BaseModel):
    """The whole answer, and each event of a streamed one."""

    id: str
    object: Literal["text_completion"] = "text_completion"
    created: int
    model: str
    choices: list[CompletionChoice]
    usage: Usage | None = None
    system_fingerprint: str | None = None
