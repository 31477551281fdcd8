"""Candidate and current version answer the same held-out prompts; three reward models, one test of knowledge."""

from dataclasses import replace
from typing import Any

import numpy as np

from sawyer.compute import set_threads
from sawyer.evaluation.contestants import Models, load_models
from sawyer.evaluation.evaluate import evaluate
from sawyer.evaluation.knowledge import ask_knowledge
from sawyer.evaluation.report import Report
from sawyer.evaluation.text_metrics import mean_repetition
from sawyer.lines import objects
from sawyer.rounds.gate import Examination, Knowledge, Scores, Trust, judge_candidate, reasons
from sawyer.runs import write_json
from sawyer.scoring import TextScorer, display_scorer, with_own
from sawyer.types.rounds import GateCondition, RoundSample
from train.round.rewards import kept, scorer_of
from train.round.work import RoundWork

SHOWN = 12


def examine(work: RoundWork) -> dict[str, Any]:
    """Measure the candidate against the current version; the report lies in ``evaluate/report``.

    Returns:
        The examination's figures as lists (JSON), which the gate judges.
    """
    recipe, record = work.tuned, work.diary.record
    assert record.candidate is not None and record.current is not None
    set_threads(recipe.threads)
    reference = record.current if work.version("rlf") is None else work.results["snapshot"]["refs"]["sft"] or "base"
    names = list(dict.fromkeys((reference, record.current, record.candidate)))
    models, _ = load_models(recipe, work.home, names)
    parts = work.parts
    assert parts.reward is not None
    models = replace(models, scorer=_new_reward(work, models), reward_name=work.results["rlf"]["reward"])
    report = evaluate(recipe, work.home, stages=names, out=work.folder("evaluate") / "report", models=models)
    rows = list(objects(work.folder("evaluate") / "report" / "answers.jsonl"))
    prompts = [row["messages"] for row in rows]
    told = {name: [reply for row in rows for reply in row["replies"] if reply["stage"] == name] for name in names}
    current, candidate = told[record.current], told[record.candidate]
    before = work.version("reward")
    judge = work.folder("reward") / "judge" / "model"
    knowledge, skipped = ask_knowledge(
        models.policy, (record.current, record.candidate), recipe.round.questions, recipe.seed
    )
    for name in skipped:
        work.diary.say(f"{name} is not measured: SAWYER_DATA has no such data")
    change = kept(work, parts.reward, before) if before is not None else None
    figures: dict[str, Any] = {
        "reward": [[reply["reward"] for reply in side] for side in (current, candidate)],
        "judge": _scores(scorer_of(recipe, judge), prompts, current, candidate),
        "before": None if before is None else _scores(scorer_of(recipe, before), prompts, current, candidate),
        "lengths": [[reply["tokens"] for reply in side] for side in (current, candidate)],
        "trust": work.results["reward"]["reward"],
        "judge_trust": work.results["reward"]["judge"],
        "kept": None if change is None else change.tolist(),
        "kl": _kl(report, reference, record.candidate),
        "repetition": [mean_repetition([reply["text"] for reply in side]) for side in (current, candidate)],
        "distinct_ratio": report.pair(record.current, record.candidate).distinct_2_ratio_matched,
        "knowledge": {name: [right[ref].tolist() for ref in (record.current, record.candidate)]
                      for name, right in knowledge.items()},
    }  # fmt: skip
    write_json(work.folder("evaluate") / "figures.json", figures)
    work.diary.update(samples=_samples(report, record.current, record.candidate))
    note = f"; not measured: {', '.join(skipped)}" if skipped else ""
    work.diary.detail("evaluate", f"{record.candidate} and {record.current} answered {len(rows)} prompts{note}")
    return figures


def pass_gate(work: RoundWork) -> dict[str, Any]:
    """Put what was measured through the gate. Refusing is a finding, not an error: the machine acts on it."""
    conditions, figures = judge_candidate(examination_of(work.results["evaluate"]), work.recipe.round.gate)
    conditions = [*conditions, *unchanged(work)]
    work.diary.update(conditions=conditions, figures=figures)
    why = reasons(conditions)
    met = sum(condition.met for condition in conditions)
    work.diary.detail("gate", f"{met} of {len(conditions)} conditions hold")
    told = [condition.model_dump() for condition in conditions]
    return {"passed": not why, "reasons": why, "conditions": told, "figures": figures}


def examination_of(figures: dict[str, Any]) -> Examination:
    """The figures of ``examine`` as the gate takes them."""

    def scores(pair: list[list[float]]) -> Scores:
        return Scores(np.array(pair[0]), np.array(pair[1]))

    lengths, (before, after) = figures["lengths"], figures["repetition"]
    trust, judged = (Trust(np.array(figures[key]["shares"]), figures[key]["pairs"]) for key in ("trust", "judge_trust"))
    return Examination(
        reward=scores(figures["reward"]),
        judge=scores(figures["judge"]),
        before=None if figures["before"] is None else scores(figures["before"]),
        current_lengths=np.array(lengths[0], dtype=np.float64),
        candidate_lengths=np.array(lengths[1], dtype=np.float64),
        trust=trust,
        judge_trust=judged,
        kept=None if figures["kept"] is None else np.array(figures["kept"]),
        kl=figures["kl"],
        repetition=(before, after),
        distinct_ratio=figures["distinct_ratio"],
        knowledge=[Knowledge(name, np.array(both[0], dtype=np.float64), np.array(both[1], dtype=np.float64))
                   for name, both in figures["knowledge"].items()],
    )  # fmt: skip


def unchanged(work: RoundWork) -> list[GateCondition]:
    """Conditions that fail when other versions were promoted while the round ran; none while all are the same."""
    refs = work.results["snapshot"]["refs"]
    found = []
    for stage in ("base", "sft", "rlf", "reward"):
        current = work.registry.current(stage)
        now = None if current is None else current.ref
        if now != refs[stage]:
            found.append(
                GateCondition(
                    name=f"current {stage} unchanged since the round began",
                    measured=f"{now or 'none'} is current",
                    allowed=f"{refs[stage] or 'none'}, which the candidate was made from and compared with",
                    met=False,
                )
            )
    return found


def _new_reward(work: RoundWork, models: Models) -> TextScorer:
    """What the candidate was rewarded by, as people read it."""
    recipe, parts = work.recipe, work.parts
    assert recipe.ppo is not None
    return display_scorer(
        [with_own(part, parts.classifiers) for part in recipe.ppo.parts],
        trained=parts.reward,
        statistics=work.results["normalise"]["statistics"],
        device=models.policy.device,
    )


def _scores(scorer: TextScorer, prompts: list[Any], *sides: list[dict[str, Any]]) -> list[list[float]]:
    return [scorer.score(prompts, [reply["text"] for reply in side]).tolist() for side in sides]


def _kl(report: Report, reference: str, candidate: str) -> float | None:
    kl = report.pair(reference, candidate).kl
    return None if kl is None else kl.k1.value


def _samples(report: Report, current: str, candidate: str) -> list[RoundSample]:
    """The report's sample rows: a third the largest rises, a third the largest falls, a third drawn at random."""
    found = []
    for sample in report.samples[:SHOWN]:
        replies = {reply.stage: reply for reply in sample.replies}
        found.append(
            RoundSample(
                prompt=sample.messages[-1]["content"],
                current=replies[current].text,
                candidate=replies[candidate].text,
                current_reward=round(replies[current].reward, 4),
                candidate_reward=round(replies[candidate].reward, 4),
            )
        )
    return found
