"""Reinforcement learning from feedback by PPO (Schulman et al. 2017; Ziegler et al. 2019; design, "PPO, the details
that matter"). The maths is in ``maths``, sampling and measuring in ``rollout``, the losses' step in ``update``.
"""

import time
from functools import partial
from pathlib import Path
from typing import Any

from sawyer.compute import keep_memory, release_memory, set_threads
from sawyer.errors import TrainingError
from sawyer.generation import row_seed
from sawyer.progress import note, progress
from sawyer.recipe import Recipe
from sawyer.runs import Run
from sawyer.scoring import Reward
from train.memory import enough_memory
from train.ppo.actor import Actor
from train.ppo.maths import KlController, explained_variance, gae, kl_k1, linear_decay, token_rewards, whiten
from train.ppo.outcome import finish
from train.ppo.probe import Prober, best_of
from train.ppo.rollout import collect, describe
from train.ppo.state import load_state, save_state
from train.ppo.update import Learner, Update, summarise
from train.ppo.watch import Finding, examine

TOO_MANY = "lower ppo.batch_size (with ppo.minibatch_size), ppo.max_new_tokens or ppo.max_prompt"
TOO_WIDE = "lower ppo.micro_batch or set ppo.gradient_checkpointing"


def train_ppo(
    recipe: Recipe,
    run: Run,
    backbone: Path | str,
    sft: Path | None,
    reward: Path | str | Reward | None,
    classifiers: Path | None = None,
    start: Path | None = None,
) -> Path:
    """Tune ``rlf`` against a reward and return its adapter's folder.

    ``rlf`` starts as a copy of ``sft``, which is also the reference; without one it starts as a fresh adapter, and
    the backbone is the reference. With ``start`` it starts as a copy of that adapter; the reference is the same.
    ``reward`` is the recipe's own reward model, for the parts of ``ppo.reward`` that ask for it, or a :class:`Reward`
    that takes their place (frozen already, it stays as it is); ``classifiers`` is the folder of the recipe's own.
    With a run opened for resuming, it goes on from the newest sound checkpoint and ends bit for bit the same (CPU).

    Raises:
        DataError: no usable prompts. ModelError: a model cannot be loaded. CheckpointError: one cannot be written.
        TrainingError: the reward misbehaves, the loss is not finite, or the policy collapsed (the message says why).
    """
    assert recipe.ppo is not None
    spec = recipe.ppo
    set_threads(recipe.threads)
    keep_memory()
    actor = Actor.load(recipe, backbone, sft, start)
    learner = Learner(actor, spec)
    prober = Prober.load(actor, spec, recipe.seed, reward, classifiers)
    reward, guard, tasks = prober.reward, prober.guard, prober.tasks
    controller = KlController(spec.kl.first, spec.kl.target, spec.kl.horizon)

    checkpoint = run.latest_checkpoint()
    begin = checkpoint[0] if checkpoint else 0
    if checkpoint:
        controller = load_state(checkpoint[1], learner, reward, controller, guard)
        run.truncate_log(begin)
    else:
        prober.freeze()
        run.truncate_log(-1)
        figures = prober.probe(run, 0)
        if figures:
            run.log(0, **figures)
    history: list[dict[str, Any]] = run.metrics()
    warned: set[str] = set()

    with progress("ppo", spec.steps) as tick:
        for step in range(begin, spec.steps):
            started = time.perf_counter()
            seed = row_seed(recipe.seed, step)
            # 1. Answer prompts with the policy as it is, score the replies, measure every token.
            asked = tasks.deal(step, spec.batch_size, recipe.seed, each=spec.group_size)
            with enough_memory(recipe.name, TOO_MANY):
                rollout = collect(actor, reward, asked, spec, seed=seed)
            release_memory()
            collected = time.perf_counter()
            # 2. Rewards per token, advantages and returns; whitening over the whole rollout.
            kl = kl_k1(rollout.old, rollout.reference, rollout.mask)
            scores = rollout.scores - rollout.baseline(spec.group_size)
            rewards = token_rewards(kl, scores, rollout.lengths, controller.beta)
            advantages, returns = gae(rewards, rollout.values, rollout.mask, spec.gamma, spec.lam)
            advantages = whiten(advantages, rollout.mask)
            # 3. Several epochs of clipped updates; they end when the policy has moved far enough.
            learner.set_rate(linear_decay(step, spec.steps))
            updates: list[Update] = []
            with actor.learning(), enough_memory(recipe.name, TOO_WIDE):
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
                figures |= prober.probe(run, done)
                prober.keep_best(run, done, figures)
            run.log(done, **figures)
            history.append({"step": done, **figures})
            tick(done, score=figures["objective/score"], kl=figures["objective/kl"], length=figures["rollout/length"])
            _warn_or_stop(examine(history, spec) if spec.watch else [], warned, done, run)
            if done % spec.save_every == 0 or done == spec.steps:
                write = partial(save_state, learner=learner, reward=reward, controller=controller, guard=guard)
                run.save_checkpoint(done, write)

    return finish(run, prober)


def _warn_or_stop(findings: list[Finding], warned: set[str], step: int, run: Run) -> None:
    """Say each warning once; raise on a collapse."""
    for finding in findings:
        if finding.stops:
            raise TrainingError(_collapsed(finding, step, run))
        if finding.name not in warned:
            warned.add(finding.name)
            note(f"step {step}: {finding.text}")


def _collapsed(finding: Finding, step: int, run: Run) -> str:
    best = best_of(run)
    kept = (
        f"The best policy before it (step {best['step']}, held-out score {best['score']:.3g}, KL {best['kl']:.3g}) is "
        f"in {run.folder / 'best' / 'adapter'}. " if best else ""
    )  # fmt: skip
    return (
        f"PPO was stopped at step {step} because the policy is collapsing: {finding.text} {kept}The checkpoints and "
        f"the metrics are in {run.folder}. To train on regardless, set ppo.watch to false."
    )
