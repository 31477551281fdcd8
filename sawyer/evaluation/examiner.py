"""Asks the stages, scores what they say by every scorer at hand, and compares."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from sawyer.errors import ModelError
from sawyer.evaluation.contestants import Models, kind_of
from sawyer.evaluation.divergence import response_kl
from sawyer.evaluation.figures import Answers, kl_figures, pair_figures, pairs_of, references_of
from sawyer.evaluation.parts import Role
from sawyer.evaluation.prompts import Chosen
from sawyer.evaluation.replies import Question, ReplyCache, ask, digest
from sawyer.evaluation.report import KlFigures, PairFigures
from sawyer.generation import Generation
from sawyer.progress import Tick, progress
from sawyer.recipe import Recipe
from sawyer.scoring import TextScorer, TotalScorer


def adapter_of(stage: str) -> str:
    """The name of a stage inside a policy: every base is ``base`` there, versions keep their own."""
    return "base" if kind_of(stage) == "base" else stage


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
                version, weights = self.models.versions.get(stage, stage), digest(self.models.policy, adapter_of(stage))
                answers.append(Answers(stage, version, replies, rewards, weights[:16], parts))
                tick(len(answers), stage=stage)
        return answers

    def pairs(self, answers: Sequence[Answers]) -> list[PairFigures]:
        """Every comparison, with the KL where an rlf stands against its reference."""
        by_stage = {answer.stage: answer for answer in answers}
        references = references_of(list(by_stage), from_base=self._starts_from_base(by_stage))
        figures = []
        for before, after in pairs_of(list(by_stage), references):
            kl = self._kl(by_stage[after], by_stage[before]) if references.get(after) == before else None
            figures.append(pair_figures(by_stage[before], by_stage[after], kl))
        return figures

    def _starts_from_base(self, stages: Iterable[str]) -> bool:
        return self.recipe.sft is None and not any(kind_of(stage) == "sft" for stage in stages)

    def _kl(self, answers: Answers, reference: Answers) -> KlFigures:
        stage, drawing = answers.stage, self.drawing
        same = drawing == self.question
        replies = answers.replies if same else self._ask(stage, drawing, lambda done: None)
        with progress(f"KL {stage}", len(replies)) as tick:
            divergence = response_kl(
                self.models.policy,
                adapter_of(stage),
                adapter_of(reference.stage),
                self._prompts(stage),
                [reply.ids for reply in replies],
                temperature=drawing.temperature,
                batch_size=self.recipe.evaluate.batch_size,
                tick=tick,
            )
        changes = answers.rewards - reference.rewards if same else None
        return kl_figures(divergence, reference.stage, drawing.temperature, self.recipe.seed, changes)

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
        for name, other in self._others().items():
            parts[name] = np.asarray(other.score(prompts, texts), dtype=np.float32)
        if rewards.shape != (len(replies),) or not np.isfinite(rewards).all():
            raise ModelError(
                f"The reward model {self.models.reward_name} gave {np.isfinite(rewards).sum()} usable scores for "
                f"{len(replies)} replies. Train it again, or name another one in ppo.reward."
            )
        return rewards, parts

    def _others(self) -> dict[str, TextScorer]:
        """The scorers that are no part of the reward, by the name of their scores."""
        models = self.models
        guard = self.recipe.ppo.guard if self.recipe.ppo else None
        found = {} if guard is None or models.guard is None else {f"guard {guard.title}": models.guard}
        return found if self.judge_name is None or models.judge is None else {**found, self.judge_name: models.judge}

    @property
    def judge_name(self) -> str | None:
        """What the judge's scores are called, or None without one."""
        return None if self.models.judge is None else self.models.judge_name or "judge"

    @property
    def roles(self) -> dict[str, Role]:
        """What those that are no part of the reward are for."""
        return {name: "judge" if name == self.judge_name else "guard" for name in self._others()}


def _shift(tick: Tick, seen: int, stage: str, done: int) -> None:
    """Progress of one stage as progress of all."""
    tick(seen + done, stage=stage)
