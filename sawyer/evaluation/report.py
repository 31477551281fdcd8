"""The shape of ``report.json``: every figure of an evaluation, described where it is declared.

``Report.model_json_schema()`` is the schema; ``docs/evaluation.md`` explains it for readers.
"""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

SCHEMA = 1


class Part(BaseModel):
    """Base of all parts: immutable, no unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Interval(Part):
    """A figure with its interval."""

    value: float
    low: float
    high: float
    level: float = Field(description="confidence level of the interval, such as 0.95")


class StageFigures(Part):
    """What one stage's replies to the held-out prompts are like."""

    stage: str = Field(description="as asked for: base, sft, rlf, or rlf@1")
    version: str = Field(description="the version that answered, such as rlf@3, or the backbone's name")
    n: int = Field(description="prompts answered")
    mean: Interval = Field(description="mean reward, bootstrap 95 % interval (BCa)")
    median: Interval = Field(description="median reward, bootstrap 95 % interval (percentile)")
    deviation: Interval = Field(description="standard deviation of the reward (n − 1), bootstrap 95 % interval (BCa)")
    length: float = Field(description="mean length in the policy's tokens, EOS included")
    eos_rate: float = Field(description="share of replies that ended by themselves within evaluate.max_new_tokens")
    empty_rate: float = Field(description="share of replies without any text")
    distinct_1: float = Field(description="different words over all words of the stage's replies")
    distinct_2: float = Field(description="different word pairs over all word pairs of the stage's replies")
    repetition: float = Field(description="share of word triples that occurred before in the same reply, mean")
    rewards: list[float] = Field(description="reward of each reply, in the order of answers.jsonl")


class KlFigures(Part):
    """How far a stage moved from its reference, in nats a response, on replies of its own."""

    reference: str = Field(description="the stage compared with: the one that rlf started from")
    k1: Interval = Field(description="mean sum of log-ratios: unbiased; bootstrap 95 % interval")
    k3: Interval = Field(description="mean sum of r − 1 − log r: never negative; bootstrap 95 % interval")
    temperature: float = Field(description="of the sampling and of the log-probabilities")


class PairFigures(Part):
    """Two stages on the same prompts; every difference is after − before."""

    before: str
    after: str
    n: int
    difference: Interval = Field(description="mean paired difference of reward, 95 % t interval")
    t_p: float | None = Field(description="paired t-test, two-sided; null where no test is possible")
    wilcoxon_p: float | None = Field(description="Wilcoxon signed-rank test, two-sided; null likewise")
    effect_size: float | None = Field(description="mean difference over the differences' deviation")
    win_rate: Interval = Field(description="prompts where after scores higher, ties half; 90 % Wilson interval")
    wins: int
    ties: int
    losses: int
    identical_replies: int = Field(description="prompts that both stages answer with the very same text")
    length_ratio: float = Field(description="mean length of after over that of before")
    distinct_2_ratio: float | None = Field(description="distinct_2 of after over that of before")
    distinct_2_ratio_matched: float | None = Field(
        description="the same, each pair of replies cut to the words of the shorter one"
    )
    kl: KlFigures | None = Field(description="given where after is an rlf stage and before its reference")
    note: str | None = Field(description="why there is no test, when there is none")


class PartComparison(Part):
    """One part of the reward on the same prompts under two stages; the difference is after − before."""

    before: str
    after: str
    n: int = Field(description="prompts that both stages answered with some text")
    difference: Interval = Field(description="mean paired difference in the part's units, 95 % t interval")
    t_p: float | None = Field(description="paired t-test, two-sided")
    wilcoxon_p: float | None = Field(description="Wilcoxon signed-rank test, two-sided")


class PartFigures(Part):
    """One part of the reward, or the guard, by itself."""

    name: str
    role: Literal["reward", "guard"] = Field(description="guard: not optimised, must not fall")
    weight: float | None = Field(description="in the reward's sum; null for a guard")
    means: dict[str, Interval] = Field(description="mean by stage in the part's units, bootstrap 95 % interval (BCa)")
    comparisons: list[PartComparison]


class Criterion(Part):
    """One condition of the acceptance line: measured, allowed, met or not."""

    name: str
    measured: float | None
    unit: str = ""
    low: float | None = Field(default=None, description="the measured figure must be at least this")
    high: float | None = Field(default=None, description="it must be below this, or at most this in a range")
    met: bool
    explanation: str


class Reply(Part):
    """One stage's reply in the sample table."""

    stage: str
    text: str
    reward: float
    tokens: int
    finished: bool


class Sample(Part):
    """A prompt and every stage's reply, chosen by a fixed rule."""

    kind: Literal["best", "worst", "random"]
    index: int = Field(description="line of answers.jsonl, from 0")
    messages: list[dict[str, str]]
    change: float | None = Field(description="reward of the last stage − that of the one before; null with one stage")
    replies: list[Reply]


class Sampling(Part):
    """How the stages were asked."""

    max_new_tokens: int
    temperature: float
    top_p: float
    seed: int


class PromptSet(Part):
    """The prompts asked."""

    count: int
    found: int = Field(description="held-out prompts that fit, of which count were asked")
    left_out: int = Field(description="held-out prompts longer than the context allows")
    sources: dict[str, int] = Field(description="prompts asked, by source")
    sha256: str = Field(description="of the prompts asked: equal hashes, equal prompts")


class Report(Part):
    """A whole evaluation."""

    schema_version: int = SCHEMA
    recipe: str
    created: str = Field(description="UTC, ISO 8601")
    sawyer: str = Field(description="version of SAWYER")
    libraries: dict[str, str] = Field(description="versions of torch, transformers, peft")
    reward_model: str = Field(description="what scored the replies")
    fingerprint: str = Field(description="of the backbone")
    sampling: Sampling
    prompts: PromptSet
    stages: list[StageFigures]
    pairs: list[PairFigures]
    parts: list[PartFigures] = Field(default=[], description="of a reward of several parts, and the guard")
    acceptance: list[Criterion] = Field(description="of the newest rlf against its reference; empty without the two")
    accepted: bool | None = Field(description="whether all conditions are met; null without any")
    samples: list[Sample]
    seconds: float

    def stage(self, name: str) -> StageFigures:
        """The figures of one stage; KeyError when it was not asked."""
        return {figures.stage: figures for figures in self.stages}[name]

    def pair(self, before: str, after: str) -> PairFigures:
        """The comparison of two stages; KeyError when it was not made."""
        return {(figures.before, figures.after): figures for figures in self.pairs}[before, after]
