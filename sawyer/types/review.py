"""``/v1/admin/…``: reading feedback through, deciding on it, and which versions are served."""

from typing import Annotated, Literal

from pydantic import Field

from sawyer.types.common import Answer, Identifier, Message, Request, Stage, Text

ReviewState = Literal["pending", "approved", "rejected", "flagged"]
"""Rejected votes train nothing and count nowhere. Flagged ones wait for a decision and train nothing until then."""

Finding = Literal["duplicate", "too_fast", "one_position", "contradicts", "disagrees"]
"""What a machine noticed: the same question voted on before by this voter, a vote quicker than the answers can be read,
a voter who always picks one place, votes that contradict each other, a voter who disagrees with all others."""


class AnswerShown(Answer):
    """One answer of a turn as it was shown; ``pane`` is its letter when the turn was blind."""

    completion_id: str
    stage: Stage
    version: str | None = None
    pane: str | None = None
    text: str
    tokens: int
    reward: float | None = None


class FeedbackItem(Answer):
    """One counting vote with everything a reviewer needs. ``seconds``: from the last answer's end to the vote."""

    vote_id: str
    turn_id: str
    conversation_id: str
    created: float
    voter: str | None = None
    name: str | None = None
    choice: Stage | Literal["tie", "bad"]
    completion_id: str | None = Field(None, description="the chosen answer")
    messages: list[Message]
    answers: list[AnswerShown]
    ranking: list[str] | None = None
    edited: str | None = None
    comment: str | None = None
    position: int | None = None
    blind: bool = False
    consent: bool = True
    seconds: float | None = None
    findings: list[Finding] = Field(default_factory=list)
    state: ReviewState = "pending"
    note: str | None = None
    reviewer: str | None = None


class FeedbackFilter(Request):
    """What to show, as query parameters; ``text`` is searched in questions, answers, edits, comments and names."""

    state: ReviewState | None = None
    choice: Literal["base", "sft", "rlf", "tie", "bad"] | None = None
    voter: Identifier | None = None
    finding: Finding | None = None
    text: Annotated[Text, Field(max_length=200)] | None = None
    blind: bool | None = None
    edited: bool | None = Field(None, description="only votes with (without) an edited answer")
    since: float | None = Field(None, description="seconds since the epoch")
    until: float | None = None


class FeedbackPage(Answer):
    """``GET /v1/admin/feedback``, newest first. ``next`` goes into ``before`` for the page after this one."""

    total: int
    items: list[FeedbackItem]
    next: str | None = None


class ReviewRequest(Request):
    """``POST /v1/admin/reviews``: the same decision for up to 500 votes. The newest review of a vote counts."""

    vote_ids: Annotated[list[Identifier], Field(min_length=1, max_length=500)]
    state: ReviewState
    note: Annotated[Text, Field(max_length=2000)] | None = None


class ReviewResponse(Answer):
    """The reviews are on disk."""

    reviewed: int
    state: ReviewState


class RedactRequest(Request):
    """``POST /v1/admin/redact``: put ``[redacted]`` in place of ``text`` wherever a conversation holds it.

    In its questions, answers, prompts, edits and comments, whatever the case. This cannot be undone.
    """

    conversation_id: Identifier
    text: Annotated[Text, Field(min_length=2, max_length=20_000)]
    note: Annotated[Text, Field(max_length=2000)] | None = None


class RedactResponse(Answer):
    """How many places were blacked out."""

    conversation_id: str
    places: int


class VoterSummary(Answer):
    """One voter: how much, how fast, where, and how far others agree (share of shared questions, None: none shared)."""

    voter: str | None = None
    name: str | None = None
    votes: int
    first: float
    last: float
    median_seconds: float | None = None
    favourite_position: int | None = None
    favourite_share: float | None = None
    agreement: float | None = None
    findings: list[Finding] = Field(default_factory=list)


class VoterList(Answer):
    """``GET /v1/admin/voters``, the most suspicious first."""

    voters: list[VoterSummary] = Field(default_factory=list)


class VersionState(Answer):
    """One version in the registry."""

    ref: str
    stage: str
    current: bool
    created: str | None = None
    about: str = ""


class RegistryState(Answer):
    """``GET /v1/admin/versions``, and the answer of promote and rollback. ``history`` is newest first."""

    versions: list[VersionState] = Field(default_factory=list)
    current: dict[str, str | None] = Field(default_factory=dict)
    history: list[dict] = Field(default_factory=list)


class PromoteRequest(Request):
    """``POST /v1/admin/promote``."""

    refs: Annotated[list[Identifier], Field(min_length=1, max_length=8)]


class RollbackRequest(Request):
    """``POST /v1/admin/rollback``: the version of the stage before the current one."""

    stage: Literal["base", "sft", "rlf", "reward"]
