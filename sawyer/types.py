"""Everything that crosses the HTTP interface, as pydantic models. Imports nothing but pydantic.

Requests refuse unknown keys, so that a misspelt option is an error and not silence; answers and events ignore keys
they do not know, so that an older page keeps working with a newer server.
"""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter

STAGES = ("base", "sft", "rlf")
"""The three stages in the order in which they are made and shown."""

BLIND_PANES = ("A", "B", "C")
"""What the panes of a blind comparison are called until the vote."""

VERDICTS = ("tie", "bad")
"""Votes that prefer no answer: equally good, all of them bad."""

MAX_TEXT = 200_000
"""Longest text of one message or edit, in characters; the context of the model is the limit that matters."""

Stage = Literal["base", "sft", "rlf"]
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


class CompareRequest(Request):
    """``POST /v1/compare``: the same conversation for several stages at once.

    ``messages`` is the whole shared history and ends with the user's new message. Sampling fields that are left out
    take the server's defaults (``GET /v1/info``); a missing ``seed`` is drawn by the server and stored.
    ``conversation_id`` and ``parent_turn_id`` continue an earlier turn; left out, a new conversation begins. ``stages``
    default to all that the server has; a stage that it does not have is a 404.
    """

    messages: Messages
    conversation_id: Identifier | None = None
    parent_turn_id: Identifier | None = None
    stages: Annotated[list[Identifier], Field(min_length=1, max_length=16)] | None = None
    blind: bool = Field(False, description="name the panes A, B, C in random order until the vote")
    max_tokens: int | None = Field(None, ge=1, le=32_768)
    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, gt=0, le=1)
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


class TurnEvent(Answer):
    """First event of a comparison. ``stages`` are the pane names, in the order in which to show them."""

    event: Literal["turn"] = "turn"
    turn_id: str
    conversation_id: str
    stages: list[str]


class DeltaEvent(Answer):
    """More text for one pane."""

    event: Literal["delta"] = "delta"
    stage: str
    delta: str


class DoneEvent(Answer):
    """One pane is complete and stored. ``reward`` is None without a reward model; ``version`` is None when blind."""

    event: Literal["done"] = "done"
    done: Literal[True] = True
    stage: str
    completion_id: str
    reward: float | None = None
    tokens: int
    seconds: float
    finish_reason: FinishReason
    version: str | None = None


class ErrorEvent(Answer):
    """One pane failed (``stage`` given) or the whole comparison did (``stage`` None); the other panes go on."""

    event: Literal["error"] = "error"
    stage: str | None = None
    error: ErrorDetail


class EndEvent(Answer):
    """Last event of a comparison."""

    event: Literal["end"] = "end"


CompareEvent = Annotated[TurnEvent | DeltaEvent | DoneEvent | ErrorEvent | EndEvent, Field(discriminator="event")]


def parse_event(data: str | bytes) -> TurnEvent | DeltaEvent | DoneEvent | ErrorEvent | EndEvent:
    """One ``data:`` payload of ``POST /v1/compare`` as its event.

    Raises:
        pydantic.ValidationError: it is none of the known events.
    """
    return TypeAdapter[Any](CompareEvent).validate_json(data)


class VoteRequest(Request):
    """``POST /v1/feedback/votes``. ``choice`` is a pane of the turn (a stage; A, B or C when it was blind), tie or bad.

    ``ranking`` lists panes, best first. ``edited`` is a better answer in the voter's own words. ``position`` is where
    the chosen pane stood, from 0; left out, it is its place in the turn's own order.
    """

    turn_id: Identifier
    choice: Literal["base", "sft", "rlf", "A", "B", "C", "tie", "bad"]
    voter: Identifier | None = None
    comment: Annotated[Text, Field(max_length=4000)] | None = None
    ranking: Annotated[list[Literal["base", "sft", "rlf", "A", "B", "C"]], Field(max_length=3)] | None = None
    edited: Annotated[Text, Field(min_length=1, max_length=20_000)] | None = None
    position: int | None = Field(None, ge=0, le=2)


class VoteResponse(Answer):
    """The vote is on disk. ``choice`` is the stage behind the pane; ``panes`` says which pane was which stage."""

    vote_id: str
    turn_id: str
    choice: Literal["base", "sft", "rlf", "tie", "bad"]
    panes: dict[str, Stage]
    versions: dict[str, str | None] = Field(default_factory=dict, description="pane -> adapter version")
    created: bool = Field(True, description="False: the same Idempotency-Key had stored this vote before")


class RatingRequest(Request):
    """``POST /v1/feedback/ratings``: a thumb for one completion."""

    completion_id: Identifier
    up: bool
    voter: Identifier | None = None


class RatingResponse(Answer):
    """The rating is on disk."""

    rating_id: str
    completion_id: str
    up: bool
    created: bool = True


class RatingCounts(Answer):
    """Thumbs, the newest of each voter."""

    up: int = 0
    down: int = 0


class FeedbackStats(Answer):
    """``GET /v1/feedback/stats``. ``votes`` counts the newest of each voter and turn; ``votes_cast`` all rows."""

    conversations: int = 0
    turns: int = 0
    completions: int = 0
    votes: int = 0
    votes_cast: int = 0
    voters: int = 0
    edits: int = 0
    choices: dict[str, int] = Field(default_factory=dict)
    ratings: RatingCounts = RatingCounts()
    mean_reward: dict[str, float] = Field(default_factory=dict)


class ServerInfo(Answer):
    """``GET /v1/info``: what a page needs to know before the first question."""

    name: str = Field(description="the recipe's name")
    description: str = ""
    stages: list[Stage] = Field(description="stages that can be asked, in showing order; empty until ready")
    versions: dict[str, str | None] = Field(default_factory=dict, description="stage -> adapter version")
    ready: bool
    rewards: bool = Field(description="replies are scored")
    sampling: Sampling = Field(description="defaults of the sampling settings")
    context: int = Field(description="longest prompt plus reply, in tokens")
    max_tokens: int = Field(description="largest max_tokens accepted")
    examples: list[str] = Field(default_factory=list, description="questions to start from")


class Health(Answer):
    """``GET /healthz`` and ``GET /readyz``."""

    status: Literal["ok", "loading", "failed", "draining"]
    detail: str | None = None


class ModelCard(Answer):
    """One entry of ``GET /v1/models``; ``root`` names the version behind a moving name."""

    id: str
    object: Literal["model"] = "model"
    created: int = 0
    owned_by: str = "sawyer"
    root: str | None = None


class ModelList(Answer):
    """``GET /v1/models``."""

    object: Literal["list"] = "list"
    data: list[ModelCard]
