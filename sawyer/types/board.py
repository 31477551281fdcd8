"""``GET /v1/feedback/board``: what the votes say, every figure with its n."""

from typing import Literal

from pydantic import Field, model_validator

from sawyer.types.common import Answer, Request
from sawyer.types.rounds import RoundSummary


class BoardQuery(Request):
    """Which votes the board is made of, as query parameters. Times are seconds since the epoch; ``until`` excluded."""

    by: Literal["stage", "version"] = "stage"
    blind: bool | None = Field(None, description="true: blind votes alone; false: open ones alone; left out: all")
    since: float | None = None
    until: float | None = None

    @model_validator(mode="after")
    def _in_order(self) -> "BoardQuery":
        if self.since is not None and self.until is not None and self.since >= self.until:
            raise ValueError(f"since ({self.since}) must be before until ({self.until}); swap them or leave one out")
        return self


class Interval(Answer):
    """A figure with its interval at ``level`` (0.9: 90 %)."""

    value: float
    low: float
    high: float
    level: float = 0.9


class PairResult(Answer):
    """How often ``first`` was preferred to ``second`` where both were shown; in ``win_rate`` ties count half."""

    first: str
    second: str
    wins: int
    ties: int
    losses: int
    n: int
    win_rate: Interval


class Strength(Answer):
    """Bradley–Terry: the log-odds of winning against the average contestant. ``n`` comparisons took part.

    ``apart_from`` lists the contestants that this one is separable from at the interval's level.
    """

    contestant: str
    n: int
    strength: Interval
    apart_from: list[str] = Field(default_factory=list)


class Ladder(Answer):
    """All strengths, strongest first. ``note`` says why there are none, or what to beware of.

    ``length_effect``: log-odds that a reply gains by being longer by one deviation of the length differences; given
    where length is controlled for.
    """

    n: int
    strengths: list[Strength] = Field(default_factory=list)
    separable: bool = Field(False, description="the strongest is separable from the second")
    length_effect: Interval | None = None
    note: str | None = None


class DayVotes(Answer):
    """The counting votes of one day (UTC, ISO), by choice: contestant, tie or bad."""

    day: str
    choices: dict[str, int]
    n: int


class PositionBias(Answer):
    """Where the preferred pane stood. ``p`` tests equal shares (chi-square), blind votes alone; None: too few."""

    n: int
    counts: list[int] = Field(default_factory=list, description="preferred panes by place, left to right")
    p: float | None = None
    note: str | None = None


class RewardDistribution(Answer):
    """Rewards of the replies that people were shown. ``counts`` lie between neighbouring ``edges``."""

    contestant: str
    n: int
    mean: float
    median: float
    deviation: float | None = None
    edges: list[float] = Field(default_factory=list)
    counts: list[int] = Field(default_factory=list)


class Agreement(Answer):
    """How often the reply that people preferred had the higher reward; pairs of equal reward are left out."""

    n: int
    share: Interval | None = None
    note: str | None = None


class Board(Answer):
    """Everything on the board. ``contestants`` are stages, or versions when asked for them."""

    by: Literal["stage", "version"] = "stage"
    blind: bool | None = Field(None, description="True: blind votes alone; False: open ones alone; None: all")
    votes: int
    voters: int
    contestants: list[str] = Field(default_factory=list)
    choices: dict[str, int] = Field(default_factory=dict)
    pairs: list[PairResult] = Field(default_factory=list)
    ladder: Ladder
    ladder_length_controlled: Ladder
    days: list[DayVotes] = Field(default_factory=list)
    position: PositionBias
    rewards: list[RewardDistribution] = Field(default_factory=list)
    agreement: Agreement
    rounds: list[RoundSummary] = Field(default_factory=list)
    updated: float = Field(description="seconds since the epoch")
