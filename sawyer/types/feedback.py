"""What people say of answers: votes, thumbs, and their counts."""

from typing import Annotated

from pydantic import Field

from sawyer.types.common import MAX_PANES, Answer, Identifier, PaneName, Request, Stage, Text, Verdict


class VoteRequest(Request):
    """``POST /v1/feedback/votes``. ``choice`` is a pane of the turn (a stage, a version, a letter), tie or bad.

    ``ranking`` lists panes, best first. ``edited`` is a better answer in the voter's own words: what the chosen pane
    should have said. ``position`` is where the chosen pane stood, from 0; left out, it is its place in the turn's own
    order. The newest vote of a voter on a turn counts. ``voter`` tells voters apart and is nobody's name; ``name`` is
    what the voter wants to be called. Without ``consent`` a vote counts on the board and trains nothing.
    """

    turn_id: Identifier
    choice: PaneName | Verdict
    voter: Identifier | None = None
    name: Annotated[Text, Field(max_length=64)] | None = None
    comment: Annotated[Text, Field(max_length=4000)] | None = None
    ranking: Annotated[list[PaneName], Field(max_length=MAX_PANES)] | None = None
    edited: Annotated[Text, Field(min_length=1, max_length=20_000)] | None = None
    position: int | None = Field(None, ge=0, lt=MAX_PANES)
    consent: bool = True


class VoteResponse(Answer):
    """The vote is on disk. ``choice`` is the stage behind the pane; ``panes`` says which pane was which stage."""

    vote_id: str
    turn_id: str
    choice: Stage | Verdict
    panes: dict[str, Stage]
    versions: dict[str, str | None] = Field(default_factory=dict, description="pane -> adapter version")
    created: bool = Field(True, description="False: the same Idempotency-Key had stored this vote before")


class UndoRequest(Request):
    """``POST /v1/feedback/undo``: take back the voter's vote on a turn. Nothing is deleted; the undo is a row."""

    turn_id: Identifier
    voter: Identifier | None = None


class UndoResponse(Answer):
    """The undo is on disk."""

    vote_id: str
    turn_id: str
    created: bool = True


class RatingRequest(Request):
    """``POST /v1/feedback/ratings``: a thumb for one completion. ``up`` None takes an earlier thumb back."""

    completion_id: Identifier
    up: bool | None
    voter: Identifier | None = None
    consent: bool = True


class RatingResponse(Answer):
    """The rating is on disk."""

    rating_id: str
    completion_id: str
    up: bool | None
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
