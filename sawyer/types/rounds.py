"""Feedback rounds as pages and clients see them: what each did, and why it was promoted or refused."""

from typing import Literal

from pydantic import Field

from sawyer.types.common import Answer, Request

RoundState = Literal["running", "interrupted", "promoted", "refused", "failed", "dry"]
"""``interrupted``: its process is gone and it can be resumed. ``dry``: the gate was passed and nothing was promoted."""

ROUND_STEPS = ("snapshot", "reward", "normalise", "rlf", "evaluate", "gate", "promote")
"""The steps of a round, in order."""


class RoundSummary(Answer):
    """One round. ``reasons`` say why it was refused or failed; ``figures`` are those of the gate, by name."""

    number: int
    recipe: str
    method: str
    state: RoundState
    step: str | None = Field(None, description="the step that runs, or the one where it ended")
    created: float
    ended: float | None = None
    votes: int = 0
    voters: int = 0
    candidate: str | None = Field(None, description="the version it made, such as rlf@3")
    current: str | None = Field(None, description="the version it was compared with")
    reasons: list[str] = Field(default_factory=list)
    figures: dict[str, float] = Field(default_factory=dict)


class RoundStep(Answer):
    """One step: how far it is (0 to 1, where that is known) and what it says of itself."""

    name: str
    state: Literal["waiting", "running", "done", "failed"]
    progress: float | None = None
    seconds: float | None = None
    detail: str = ""


class GateCondition(Answer):
    """One condition of the gate, in words and figures."""

    name: str
    measured: str
    allowed: str
    met: bool


class RoundSample(Answer):
    """One held-out prompt as the current version and the candidate answer it."""

    prompt: str
    current: str
    candidate: str
    current_reward: float | None = None
    candidate_reward: float | None = None


class RoundDetail(RoundSummary):
    """``GET /v1/admin/rounds/{number}``."""

    steps: list[RoundStep] = Field(default_factory=list)
    conditions: list[GateCondition] = Field(default_factory=list)
    samples: list[RoundSample] = Field(default_factory=list)
    log: list[str] = Field(default_factory=list, description="the last lines its process said")


class RoundList(Answer):
    """``GET /v1/admin/rounds``, newest first. ``can_start`` None: one can be started; else why not, in a sentence."""

    rounds: list[RoundSummary] = Field(default_factory=list)
    can_start: str | None = None


class StartRound(Request):
    """``POST /v1/admin/rounds``: 202 with the round's summary; 409 while another one runs."""

    method: Literal["ppo", "dpo", "ipo", "kto"] = "ppo"
    dry_run: bool = False
