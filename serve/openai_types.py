"""OpenAI's chat completion wire format, as far as a text model can honour it.

What cannot be honoured and would change the reply (tools, penalties, JSON mode, …) is refused, with the neutral value
allowed; what changes nothing here (``user``, ``store``, ``service_tier``, …) is accepted and ignored.
Source: https://platform.openai.com/docs/api-reference/chat
"""

from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationInfo,
    model_serializer,
    model_validator,
)

from sawyer.types import FinishReason, Identifier, Messages, Request, Text

NEUTRAL: dict[str, tuple[Any, ...]] = {
    "tools": ([],),
    "functions": ([],),
    "tool_choice": ("none", "auto"),
    "function_call": ("none", "auto"),
    "logit_bias": ({},),
    "frequency_penalty": (0,),
    "presence_penalty": (0,),
    "response_format": ({"type": "text"},),
    "modalities": (["text"],),
    "audio": (),
    "prediction": (),
    "web_search_options": (),
    "moderation": (),
    "echo": (False,),
    "suffix": (),
    "best_of": (1,),
}
"""Parameters that would change the reply -> the values, beside null, with which they do not."""


def _check_neutral(value: Any, info: ValidationInfo) -> Any:
    assert info.field_name is not None
    if value is not None and value not in NEUTRAL[info.field_name]:
        raise ValueError("SAWYER's models cannot do this; leave the parameter out")
    return value


Unsupported = Annotated[Any, AfterValidator(_check_neutral)]


def _as_list(stop: Any) -> Any:
    return [] if stop is None else [stop] if isinstance(stop, str) else stop


Stop = Annotated[
    list[Annotated[Text, Field(min_length=1, max_length=64)]], Field(max_length=8), BeforeValidator(_as_list)
]
ModelName = Annotated[str, Field(min_length=1, max_length=256)]


class StreamOptions(Request):
    """``stream_options``. ``include_obfuscation`` is accepted and ignored."""

    include_usage: bool = False
    include_obfuscation: bool | None = None


class Metadata(BaseModel):
    """``metadata``: with ``turn_id``, the reply is stored as one more answer of that turn."""

    model_config = ConfigDict(extra="allow", frozen=True)

    turn_id: Identifier | None = None


class ChatRequest(Request):
    """``POST /v1/chat/completions``."""

    model: ModelName
    messages: Messages
    stream: bool | None = False
    stream_options: StreamOptions | None = None
    max_tokens: int | None = Field(None, ge=1)
    max_completion_tokens: int | None = Field(None, ge=1)
    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, gt=0, le=1)
    n: int | None = Field(1, ge=1, le=8)
    seed: int | None = Field(None, ge=-(2**63), lt=2**63)
    stop: Stop = Field(default_factory=list)
    logprobs: bool | None = False
    top_logprobs: int | None = Field(None, ge=0, le=20)
    metadata: Metadata | None = None

    @model_validator(mode="after")
    def _check_pairs(self) -> Self:
        if None not in (self.max_tokens, self.max_completion_tokens) and self.max_tokens != self.max_completion_tokens:
            raise ValueError("max_tokens and max_completion_tokens are two names of one limit; give one of them")
        if self.top_logprobs is not None and not self.logprobs:
            raise ValueError("top_logprobs is of use with logprobs true only; set it, or leave both out")
        return self

    def with_limit(self) -> "ChatRequest":
        """The same request with its limit in ``max_tokens``, whichever of OpenAI's two names it came under."""
        return self.model_copy(update={"max_tokens": self.max_tokens or self.max_completion_tokens})

    tools: Unsupported = None
    functions: Unsupported = None
    tool_choice: Unsupported = None
    function_call: Unsupported = None
    logit_bias: Unsupported = None
    frequency_penalty: Unsupported = None
    presence_penalty: Unsupported = None
    response_format: Unsupported = None
    modalities: Unsupported = None
    audio: Unsupported = None
    prediction: Unsupported = None
    web_search_options: Unsupported = None
    moderation: Unsupported = None

    parallel_tool_calls: Any = None
    prompt_cache_key: Any = None
    prompt_cache_options: Any = None
    prompt_cache_retention: Any = None
    reasoning_effort: Any = None
    safety_identifier: Any = None
    service_tier: Any = None
    store: Any = None
    user: Any = None
    verbosity: Any = None


class TopLogprob(BaseModel):
    """A likely token with its log-probability."""

    token: str
    logprob: float
    bytes: list[int]


class ChosenLogprob(TopLogprob):
    """The token that was drawn, and the likeliest ones at its place."""

    top_logprobs: list[TopLogprob] = []


class Logprobs(BaseModel):
    """``logprobs`` of a choice."""

    content: list[ChosenLogprob]
    refusal: None = None


class ReplyMessage(BaseModel):
    """The assistant's message."""

    role: Literal["assistant"] = "assistant"
    content: str
    refusal: None = None


class Choice(BaseModel):
    """One of the ``n`` replies."""

    index: int
    message: ReplyMessage
    logprobs: Logprobs | None = None
    finish_reason: FinishReason


class Usage(BaseModel):
    """Tokens read and generated, over all choices."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class ChatResponse(BaseModel):
    """The whole answer. ``metadata`` is SAWYER's: turn_id, conversation_id, completion_ids and rewards by index."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    choices: list[Choice]
    usage: Usage
    system_fingerprint: str | None = None
    metadata: dict[str, Any] = {}


class ChunkDelta(BaseModel):
    """What a chunk adds to a message."""

    role: Literal["assistant"] | None = None
    content: str | None = None

    @model_serializer(mode="wrap")
    def _without_unset(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # Clients take a null content for one that was set.
        return {name: value for name, value in serialize(self).items() if value is not None}


class ChunkChoice(BaseModel):
    """What a chunk adds to one of the replies."""

    index: int
    delta: ChunkDelta
    logprobs: Logprobs | None = None
    finish_reason: FinishReason | None = None


class ChatChunk(BaseModel):
    """One event of a streamed answer; the last before ``[DONE]`` has no choices and carries usage, if asked for."""

    id: str
    object: Literal["chat.completion.chunk"] = "chat.completion.chunk"
    created: int
    model: str
    choices: list[ChunkChoice]
    usage: Usage | None = None
    system_fingerprint: str | None = None
    metadata: dict[str, Any] | None = None
