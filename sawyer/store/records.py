"""What the store hands out: plain frozen records, free of the database."""

from dataclasses import dataclass

ANSWER_STAGES = ("base", "sft", "rlf")
CHOICES = (*ANSWER_STAGES, "tie", "bad")
UNDO = "undo"


@dataclass(frozen=True)
class Completion:
    """One stage's answer in a turn. `reward` is None until it has been scored."""

    id: str
    turn_id: str
    stage: str
    adapter_version: str | None
    prompt_text: str
    sampling: dict
    seed: int | None
    text: str
    tokens: int
    finish_reason: str | None
    seconds: float | None
    reward: float | None
    created: float


@dataclass(frozen=True)
class Turn:
    """One user message with its history (`messages`) and every answer given to it, oldest first."""

    id: str
    conversation_id: str
    parent_id: str | None
    messages: list[dict]
    created: float
    completions: tuple[Completion, ...]


@dataclass(frozen=True)
class VoteRow:
    """Receipt of a vote: `created` is False when the same request had been stored before."""

    vote_id: str
    created: bool


@dataclass(frozen=True)
class RatingRow:
    """Receipt of a rating: `created` is False when the same request had been stored before."""

    rating_id: str
    created: bool


@dataclass(frozen=True)
class Vote:
    """One row of the vote log. `voter` is None for an anonymous one; `created` is seconds since the epoch."""

    seq: int
    id: str
    turn_id: str
    voter: str | None
    choice: str
    completion_id: str | None
    shown: list[str]
    ranking: list[str] | None
    edited: str | None
    comment: str | None
    position: int | None
    created: float


@dataclass(frozen=True)
class Rating:
    """A thumb up or down on one completion."""

    seq: int
    id: str
    completion_id: str
    voter: str | None
    up: bool
    created: float
