"""From replies and scores to the parts of a report."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

import numpy as np

from sawyer.evaluation import stats
from sawyer.evaluation.contestants import kind_of
from sawyer.evaluation.divergence import Divergence
from sawyer.evaluation.report import Interval, KlFigures, LengthMatched, PairFigures, Reply, Sample, StageFigures
from sawyer.evaluation.samples import choose_rows
from sawyer.evaluation.text_metrics import distinct, distinct_matched, mean_repetition
from sawyer.generation import Generation

LENGTH_TOLERANCE = 0.2  # replies are of like length when the shorter has at least 80 % of the longer one's tokens


@dataclass(frozen=True)
class Answers:
    """One stage's replies to all prompts and their rewards, float32 ``[n]``.

    ``parts`` holds the scores of each part of the reward and of the guard in their own units, likewise; NaN where a
    part was not asked, the reply being empty.
    """

    stage: str
    version: str
    replies: list[Generation]
    rewards: np.ndarray
    weights: str | None = None
    parts: dict[str, np.ndarray] = field(default_factory=dict)

    @property
    def texts(self) -> list[str]:
        return [reply.text for reply in self.replies]

    @property
    def length(self) -> float:
        """Mean length in tokens."""
        return float(np.mean([len(reply.ids) for reply in self.replies]))


def stage_figures(answers: Answers, seed: int) -> StageFigures:
    """Everything the report says about one stage."""
    mean, median, deviation = (
        interval(stats.bootstrap(answers.rewards, statistic, seed=seed))
        for statistic in ("mean", "median", "deviation")
    )
    texts, count = answers.texts, len(answers.replies)
    return StageFigures(
        stage=answers.stage,
        version=answers.version,
        weights=answers.weights,
        n=count,
        mean=mean,
        median=median,
        deviation=deviation,
        length=answers.length,
        eos_rate=sum(reply.finished for reply in answers.replies) / count,
        empty_rate=sum(not text.strip() for text in texts) / count,
        distinct_1=distinct(texts, 1),
        distinct_2=distinct(texts, 2),
        repetition=mean_repetition(texts),
        rewards=[float(reward) for reward in answers.rewards],
    )


def pair_figures(before: Answers, after: Answers, kl: KlFigures | None) -> PairFigures:
    """Everything the report says about two stages on the same prompts."""
    tests = stats.compare(before.rewards, after.rewards)
    same = sum(one == other for one, other in zip(before.texts, after.texts, strict=True))
    note = tests.note
    if same == len(before.texts):
        note = f"{after.stage} and {before.stage} answer every prompt with the same text, so no test is possible."
    return PairFigures(
        before=before.stage,
        after=after.stage,
        n=len(before.replies),
        difference=interval(tests.difference),
        t_p=tests.t_p,
        wilcoxon_p=tests.wilcoxon_p,
        mann_whitney_p=tests.mann_whitney_p,
        variance_p=tests.variance_p,
        n_needed=stats.prompts_needed(tests.effect_size),
        length_matched=_length_matched(before, after),
        effect_size=tests.effect_size,
        win_rate=interval(tests.win_rate),
        wins=tests.wins,
        ties=tests.ties,
        losses=tests.losses,
        identical_replies=same,
        length_ratio=after.length / before.length,
        distinct_2_ratio=_ratio(distinct(before.texts, 2), distinct(after.texts, 2)),
        distinct_2_ratio_matched=_ratio(*distinct_matched(before.texts, after.texts, 2)),
        kl=kl,
        note=note,
    )


def _length_matched(before: Answers, after: Answers) -> LengthMatched:
    """The difference in reward between replies of like length, and what is left of it at equal length."""
    differences = after.rewards.astype(np.float64) - before.rewards
    lengths = np.array([[len(reply.ids) for reply in side.replies] for side in (before, after)], dtype=np.float64)
    like = np.abs(lengths[0] - lengths[1]) <= LENGTH_TOLERANCE * lengths.max(axis=0)
    tests = stats.compare(before.rewards[like], after.rewards[like]) if like.sum() > 1 else None
    intercept = stats.at_equal_length(differences, lengths[1] - lengths[0], 0.975)
    return LengthMatched(
        tolerance=LENGTH_TOLERANCE,
        n=int(like.sum()),
        difference=interval(tests.difference) if tests else None,
        t_p=tests.t_p if tests else None,
        # Its level is one-sided; the interval between both ends is of 95 %.
        at_equal_length=interval(replace(intercept, level=0.95)) if np.isfinite(intercept.low) else None,
    )


def kl_figures(
    divergence: Divergence, reference: str, temperature: float, seed: int, changes: np.ndarray | None = None
) -> KlFigures:
    """Mean KL a response with bootstrap intervals.

    Args:
        changes: ``[n]`` change in reward of each reply from the reference's to the same prompt; None where the replies
            are not those that were scored.
    """
    return KlFigures(
        reference=reference,
        k1=interval(stats.bootstrap(divergence.k1, "mean", seed=seed)),
        k3=interval(stats.bootstrap(divergence.k3, "mean", seed=seed)),
        temperature=temperature,
        each=[round(float(value), 5) for value in divergence.k1],
        same_replies=changes is not None,
        reward_correlation=None if changes is None else stats.rank_correlation(divergence.k1, changes),
    )


def references_of(stages: Sequence[str], *, from_base: bool) -> dict[str, str]:
    """The reference of each rlf among ``stages``: the last sft named; base only where rlf starts ``from_base``.

    An rlf whose reference was not asked is left out.
    """
    kind = "base" if from_base else "sft"
    found = [stage for stage in stages if kind_of(stage) == kind]
    return {stage: found[-1] for stage in stages if kind_of(stage) == "rlf"} if found else {}


def pairs_of(stages: Sequence[str], references: Mapping[str, str]) -> list[tuple[str, str]]:
    """The comparisons (before, after): each stage with the one named before it, and every rlf with its reference."""
    pairs = list(pairwise(stages))
    return pairs + [(before, after) for after, before in references.items() if (before, after) not in pairs]


def sample_rows(
    prompts: Sequence[list[dict[str, str]]], answers: Sequence[Answers], count: int, seed: int
) -> list[Sample]:
    """The rows of the sample table, with every stage's reply."""
    last = answers[-1].rewards
    change = last - answers[-2].rewards if len(answers) > 1 else None
    rows = choose_rows((last if change is None else change).tolist(), count, seed)
    return [
        Sample(
            kind=kind,
            index=index,
            messages=prompts[index],
            change=None if change is None else float(change[index]),
            replies=[reply_of(answer, index) for answer in answers],
        )
        for kind, index in rows
    ]


def reply_of(answers: Answers, index: int) -> Reply:
    """One reply as the report shows it."""
    made = answers.replies[index]
    return Reply(
        stage=answers.stage,
        text=made.text,
        reward=float(answers.rewards[index]),
        tokens=len(made.ids),
        finished=made.finished,
    )


def interval(estimate: stats.Estimate) -> Interval:
    """An estimate as a part of the report."""
    return Interval(value=estimate.value, low=estimate.low, high=estimate.high, level=estimate.level)


def _ratio(before: float, after: float) -> float | None:
    return after / before if before else None
