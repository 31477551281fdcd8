"""What the store hands out: plain frozen records, free of the database."""

from dataclasses import dataclass

ANSWER_STAGES = ("base", "sft", "rlf")
VERDICTS = ("tie", "bad")
CHOICES = (*ANSWER_STAGES, *VERDICTS)
UNDO = "undo"
REVIEW_STATES = ("pending", "approved", "rejected", "flagged")


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
    """Receipt of a vote: `created` is False when the same request had been stored before; `turn` as it was then."""

    vote_id: str
    created: bool
    turn: Turn


@dataclass(frozen=True)
class RatingRow:
    """Receipt of a rating: `created` is False when the same request had been stored before."""

    rating_id: str
    created: bool


@dataclass(frozen=True)
class Vote:
    """One row of the vote log. `voter` is None for an anonymous one; `created` is seconds since the epoch.

    `choice` is the stage of the chosen answer or a verdict, `completion_id` that answer. `shown` and `ranking` are
    answers too, in showing order and best first. `state` is that of the newest review.
    """

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
    name: str | None = None
    consent: bool = True
    state: str = "pending"

    @property
    def teaches(self) -> bool:
        """Whether training may use it: its voter agreed, and no reviewer rejected it or has doubts."""
        return self.consent and self.state in ("pending", "approved")


@dataclass(frozen=True)
class Rating:
    """A thumb up or down on one completion; `up` None took an earlier one back."""

    seq: int
    id: str
    completion_id: str
    voter: str | None
    up: bool | None
    created: float
    consent: bool = True
