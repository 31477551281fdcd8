"""Reinforcement learning from feedback by PPO (Schulman et al. 2017; Ziegler et al. 2019; design, "PPO, the details
that matter"). The maths is in ``maths``, sampling and measuring in ``rollout``, the losses' step in ``update``.
"""

import time
from functools import partial
from pathlib import Path
from typing import Any

from sawyer.compute import set_threads
from sawyer.errors import TrainingError
from sawyer.generation import row_seed
from sawyer.progress import progress
from sawyer.recipe import PpoSpec, Recipe
from sawyer.runs import Run
from sawyer.scoring import Reward
from train.ppo.actor import STAGE, Actor
from train.ppo.curves import draw_curves
from train.ppo.maths import KlController, explained_variance, gae, kl_k1, linear_decay, token_rewards, whiten
from train.ppo.prompts import Task, Tasks, load_tasks, spread
from train.ppo.rollout import answer, collect, describe, judge, sample_rows
from train.ppo.state import load_state, save_state
from train.ppo.update import Learner, Update, summarise
from train.ppo.watch import collapse
from train.rewards import reward_of

HELD_OUT_PROMPTS = 64
SAMPLES = 8


def train_ppo(
    recipe: Recipe, run: Run, backbone: Path | str, sft: Path | None, reward: Path | str | Reward | None
) -> Path:
    """Tune ``rlf`` against a reward and return its adapter's folder.

    ``rlf`` starts as a copy of ``sft``, which is also the reference; without one it starts as a fresh adapter, and
    the backbone is the reference. ``reward`` is the recipe's own reward model, for the parts of ``ppo.reward`` that
    ask for it, or a :class:`Reward` that takes their place.
    With a run opened for resuming, it goes on from the newest sound checkpoint and ends bit for bit the same (CPU).

    Raises:
        DataError: no usable prompts. ModelError: a model cannot be loaded. CheckpointError: one cannot be written.
        TrainingError: the reward misbehaves, the loss is not finite, or the policy collapsed (the message says why).
    """
    assert recipe.ppo is not None
    spec = recipe.ppo
    set_threads(recipe.threads)
    actor = Actor.load(recipe, backbone, sft)
    tasks = load_tasks(spec, actor.policy.chat, STAGE, recipe.seed)
    learner = Learner(actor, spec)
    reward = reward if isinstance(reward, Reward) else reward_of(spec, reward, actor.policy.device)
    controller = KlController(spec.kl.first, spec.kl.target, spec.kl.horizon)

    checkpoint = run.latest_checkpoint()
    begin = checkpoint[0] if checkpoint else 0
    if checkpoint:
        controller = load_state(checkpoint[1], learner, reward, controller)
        run.truncate_log(begin)
    else:
        _freeze(reward, actor, tasks, spec, recipe.seed)
        run.truncate_log(-1)
        figures = _probe(actor, reward, tasks, spec, recipe.seed, run, 0)
        if figures:
            run.log(0, **figures)
    history: list[dict[str, Any]] = run.metrics()

    with progress("ppo", spec.steps) as tick:
        for step in range(begin, spec.steps):
            started = time.perf_counter()
            seed = row_seed(recipe.seed, step)
            # 1. Answer prompts with the policy as it is, score the replies, measure every token.
            rollout = collect(actor, reward, tasks.deal(step, spec.batch_size, recipe.seed), spec, seed=seed)
            collected = time.perf_counter()
            # 2. Rewards per token, advantages and returns; whitening over the whole rollout.
            kl = kl_k1(rollout.old, rollout.reference, rollout.mask)
            rewards = token_rewards(kl, rollout.scores, rollout.lengths, controller.beta)
            advantages, returns = gae(rewards, rollout.values, rollout.mask, spec.gamma, spec.lam)
            advantages = whiten(advantages, rollout.mask)
            # 3. Several epochs of clipped updates; they end when the policy has moved far enough.
            learner.set_rate(linear_decay(step, spec.steps))
            updates: list[Update] = []
            with actor.learning():
                for epoch in range(spec.epochs):
                    for parts in rollout.minibatches(epoch, spec.minibatch_size // spec.micro_batch, seed):
                        updates.append(learner.step(rollout, parts, advantages, returns))
                        if updates[-1].skipped:
                            break
                    if updates[-1].skipped:
                        break
            ended = time.perf_counter()
            # 4. Log, watch, sample, save.
            done = step + 1
            figures = {
                **describe(rollout, controller.beta),
                **summarise(updates),
                "value/explained_variance": explained_variance(rollout.values, returns, rollout.mask),
                "schedule/beta": controller.beta,
                "schedule/lr": learner.optimizer.param_groups[0]["lr"],
                "speed/episodes_per_second": spec.batch_size / (ended - started),
                "speed/rollout_share": (collected - started) / (ended - started),
            }
            controller = controller.after(figures["objective/kl"], spec.batch_size)
            if done % spec.sample_every == 0 or done == spec.steps:
                figures |= _probe(actor, reward, tasks, spec, recipe.seed, run, done)
            run.log(done, **figures)
            history.append({"step": done, **figures})
            tick(done, score=figures["objective/score"], kl=figures["objective/kl"], length=figures["rollout/length"])
            reason = collapse(history, spec.kl.target) if spec.watch else None
            if reason:
                raise TrainingError(_collapsed(reason, done, run))
            if done % spec.save_every == 0 or done == spec.steps:
                write = partial(save_state, learner=learner, reward=reward, controller=controller)
                run.save_checkpoint(done, write)

    return _finish(run, actor, reward, tasks, spec)


def _freeze(reward: Reward, actor: Actor, tasks: Tasks, spec: PpoSpec, seed: int) -> None:
    """Fix the reward's mean and deviation on replies of the policy as it starts."""
    asked = [task for step in range(-(-spec.normalize_samples // len(tasks.train))) for task in
             tasks.deal(step, len(tasks.train), seed)][: spec.normalize_samples]  # fmt: skip
    episodes = answer(actor, asked, spec, seed=row_seed(seed, -1))
    reward.freeze([e.task.messages for e in episodes], [e.reply.text for e in episodes])


def _probe(
    actor: Actor, reward: Reward, tasks: Tasks, spec: PpoSpec, seed: int, run: Run, step: int
) -> dict[str, float]:
    """Answer the same held-out prompts with the same seeds: figures to compare between steps, and samples to read."""
    asked: list[Task] = spread(tasks.held_out or tasks.train[:SAMPLES], HELD_OUT_PROMPTS)
    episodes = answer(actor, asked, spec, seed=row_seed(seed, -2))
    scores = judge(reward, episodes, spec.missing_eos_penalty)
    run.save_samples(step, sample_rows(episodes, scores, SAMPLES))
    if not tasks.held_out:
        return {}
    length = sum(len(episode.reply.ids) for episode in episodes) / len(episodes)
    return {"heldout/score": float(scores.total.mean()), "heldout/length": length}


def _collapsed(reason: str, step: int, run: Run) -> str:
    return (
        f"PPO was stopped at step {step} because the policy is collapsing: {reason} The checkpoints before it and the "
        f"metrics are in {run.folder}. To train on regardless, set ppo.watch to false."
    )


def _finish(run: Run, actor: Actor, reward: Reward, tasks: Tasks, spec: PpoSpec) -> Path:
    with run.output("adapter") as folder:
        actor.policy.save_adapter(STAGE, folder)
    rows = run.metrics()
    curves = run.folder / "curves.png"
    draw_curves(rows, curves)
    last = {key: value for key, value in rows[-1].items() if key not in ("step", "time")}
    prompts = {"train": len(tasks.train), "held_out": len(tasks.held_out), "left_out": tasks.left_out}
    run.finish(run.folder / "adapter", curves, steps=spec.steps, prompts=prompts, reward=reward.state(), figures=last)
    return run.folder / "adapter"
