"""Probes of a PPO run: the same held-out prompts answered again and again, a guard asked beside the reward, the best
policy so far kept.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sawyer.generation import row_seed
from sawyer.recipe import PpoSpec
from sawyer.runs import Run, write_json
from sawyer.scoring import Reward
from train.ppo.actor import STAGE, Actor
from train.ppo.prompts import Task, Tasks, load_tasks, spread
from train.ppo.rollout import answer, judge, sample_rows
from train.rewards import guard_of, reward_of

HELD_OUT_PROMPTS = 64
SAMPLES = 8
BEST = "best"


@dataclass(frozen=True)
class Prober:
    """Asks held-out prompts with fixed seeds, so that figures of different steps can be compared.

    ``guard`` is a second reward that PPO does not learn from: it shows when the first is being exploited.
    """

    actor: Actor
    reward: Reward
    guard: Reward | None
    tasks: Tasks
    spec: PpoSpec
    seed: int

    @classmethod
    def load(
        cls,
        actor: Actor,
        spec: PpoSpec,
        seed: int,
        reward: Path | str | Reward | None,
        classifiers: Path | None = None,
    ) -> "Prober":
        """Read the prompts and set up reward and guard; ``reward`` and ``classifiers`` as in ``train_ppo``.

        Raises:
            DataError: no usable prompts. ModelError, UsageError, TrainingError: reward or guard are of no use.
        """
        tasks = load_tasks(spec, actor.policy.chat, STAGE, seed)
        device = actor.policy.device
        guard = guard_of(spec, None if isinstance(reward, Reward) else reward, device, classifiers)
        reward = reward if isinstance(reward, Reward) else reward_of(spec, reward, device, classifiers)
        return cls(actor, reward, guard, tasks, spec, seed)

    def freeze(self) -> None:
        """Fix what is not fixed yet of reward and guard, mean and deviation, on replies of the policy as it starts."""
        spec, tasks = self.spec, self.tasks
        loose = [reward for reward in (self.reward, self.guard) if reward is not None and not reward.frozen]
        if not loose:
            return
        asked: list[Task] = []
        while len(asked) < spec.normalize_samples:
            asked += tasks.deal(len(asked) // len(tasks.train), len(tasks.train), self.seed)
        episodes = answer(self.actor, asked[: spec.normalize_samples], spec, seed=row_seed(self.seed, -1))
        for reward in loose:
            reward.freeze([e.task.messages for e in episodes], [e.reply.text for e in episodes])

    def probe(self, run: Run, step: int) -> dict[str, float]:
        """Figures of the held-out prompts, and samples to read; without held-out prompts samples alone."""
        asked: Sequence[Task] = spread(self.tasks.held_out or self.tasks.train[:SAMPLES], HELD_OUT_PROMPTS)
        episodes = answer(self.actor, asked, self.spec, seed=row_seed(self.seed, -2))
        scores = judge(self.reward, episodes, self.spec.missing_eos_penalty)
        run.save_samples(step, sample_rows(episodes, scores, SAMPLES))
        if not self.tasks.held_out:
            return {}
        length = sum(len(episode.reply.ids) for episode in episodes) / len(episodes)
        figures = {"heldout/score": float(scores.total.mean()), "heldout/length": length}
        if self.guard is not None:
            figures["heldout/guard"] = float(judge(self.guard, episodes, 0.0).total.mean())
        return figures

    def keep_best(self, run: Run, step: int, figures: dict[str, float]) -> None:
        """Keep the adapter in ``best/`` if its held-out score is the highest yet and its KL within the budget."""
        score, kl = figures.get("heldout/score"), figures.get("objective/kl")
        if score is None or kl is None or kl > self.spec.kl_budget:
            return
        before = best_of(run)
        if before is not None and before["score"] >= score:
            return
        with run.output(BEST) as folder:
            self.actor.policy.save_adapter(STAGE, folder / "adapter")
            write_json(folder / "best.json", {"step": step, "score": score, "kl": kl})


def best_of(run: Run) -> dict[str, Any] | None:
    """Step, held-out score and KL of the best policy kept so far."""
    file = run.folder / BEST / "best.json"
    return json.loads(file.read_text(encoding="utf-8")) if file.exists() else None
