"""The reward model the candidate will be trained on and the judge it will not, both tested on held-out votes.

The judge has another seed, leaves out another share of the conversations, and begins where the recipe's reward model
began: nothing it gets wrong comes from the reward model, and nothing is ever optimised against it.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sawyer.data import Pair, conversation_key, is_held_out, load_pairs
from sawyer.errors import GateRefused
from sawyer.recipe import JudgeSpec, Recipe, judge_recipe
from sawyer.rounds.gate import Trust, reasons, sound
from sawyer.runs import Run
from sawyer.scoring import ClassifierScorer
from train.reward_model import train_reward
from train.reward_report import wins
from train.round.snapshot import sources_at_hand
from train.round.work import EARLIER, PAIRS, RoundWork

JUDGE_FOLD = 1


def train_rewards(work: RoundWork) -> dict[str, Any]:
    """Train both and test them; returns what each test found (JSON), as the gate wants it.

    Raises:
        GateRefused: one of them does not surely agree with held-out votes more often than chance.
    """
    gate = work.recipe.round.gate
    conditions, figures = [], dict[str, Any]()
    for name, recipe, fold in (("reward", reward_recipe(work), 0), ("judge", judge_of(work), JUDGE_FOLD)):
        with Run(
            work.folder("reward") / name, step="reward" if fold == 0 else "reward.judge", recipe=recipe, resume=True
        ) as run:
            model = run.folder / "model" if run.finished else train_reward(recipe, run, *_policy(work))
        trust = test(work, model, fold)
        figures[name] = {"shares": trust.shares.tolist(), "pairs": trust.pairs}
        conditions.append(sound(f"{name} agrees with held-out votes", trust, gate))
        work.diary.update(conditions=conditions)
        work.diary.detail("reward", f"{conditions[-1].name}: {conditions[-1].measured}")
        if not conditions[-1].met:
            raise GateRefused(
                f"The votes cannot be learnt from: {reasons(conditions)[0]} More votes, or fewer that contradict each "
                "other (`sawyer feedback review`), are what helps."
            )
    return figures


def reward_recipe(work: RoundWork) -> Recipe:
    """The recipe of the new reward model: the snapshot's pairs, from the current model or from nothing."""
    recipe = work.tuned
    assert recipe.reward is not None
    spec = recipe.reward.model_copy(update={"text_sources": sources_at_hand(recipe.reward.text_sources)})
    current = work.version("reward")
    if recipe.round.reward_from == "current" and current is not None:
        start = {"model": str(current), "revision": None, "scratch": None, "text_sources": [], "text_steps": 0}
        spec = spec.model_copy(update=start)
    return recipe.model_copy(update={"reward": spec})


def judge_of(work: RoundWork) -> Recipe:
    """The judge's recipe: another seed, another share held out, and the recipe's own beginning."""
    recipe = work.tuned
    assert recipe.reward is not None
    steps = min(recipe.reward.text_steps, recipe.round.judge_text_steps)
    judge = judge_recipe(recipe, JudgeSpec(seed=recipe.round.judge_seed, fold=JUDGE_FOLD, text_steps=steps))
    assert judge.reward is not None
    # A round has few votes: the judge learns from the share that the reward model is tested on, and the reverse.
    spec = judge.reward.model_copy(update={"text_sources": sources_at_hand(recipe.reward.text_sources), "unseen": []})
    return judge.model_copy(update={"reward": spec})


@dataclass(frozen=True)
class Tested:
    """Held-out pairs and how often a reward model is right on each: 1, 0, or ½ for equal scores, float64 [n]."""

    pairs: list[Pair]
    won: np.ndarray


def ask(work: RoundWork, model: Path, file: str, fold: int) -> Tested:
    """Ask a reward model about the pairs of a snapshot's file that ``fold`` holds out."""
    path = work.folder("snapshot") / file
    read = load_pairs([work.data(file)], work.recipe.seed) if path.exists() else []
    pairs = [pair for pair in read if is_held_out(pair.prompt, work.recipe.round.held_out, fold)]
    if not pairs:
        return Tested([], np.zeros(0))
    scorer = scorer_of(work.recipe, model)
    prompts = [pair.prompt for pair in pairs]
    chosen = scorer.score(prompts, [pair.chosen for pair in pairs])
    rejected = scorer.score(prompts, [pair.rejected for pair in pairs])
    return Tested(pairs, wins(chosen, rejected))


def test(work: RoundWork, model: Path, fold: int) -> Trust:
    """How often a reward model agrees with people's held-out votes, conversation by conversation."""
    found = ask(work, model, PAIRS, fold)
    chats: dict[str, list[float]] = {}
    for pair, won in zip(found.pairs, found.won, strict=True):
        chats.setdefault(conversation_key(pair.prompt), []).append(float(won))
    return Trust(np.array([np.mean(shares) for shares in chats.values()]), len(found.pairs))


def kept(work: RoundWork, new: Path, before: Path) -> np.ndarray | None:
    """The new model's success on each earlier held-out pair less that of the model before; None without such pairs."""
    found = ask(work, new, EARLIER, 0).won
    return found - ask(work, before, EARLIER, 0).won if len(found) else None


def scorer_of(recipe: Recipe, model: Path) -> ClassifierScorer:
    """A reward model alone, in its own units."""
    assert recipe.reward is not None
    return ClassifierScorer(model, max_length=recipe.reward.max_length)


def _policy(work: RoundWork) -> tuple[Path | str | None, Path | None]:
    parts = work.parts
    return parts.backbone, parts.sft
