"""What requests and answers share: stages, texts, messages, sampling, OpenAI's errors."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

STAGES = ("base", "sft", "rlf")
"""The three stages in the order in which they are made and shown."""

BLIND_PANES = ("A", "B", "C")
"""What the panes of a blind comparison are called until the vote."""

VERDICTS = ("tie", "bad")
"""Votes that prefer no answer: equally good, all of them bad."""

MAX_TEXT = 200_000
"""Longest text of one message or edit, in characters; the context of the model is the limit that matters."""

MAX_PANES = 3
"""Answers side by side, at most."""

Stage = Literal["base", "sft", "rlf"]
Verdict = Literal["tie", "bad"]
Role = Literal["system", "user", "assistant"]
FinishReason = Literal["stop", "length"]


def _replace_nul(text: str) -> str:
    # PostgreSQL cannot hold NUL. A byte-level model may have produced one in a reply that now comes back as history,
    # so it is replaced, as the store does, and not refused.
    return text.replace("\x00", "\ufffd")


def _ends_with_user(messages: list["Message"]) -> list["Message"]:
    if messages[-1].role != "user":
        raise ValueError(f"the last message must have role user, not {messages[-1].role}")
    return messages


Text = Annotated[str, Field(max_length=MAX_TEXT), AfterValidator(_replace_nul)]
PaneName = Annotated[str, Field(pattern=r"^((base|sft|rlf)(@(0|[1-9][0-9]{0,8}))?|[A-C])$")]
"""A pane of a turn: a stage, a version of one (``rlf@2``; what ships is ``@0``), or a letter when it was blind."""
Identifier = Annotated[str, Field(min_length=1, max_length=128, pattern=r"^[^\x00-\x1f]+$")]


def _join_parts(content: Any) -> Any:
    """OpenAI's other form of a message, a list of ``{"type": "text", "text": …}`` parts, as one string."""
    if not isinstance(content, list):
        return content
    texts = []
    for part in content:
        if not (isinstance(part, dict) and part.get("type") == "text" and isinstance(part.get("text"), str)):
            raise ValueError('every part must be {"type": "text", "text": "…"}; SAWYER reads text only')
        texts.append(part["text"])
    return "".join(texts)


class Request(BaseModel):
    """Base of what clients send: unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Answer(BaseModel):
    """Base of what the server sends: unknown keys are ignored by readers."""

    model_config = ConfigDict(extra="ignore", frozen=True)


class Message(BaseModel):
    """One message of a conversation. ``content`` may also be given as a list of OpenAI text parts."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    role: Annotated[Role, BeforeValidator(lambda role: "system" if role == "developer" else role)]
    content: Annotated[Text, BeforeValidator(_join_parts)]


Messages = Annotated[list[Message], Field(min_length=1, max_length=512), AfterValidator(_ends_with_user)]


class Sampling(Request):
    """How a reply is drawn. ``temperature`` 0 is greedy; the same ``seed`` gives the same text."""

    max_tokens: int = Field(96, ge=1, le=32_768, description="longest reply, in tokens")
    temperature: float = Field(0.7, ge=0, le=2)
    top_p: float = Field(0.95, gt=0, le=1)
    seed: int | None = Field(None, ge=-(2**63), lt=2**63)
    stop: list[Annotated[Text, Field(min_length=1, max_length=64)]] = Field(default_factory=list, max_length=8)


class ErrorDetail(Answer):
    """The inside of OpenAI's error shape."""

    message: str
    type: str = "invalid_request_error"
    param: str | None = None
    code: str | None = None


class ErrorBody(Answer):
    """OpenAI's error shape, the body of every answer of status 400 and above."""

    error: ErrorDetail
