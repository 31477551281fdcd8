"""``evaluate``: the stages answer held-out prompts, the reward model scores the replies, a report says what it means.

Written to the run folder: ``report.json`` (schema: ``report.Report``), ``report.html``, ``rewards.png``,
``differences.png``, ``answers.jsonl`` (every prompt with every reply), ``replies.jsonl`` (the cache), ``recipe.yaml``
and, last, ``manifest.json``.
"""

import json
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from pathlib import Path

import numpy as np

from sawyer import __version__
from sawyer.compute import set_threads
from sawyer.errors import ModelError, UsageError
from sawyer.evaluation.acceptance import deciding_pair, judge
from sawyer.evaluation.contestants import Models, check_names, kind_of, load_models
from sawyer.evaluation.divergence import response_kl
from sawyer.evaluation.figures import (
    Answers,
    kl_figures,
    pair_figures,
    pairs_of,
    references_of,
    reply_of,
    sample_rows,
    stage_figures,
)
from sawyer.evaluation.page import render_page
from sawyer.evaluation.parts import part_figures
from sawyer.evaluation.plots import both_dresses
from sawyer.evaluation.prompts import Chosen, choose_prompts
from sawyer.evaluation.replies import Question, ReplyCache, ask
from sawyer.evaluation.report import KlFigures, PairFigures, PartFigures, Report, Sampling
from sawyer.generation import Generation
from sawyer.home import Home
from sawyer.progress import Tick, progress
from sawyer.recipe import Recipe
from sawyer.runs import MANIFEST, Run, write_json
from sawyer.scoring import TotalScorer

STEP = "evaluate"


def evaluate(
    recipe: Recipe,
    home: Home,
    *,
    stages: Sequence[str] | None = None,
    out: Path | None = None,
    models: Models | None = None,
) -> Report:
    """Evaluate stages of a recipe on its held-out prompts and write the report.

    Args:
        stages: names (``base``, ``sft``, ``rlf``) or versions (``rlf@1``), in the order of comparison; default: base
            and every stage that has a current version (all stages of ``models`` where those are given).
        out: folder of the report; default: ``runs/<recipe>/evaluate`` of the home. Replies are kept in the latter.
        models: what to ask, already loaded; default: the registry's versions.

    Raises:
        UsageError: a stage without adapter, no reward model, no prompts named, a folder that cannot be written.
        DataError: too few held-out prompts. ModelError, CheckpointError: a model cannot be loaded.
    """
    started = time.monotonic()
    set_threads(recipe.threads)
    home.ensure()
    if models is None:
        models, names = load_models(recipe, home, stages)
    else:
        names = tuple(stages or models.policy.stages)
        check_names(names)
        for stage in names:
            models.policy.check_stage(adapter_of(stage))
    chosen = choose_prompts(recipe, models.policy.chat, [adapter_of(name) for name in names], models.policy.context)
    kept = home.runs / recipe.name / STEP
    with _open_run(recipe, out or kept, kept) as run:
        examiner = Examiner(recipe, models, chosen, ReplyCache(kept / "replies.jsonl"))
        answers = examiner.answers(names)
        pairs = examiner.pairs(answers)
        parts = part_figures(answers, pairs, models.scorer, examiner.guard_name, recipe.seed)
        report = _report(recipe, models, chosen, answers, pairs, parts, time.monotonic() - started)
        _write(run, report, chosen, answers)
    return report


def adapter_of(stage: str) -> str:
    """The name of a stage inside a policy: every base is ``base`` there, versions keep their own."""
    return "base" if kind_of(stage) == "base" else stage


def _open_run(recipe: Recipe, folder: Path, kept: Path) -> Run:
    """The run folder, earlier replies kept. An earlier report is not done any more, and its recipe binds nothing."""
    try:
        for name in (MANIFEST, "recipe.yaml"):
            (folder / name).unlink(missing_ok=True)
        kept.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(
            f"The report cannot be written to {folder}: {error.strerror or error}. Name another folder with --out DIR, "
            "or another home with --home DIR."
        ) from error
    return Run(folder, step=STEP, recipe=recipe, resume=True)


