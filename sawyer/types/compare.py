"""``POST /v1/compare``: the question, and the events of its answer."""

from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter

from sawyer.types.common import MAX_PANES, Answer, ErrorDetail, FinishReason, Identifier, Messages, Request, Text


class CompareRequest(Request):
    """``POST /v1/compare``: the same conversation for several stages at once.

    ``messages`` is the whole shared history and ends with the user's new message. Sampling fields that are left out
    take the server's defaults (``GET /v1/info``); a missing ``seed`` is drawn by the server and stored.
    ``conversation_id`` and ``parent_turn_id`` continue an earlier turn; left out, a new conversation begins. ``stages``
    are stages or versions (``rlf@2``), at most three, and default to the stages that the server has; one that it does
    not have is a 404.

    ``turn_id`` answers an earlier turn anew, all of its panes or those in ``stages``; ``messages`` must be that turn's.
    A blind turn stays blind: its panes are named by their letters and keep what stands behind them.
    """

    messages: Messages
    conversation_id: Identifier | None = None
    parent_turn_id: Identifier | None = None
    turn_id: Identifier | None = None
    stages: Annotated[list[Identifier], Field(min_length=1, max_length=MAX_PANES)] | None = None
    blind: bool = Field(False, description="name the panes A, B, C in random order until the vote")
    max_tokens: int | None = Field(None, ge=1, le=32_768)
    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, gt=0, le=1)
    seed: int | None = Field(None, ge=-(2**63), lt=2**63)
    stop: list[Annotated[Text, Field(min_length=1, max_length=64)]] = Field(default_factory=list, max_length=8)


class TurnEvent(Answer):
    """First event of a comparison. ``stages`` are the pane names, in the order in which to show them."""

    event: Literal["turn"] = "turn"
    turn_id: str
    conversation_id: str
    stages: list[str]


class QueuedEvent(Answer):
    """The question waits for room in the engine: ``ahead`` questions of others come first. Told when it changes."""

    event: Literal["queued"] = "queued"
    ahead: int


class DeltaEvent(Answer):
    """More text for one pane."""

    event: Literal["delta"] = "delta"
    stage: str
    delta: str


class DoneEvent(Answer):
    """One pane is complete and stored. ``reward`` is None without a reward model; ``version`` is None when blind.

    ``parts`` are the raw scores that the reward is the sum of, where it has several.
    """

    event: Literal["done"] = "done"
    done: Literal[True] = True
    stage: str
    completion_id: str
    reward: float | None = None
    parts: dict[str, float] = Field(default_factory=dict)
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


AnyCompareEvent = TurnEvent | QueuedEvent | DeltaEvent | DoneEvent | ErrorEvent | EndEvent
CompareEvent = Annotated[AnyCompareEvent, Field(discriminator="event")]


def parse_event(data: str | bytes) -> AnyCompareEvent:
    """One ``data:`` payload of ``POST /v1/compare`` as its event.

    Raises:
        pydantic.ValidationError: it is none of the known events.
    """
    return TypeAdapter[Any](CompareEvent).validate_json(data)
