"""Everything a report says in figures: what is always measured, and what was asked for beside it."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sawyer.evaluation.benchmarks.ask import BenchmarkPlan, ask_benchmarks
from sawyer.evaluation.examiner import Examiner
from sawyer.evaluation.figures import Answers
from sawyer.evaluation.holm import corrected
from sawyer.evaluation.judging.ask import JudgePlan, judge_pairs
from sawyer.evaluation.parts import part_figures
from sawyer.evaluation.report import BenchmarkFigures, Judge, LlmJudge, PairFigures, PartFigures, WinRate
from sawyer.evaluation.second_opinion import second_opinion
from sawyer.evaluation.win_rates import by_scores, by_votes
from sawyer.preferences import ballots, make_board
from sawyer.store import FeedbackStore
from sawyer.types import BoardQuery


@dataclass(frozen=True)
class Extras:
    """What an evaluation may ask beside the rewards.

    ``command`` is what was typed, for the report. ``votes`` holds people's votes on the same versions.
    """

    command: str | None = None
    benchmarks: BenchmarkPlan | None = None
    llm: JudgePlan | None = None
    votes: FeedbackStore | None = None


@dataclass(frozen=True)
class Measured:
    """What was measured, on its way into the report."""

    answers: list[Answers]
    pairs: list[PairFigures]
    parts: list[PartFigures]
    judge: Judge
    win_rates: list[WinRate]
    llm_judge: LlmJudge | None = None
    benchmarks: list[BenchmarkFigures] = field(default_factory=list)
    command: str | None = None


def measure(examiner: Examiner, stages: Sequence[str], extras: Extras, kept: Path) -> Measured:
    """Ask, score, compare.

    Args:
        kept: folder of what is kept between runs: benchmark results, an LLM judge's answers.

    Raises:
        ModelError: a reward or an LLM judge fails. UsageError, DataError: benchmarks cannot be asked.
    """
    recipe, models = examiner.recipe, examiner.models
    answers = examiner.answers(stages)
    pairs = examiner.pairs(answers)
    parts = part_figures(answers, pairs, models.scorer, examiner.roles, recipe.seed)
    pairs, parts = corrected(pairs, parts)
    rates = by_scores("reward model", answers, pairs, {answer.stage: answer.rewards for answer in answers}, recipe.seed)
    judge = examiner.judge_name
    if judge is not None:
        scores = {answer.stage: answer.parts[judge] for answer in answers}
        rates += by_scores(judge, answers, pairs, scores, recipe.seed)
    llm = None
    if extras.llm is not None:
        prompts = [prompt.messages for prompt in examiner.chosen.prompts]
        llm, told = judge_pairs(extras.llm, prompts, answers, pairs, kept / "judgements.jsonl", recipe.seed)
        rates += told
    if extras.votes is not None:
        cast = ballots(extras.votes.counting_votes(0))
        rates += by_votes(make_board(cast, BoardQuery(by="version"), updated=time.time()), answers, pairs)
    compared = [(pair.before, pair.after) for pair in pairs]
    results = extras.benchmarks and ask_benchmarks(
        models.policy, stages, compared, extras.benchmarks, kept / "benchmarks.json", recipe.seed
    )
    opinion = second_opinion(answers, pairs, judge, models.judge_note)
    return Measured(answers, pairs, parts, opinion, rates, llm, results or [], extras.command)