@dataclass(frozen=True)
class Examiner:
    """Asks the stages the chosen prompts and measures the replies."""

    recipe: Recipe
    models: Models
    chosen: Chosen
    cache: ReplyCache

    @property
    def question(self) -> Question:
        """How the stages are asked."""
        spec = self.recipe.evaluate
        return Question(spec.max_new_tokens, spec.temperature, spec.top_p, self.recipe.seed)

    @property
    def drawing(self) -> Question:
        """How replies are drawn for the KL: an estimate by samples needs samples of the full distribution."""
        asked = self.question
        if asked.temperature > 0 and asked.top_p == 1:
            return asked
        temperature = self.recipe.ppo.temperature if self.recipe.ppo else 1.0
        return Question(asked.max_new_tokens, temperature, 1.0, asked.seed)

    def answers(self, stages: Sequence[str]) -> list[Answers]:
        """Every stage's replies and their rewards."""
        made: list[list[Generation]] = []
        count = len(self.chosen.prompts)
        with progress("replies", count * len(stages)) as tick:
            for stage in stages:
                seen = len(made) * count
                made.append(self._ask(stage, self.question, partial(_shift, tick, seen, stage)))
        answers = []
        with progress("rewards", len(stages)) as tick:
            for stage, replies in zip(stages, made, strict=True):
                rewards, parts = self._score(replies)
                answers.append(Answers(stage, self.models.versions.get(stage, stage), replies, rewards, parts))
                tick(len(answers), stage=stage)
        return answers

    def pairs(self, answers: Sequence[Answers]) -> list[PairFigures]:
        """Every comparison, with the KL where an rlf stands against its reference."""
        by_stage = {answer.stage: answer for answer in answers}
        references = references_of(list(by_stage), from_base=self._starts_from_base(by_stage))
        figures = []
        for before, after in pairs_of(list(by_stage), references):
            kl = self._kl(after, before, by_stage[after]) if references.get(after) == before else None
            figures.append(pair_figures(by_stage[before], by_stage[after], kl))
        return figures

    def _starts_from_base(self, stages: Iterable[str]) -> bool:
        return self.recipe.sft is None and not any(kind_of(stage) == "sft" for stage in stages)

    def _kl(self, stage: str, reference: str, answers: Answers) -> KlFigures:
        drawing = self.drawing
        replies = answers.replies if drawing == self.question else self._ask(stage, drawing, lambda done: None)
        with progress(f"KL {stage}", len(replies)) as tick:
            divergence = response_kl(
                self.models.policy,
                adapter_of(stage),
                adapter_of(reference),
                self._prompts(stage),
                [reply.ids for reply in replies],
                temperature=drawing.temperature,
                batch_size=self.recipe.evaluate.batch_size,
                tick=tick,
            )
        return kl_figures(divergence, reference, drawing.temperature, self.recipe.seed)

    def _ask(self, stage: str, question: Question, tick: Callable[[int], None]) -> list[Generation]:
        name, size = adapter_of(stage), self.recipe.evaluate.batch_size
        return ask(self.models.policy, name, self._prompts(stage), question, self.cache, batch_size=size, tick=tick)

    def _prompts(self, stage: str) -> list[list[int]]:
        chat = self.models.policy.chat
        return [chat.encode_prompt(prompt.messages, adapter_of(stage)) for prompt in self.chosen.prompts]

    def _score(self, replies: Sequence[Generation]) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Rewards float32 [n], and the scores of several parts and of the guard by name."""
        prompts, texts = [prompt.asked for prompt in self.chosen.prompts], [reply.text for reply in replies]
        scorer, parts = self.models.scorer, {}
        if isinstance(scorer, TotalScorer):
            scores = scorer.reward.score(prompts, texts)
            rewards, parts = scores.total, dict(scores.raw)
        else:
            rewards = np.asarray(scorer.score(prompts, texts), dtype=np.float32)
        if self.guard_name is not None and self.models.guard is not None:
            parts[self.guard_name] = np.asarray(self.models.guard.score(prompts, texts), dtype=np.float32)
        if rewards.shape != (len(replies),) or not np.isfinite(rewards).all():
            raise ModelError(
                f"The reward model {self.models.reward_name} gave {np.isfinite(rewards).sum()} usable scores for "
                f"{len(replies)} replies. Train it again, or name another one in ppo.reward."
            )
        return rewards, parts

    @property
    def guard_name(self) -> str | None:
        """What the guard's scores are called, or None without one."""
        guard = self.recipe.ppo.guard if self.recipe.ppo else None
        return None if guard is None or self.models.guard is None else f"guard {guard.title}"


def _shift(tick: Tick, seen: int, stage: str, done: int) -> None:
    """Progress of one stage as progress of all."""
    tick(seen + done, stage=stage)


def _report(
    recipe: Recipe,
    models: Models,
    chosen: Chosen,
    answers: Sequence[Answers],
    pairs: list[PairFigures],
    parts: list[PartFigures],
    seconds: float,
) -> Report:
    spec, stages = recipe.evaluate, [answer.stage for answer in answers]
    deciding = deciding_pair(pairs, stages)
    acceptance = judge(deciding, parts) if deciding else []
    messages = [prompt.messages for prompt in chosen.prompts]
    return Report(
        recipe=recipe.name,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        sawyer=__version__,
        libraries={name: version(name) for name in ("torch", "transformers", "peft")},
        reward_model=models.reward_name,
        fingerprint=models.policy.fingerprint,
        sampling=Sampling(
            max_new_tokens=spec.max_new_tokens, temperature=spec.temperature, top_p=spec.top_p, seed=recipe.seed
        ),
        prompts=chosen.describe(),
        stages=[stage_figures(answer, recipe.seed) for answer in answers],
        pairs=pairs,
        parts=parts,
        acceptance=acceptance,
        accepted=all(criterion.met for criterion in acceptance) if acceptance else None,
        samples=sample_rows(messages, answers, spec.samples, recipe.seed),
        seconds=round(seconds, 1),
    )


def _write(run: Run, report: Report, chosen: Chosen, answers: Sequence[Answers]) -> None:
    folder, plots = run.folder, both_dresses(report)
    files = [folder / name for name in ("report.json", "report.html", "answers.jsonl")]
    write_json(files[0], report.model_dump(mode="json"))
    files[1].write_text(render_page(report, plots), encoding="utf-8")
    for name, (light, _) in plots.items():
        files.append(folder / f"{name}.png")
        files[-1].write_bytes(light)
    lines = [
        {"messages": prompt.messages, "replies": [reply_of(answer, index).model_dump() for answer in answers]}
        for index, prompt in enumerate(chosen.prompts)
    ]
    text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    files[2].write_text(text, encoding="utf-8")
    run.finish(*files, accepted=report.accepted)
