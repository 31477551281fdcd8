"""The candidate: the reward's scale frozen, rlf trained by the round's method, both registered and not promoted."""

from pathlib import Path
from typing import Any

from sawyer.compute import pick_device
from sawyer.loading import load_config
from sawyer.models import fingerprint
from sawyer.recipe import Recipe
from sawyer.runs import Run, write_json
from sawyer.scoring import Reward
from train.pipeline import Parts, train_into
from train.ppo import train_ppo
from train.ppo.actor import Actor
from train.ppo.probe import Prober
from train.rewards import reward_of
from train.round.work import RoundWork


def normalise(work: RoundWork) -> dict[str, Any]:
    """Freeze the mean and deviation of the new reward on replies of sft, which every round has in common."""
    recipe, parts = work.tuned, work.parts
    assert recipe.ppo is not None and parts.backbone is not None
    actor = Actor.load(recipe, parts.backbone, parts.sft)
    prober = Prober.load(actor, recipe.ppo, recipe.seed, parts.reward, parts.classifiers)
    prober.freeze()
    statistics = prober.reward.state()
    write_json(work.folder("normalise") / "statistics.json", statistics)
    told = ", ".join(f"{name} {s['mean']:.3g} ± {s['deviation']:.3g}" for name, s in statistics.items())
    work.diary.detail("normalise", f"mean and deviation over {recipe.ppo.normalize_samples} replies of sft: {told}")
    return {"statistics": statistics}


def train_rlf(work: RoundWork) -> dict[str, Any]:
    """Train the candidate and register it with its reward model. Neither is promoted."""
    recipe, parts = work.tuned, work.parts
    assert recipe.ppo is not None
    begin = work.version("rlf") if recipe.round.start == "current" else None
    with Run(work.folder("rlf") / "run", step=work.method, recipe=recipe, resume=True) as run:
        if run.finished:
            adapter = run.folder / "adapter"
        else:
            adapter = train_method(work.method, recipe, run, parts, frozen_reward(work, recipe, parts), begin)
    refs = work.results["snapshot"]["refs"]
    assert parts.reward is not None and parts.backbone is not None
    info = {"recipe": recipe.name, "round": work.diary.record.number}
    reward = work.registry.register("reward", parts.reward, info={**info, "from": refs["reward"]})
    mark = fingerprint(parts.backbone, load_config(parts.backbone, recipe.model))
    more = {"backbone": mark, "method": work.method, "sft": refs["sft"], "reward": reward.ref}
    more |= {"classifiers": refs["classifiers"], "statistics": work.results["normalise"]["statistics"]}
    started = refs["rlf"] if begin is not None and work.method == "ppo" else refs["sft"] or "base"
    candidate = work.registry.register("rlf", adapter, info={**info, **more, "from": started})
    work.diary.update(candidate=candidate.ref, current=refs["rlf"] or refs["sft"])
    work.diary.detail("rlf", f"{candidate.ref} was trained by {work.method} from {started}, rewarded by {reward.ref}")
    return {"candidate": candidate.ref, "reward": reward.ref}


def frozen_reward(work: RoundWork, recipe: Recipe, parts: Parts) -> Reward:
    """The round's reward with the statistics of its normalise step."""
    assert recipe.ppo is not None
    reward = reward_of(recipe.ppo, parts.reward, pick_device(), parts.classifiers)
    reward.load_state(work.results["normalise"]["statistics"])
    return reward


def train_method(method: str, recipe: Recipe, run: Run, parts: Parts, reward: Reward, start: Path | None) -> Path:
    """Train rlf by a method and return the adapter's folder.

    PPO goes on from ``start``; every other method begins at sft, as it does outside a round.
    """
    if method == "ppo":
        assert parts.backbone is not None
        return train_ppo(recipe, run, parts.backbone, parts.sft, reward, parts.classifiers, start)
    return train_into(method, recipe, run, parts)
