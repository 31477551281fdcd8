"""The shape of ``report.json``: every figure of an evaluation, described where it is declared.

``docs/report.schema.json`` is the schema (``python -m sawyer.evaluation.document`` prints it); ``docs/evaluation.md``
explains it for readers.
"""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

SCHEMA = 2


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
    weights: str | None = Field(None, description="hash of backbone, precision and adapter: equal hashes, equal models")
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
    each: list[float] = Field(default=[], description="k1 of each reply")
    same_replies: bool = Field(False, description="whether these replies are those of answers.jsonl, in their order")
    reward_correlation: float | None = Field(
        None, description="Spearman, of a reply's k1 with its change in reward; null where the replies are others"
    )


class LengthMatched(Part):
    """The reward difference where length cannot explain it."""

    tolerance: float = Field(description="the shorter reply has at least 1 − tolerance of the longer one's tokens")
    n: int = Field(description="prompts whose two replies are of like length")
    difference: Interval | None = Field(description="mean paired difference on those, 95 % t interval; null below 2")
    t_p: float | None = Field(description="paired t-test on those, two-sided; null where no test is possible")
    at_equal_length: Interval | None = Field(
        description="all prompts: intercept of the difference in reward over that in length, 95 % interval"
    )


class PairFigures(Part):
    """Two stages on the same prompts; every difference is after − before."""

    before: str
    after: str
    n: int
    difference: Interval = Field(description="mean paired difference of reward, 95 % t interval")
    t_p: float | None = Field(description="paired t-test, two-sided; null where no test is possible")
    wilcoxon_p: float | None = Field(description="Wilcoxon signed-rank test, two-sided; null likewise")
    mann_whitney_p: float | None = Field(None, description="Mann–Whitney test, which ignores the pairing; two-sided")
    variance_p: float | None = Field(None, description="Brown–Forsythe test of equal spread; null likewise")
    t_p_holm: float | None = Field(None, description="t_p corrected by Holm over all comparisons of this report")
    wilcoxon_p_holm: float | None = Field(None, description="wilcoxon_p corrected likewise")
    n_needed: int | None = Field(
        None, description="prompts for a power of 0.8 at p < 0.01 (two-sided), were the effect what was measured"
    )
    length_matched: LengthMatched | None = None
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
    t_p_holm: float | None = Field(None, description="t_p corrected by Holm over all comparisons of this report")


class PartFigures(Part):
    """One part of the reward, or the guard, or the judge, by itself."""

    name: str
    role: Literal["reward", "guard", "judge"] = Field(
        description="guard: not optimised, must not fall; judge: a second reward model, never optimised"
    )
    weight: float | None = Field(description="in the reward's sum; null for a guard and a judge")
    means: dict[str, Interval] = Field(description="mean by stage in the part's units, bootstrap 95 % interval (BCa)")
    comparisons: list[PartComparison]


class Gain(Part):
    """What two reward models say of one comparison, each in deviations of its own scores of the stage before."""

    before: str
    after: str
    reward: Interval = Field(description="gain by the reward that was optimised, 95 % t interval")
    judge: Interval = Field(description="gain by the judge, likewise")
    gap: Interval = Field(description="reward's gain less the judge's, prompt by prompt, likewise")
    warning: str | None = Field(description="what is wrong, where the two part; else null")


class Judge(Part):
    """A second reward model, which nothing was optimised against, beside the first."""

    name: str | None = Field(description="such as judge@1; null without one")
    note: str | None = Field(description="why there is none, or why it is no stranger")
    correlation: float | None = Field(None, description="Spearman, of both models' scores over all replies")
    gains: list[Gain] = []


class BenchmarkComparison(Part):
    """Two stages on the same questions of a benchmark; the difference is after − before."""

    before: str
    after: str
    difference: Interval = Field(description="mean difference, bootstrap 95 % interval over questions")
    gained: int = Field(description="questions on which after scores higher")
    lost: int = Field(description="questions on which before scores higher")
    test: Literal["McNemar", "paired bootstrap"]
    p: float | None = Field(description="two-sided; null where no question is answered differently")
    p_holm: float | None = Field(None, description="corrected by Holm over all comparisons of all benchmarks")


class BenchmarkFigures(Part):
    """One benchmark of lm-evaluation-harness."""

    name: str = Field(description="such as truthfulqa_mc1 or mmlu_world_religions; mmlu: all subjects asked together")
    metric: str = Field(description="the harness's name of what is averaged")
    n: int = Field(description="questions asked")
    chance: float | None = Field(description="what guessing gives, where it is the same for all questions")
    scores: dict[str, Interval] = Field(description="mean by stage, 95 % interval (Wilson, or bootstrap for shares)")
    comparisons: list[BenchmarkComparison]


class WinRate(Part):
    """How often after is preferred to before, by one judge of any kind."""

    by: str = Field(description="whose preference: a reward model, an LLM judge, people's votes")
    before: str
    after: str
    n: int = Field(description="prompts, or votes, that count")
    wins: int
    ties: int
    losses: int
    left_out: int = Field(0, description="prompts without a usable verdict")
    rate: Interval | None = Field(description="ties half, 90 % interval; null where nothing counts")
    length_controlled: Interval | None = Field(
        None, description="of replies of equal length: Bradley–Terry with length beside it, bootstrap 90 % interval"
    )


class LlmJudge(Part):
    """A language model that judged pairs of replies, and how far it can be trusted."""

    url: str
    model: str
    template: str = Field(description="the question, with {conversation}, {first} and {second} to fill in")
    prompts: int = Field(description="prompts judged in each comparison")
    questions: int = Field(description="questions asked: both orders, but none where two replies are the same text")
    nonsense: int = Field(description="answers that are neither A, B nor TIE")
    consistency: Interval | None = Field(description="share of pairs judged alike in both orders, 90 % Wilson interval")
    first_place: Interval | None = Field(description="share of choices for the reply that stood first, likewise")
    prompt_tokens: int = Field(description="cost, as the service counts it")
    completion_tokens: int


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
    command: str | None = Field(None, description="the command that made this report")
    created: str = Field(description="UTC, ISO 8601")
    sawyer: str = Field(description="version of SAWYER")
    libraries: dict[str, str] = Field(description="versions of torch, transformers, peft")
    reward_model: str = Field(description="what scored the replies")
    fingerprint: str = Field(description="of the backbone")
    data: dict[str, str] = Field(
        default={}, description="sha256 of each local file that the recipe reads; hub data sets are left out"
    )
    sampling: Sampling
    prompts: PromptSet
    stages: list[StageFigures]
    pairs: list[PairFigures]
    parts: list[PartFigures] = Field(default=[], description="of a reward of several parts, the guard, and the judge")
    judge: Judge | None = Field(None, description="the second reward model beside the first")
    win_rates: list[WinRate] = []
    llm_judge: LlmJudge | None = Field(None, description="where one was asked")
    benchmarks: list[BenchmarkFigures] = Field(
        default=[], description="by lm-evaluation-harness, where they were asked"
    )
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
