"""TRL's GRPO and RLOO trainers on PPO's own rollouts.

Prompts, decoding, scores, figures, probes and checkpoints are those of PPO; TRL makes of scores and log-probabilities
the advantages, the loss and the optimiser's steps. By itself TRL would tokenise and decode in its own way, without
stop texts, count the padding as positions, and report each start to a server. The methods overridden for that are
private to TRL: those of 1.16.
"""

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from transformers import PrinterCallback
from trl import GRPOTrainer, RLOOTrainer

from sawyer.compute import autocast
from sawyer.errors import CheckpointError, TrainingError
from sawyer.generation import row_seed
from sawyer.logprobs import position_ids
from sawyer.models import Policy
from sawyer.progress import Tick, note, progress
from sawyer.recipe import Plan
from sawyer.runs import Run, write_json
from train.ppo.actor import STAGE
from train.ppo.maths import linear_decay
from train.ppo.probe import Prober
from train.ppo.prompts import Task, Tasks
from train.ppo.rollout import Episode, Rollout, collect, describe
from train.ppo.watch import examine
from train.trainer import SealedCheckpoints

REFERENCE = "ref"
REWARDS = "rewards.json"
# TRL's name of a figure -> ours. Its KL is in nats a token: k3 and during the update for GRPO, k1 and before for RLOO.
NAMES = {
    "loss": "loss/policy",
    "grad_norm": "policy/grad_norm",
    "clip_ratio/region_mean": "policy/clip_fraction",
    "frac_reward_zero_std": "group/alike",
    "kl": "trl/kl",
}


class SharedRollouts(SealedCheckpoints):
    """What both trainers have in common, mixed in before TRL's class. Steps are counted as in PPO: one a rollout.

    Args:
        run: receives figures, samples and checkpoints; its ``resume`` says whether to go on from one.
        plan: the method's settings.
        prober: holds actor, reward, guard and prompts, and asks the held-out ones.
        args: TRL's configuration, made of ``plan``.
    """

    def __init__(self, run: Run, plan: Plan, prober: Prober, args: Any) -> None:
        self.run, self.plan, self.prober = run, plan, prober
        self.policy = prober.actor.policy
        self.history: list[dict[str, float]] = []
        self.warned: set[str] = set()
        self._tick: Tick | None = None
        self._dealt: list[Task] = []
        self._rollout: Rollout | None = None
        self._places: list[int] = []
        self._began = self._collected = 0.0
        with reference_of(self.policy):
            super().__init__(
                model=self.policy.model,
                reward_funcs=[self._scores],
                args=args,
                train_dataset=dealt_rows(prober.tasks, plan, run.recipe.seed),
                processing_class=self.policy.tokenizer,
            )
        self.policy.model.register_forward_pre_hook(_with_positions, with_kwargs=True)
        self.remove_callback(PrinterCallback)

    def fit(self) -> None:
        """Train to the end, from the run's newest sound checkpoint when the run is resumed.

        Raises:
            TrainingError: the loss is not finite, the reward misbehaves, or the policy collapsed.
            CheckpointError: a checkpoint cannot be written, or belongs to another model.
        """
        found = self.run.latest_checkpoint()
        self.run.truncate_log(found[0] if found else -1)
        if found:
            self._load_rewards(found[1])
        else:
            self.prober.freeze()
            figures = self.prober.probe(self.run, 0)
            if figures:
                self.run.log(0, **figures)
        self.history = self.run.metrics()
        with progress(self.plan.method, self.plan.ppo.steps) as self._tick, self.policy.using(STAGE, train=True):
            self.train(resume_from_checkpoint=str(found[1]) if found else None)

    def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> torch.Tensor:
        """One forward and backward pass; the weights are still sound when this raises."""
        loss = super().training_step(model, inputs, num_items_in_batch)
        if not torch.isfinite(loss):
            raise TrainingError(
                f"The loss is {float(loss)} in step {self._done + 1}: lower {self.plan.method}.lr (now "
                f"{self.plan.ppo.lr:g}), or set model.dtype to float32. Checkpoints up to here are intact."
            )
        return loss

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Called after a step's last update, before it is saved; TRL adds its figures to ``logs``."""
        super().log(logs, start_time)
        if "loss" in logs:
            self._report({ours: float(logs[theirs]) for theirs, ours in NAMES.items() if logs.get(theirs) is not None})

    @property
    def _done(self) -> int:
        return self.state.global_step // self.plan.updates

    def _report(self, update: dict[str, float]) -> None:
        """Log a step as PPO does, probe, keep the best policy, and watch."""
        assert self._rollout is not None and self._tick is not None
        spec, done = self.plan.ppo, self._done
        seconds = time.perf_counter() - self._began
        figures = {
            **describe(self._rollout, self.plan.beta),
            **update,
            "schedule/beta": self.plan.beta,
            "schedule/lr": spec.lr * linear_decay(done - 1, spec.steps),
            "speed/episodes_per_second": spec.batch_size / seconds,
            "speed/rollout_share": (self._collected - self._began) / seconds,
        }
        if done % spec.sample_every == 0 or done == spec.steps:
            figures |= self.prober.probe(self.run, done)
            self.prober.keep_best(self.run, done, figures)
        self.run.log(done, **figures)
        self.history.append({"step": done, **figures})
        self._tick(done, score=figures["objective/score"], kl=figures["objective/kl"], length=figures["rollout/length"])
        if spec.watch:
            self._watch(done)

    def _watch(self, step: int) -> None:
        """Say each warning once; raise on a collapse."""
        for finding in examine(self.history, self.plan.ppo, self.plan.method):
            if finding.stops:
                raise TrainingError(
                    f"{self.plan.method.upper()} was stopped at step {step} because the policy is collapsing: "
                    f"{finding.text} The checkpoints, the metrics and the best policy are in {self.run.folder}. To "
                    "train on regardless, set ppo.watch to false."
                )
            if finding.name not in self.warned:
                self.warned.add(finding.name)
                note(f"step {step}: {finding.text}")

    # What TRL asks for in the course of a step

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        seed = row_seed(self.run.recipe.seed, self._done)
        self._began = time.perf_counter()
        self._dealt = [self.prober.tasks.train[row["task"]] for row in inputs]
        self._rollout = collect(self.prober.actor, self.prober.reward, self._dealt, self.plan.ppo, seed=seed)
        self._places = places_of(self._dealt, self._rollout.episodes)
        output = super()._generate_and_score_completions(inputs)
        self._collected = time.perf_counter()
        # TRL deals the episodes into minibatches by torch's generator: by step alone, whatever was drawn before.
        torch.manual_seed(seed)
        return output

    def _tokenize_prompts(self, prompts: list[Any]) -> tuple[list[list[int]], None, dict[str, Any]]:
        return [task.ids for task in self._dealt], None, {}

    def _replies(self) -> list[list[int]]:
        """The rollout's replies in the order of TRL's rows, EOS included."""
        assert self._rollout is not None
        return [self._rollout.episodes[place].reply.ids for place in self._places]

    def _scores(self, **_: Any) -> list[float]:
        """The rollout's scores in the order of TRL's rows: normalised, the penalty for a missing EOS included."""
        assert self._rollout is not None
        return self._rollout.scores[self._places].tolist()

    def _get_per_token_logps_and_entropies(self, *args: Any, **options: Any) -> Any:
        with autocast(self.policy.device, self.prober.actor.dtype):
            return super()._get_per_token_logps_and_entropies(*args, **options)

    def _send_telemetry(self) -> None:
        """Nothing is reported to anybody."""

    # Checkpoints

    def _save_checkpoint(self, model: Any, trial: Any = None) -> None:
        self.run.save_checkpoint(self._done, self._write_checkpoint)

    def _write_checkpoint(self, folder: Path) -> None:
        super()._write_checkpoint(folder)
        guard = self.prober.guard
        figures = {"reward": self.prober.reward.state()} | ({"guard": guard.state()} if guard else {})
        write_json(folder / REWARDS, figures)

    def _load_rewards(self, folder: Path) -> None:
        try:
            figures = json.loads((folder / REWARDS).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise CheckpointError(f"The checkpoint {folder} has no {REWARDS}: start anew without --resume.") from error
        self.prober.reward.load_state(figures["reward"])
        if self.prober.guard is not None:
            self.prober.guard.load_state(figures.get("guard", {}))


class GrpoRun(SharedRollouts, GRPOTrainer):
    """GRPO (Shao et al. 2024)."""

    def _generate_single_turn(self, *_: Any, **__: Any) -> tuple[list[list[int]], None]:
        return self._replies(), None


class RlooRun(SharedRollouts, RLOOTrainer):
    """RLOO (Ahmadian et al. 2024)."""

    def _generate_single_turn(self, *_: Any, **__: Any) -> list[list[int]]:
        return self._replies()


@contextmanager
def reference_of(policy: Policy) -> Iterator[None]:
    """Inside, TRL may build a trainer around ``rlf``; afterwards its reference is ``rlf`` as it was before.

    TRL knows an adapter called ``default`` and copies it to ``ref``; of any other it would take the bare backbone for
    the reference. Adapters of a quantised model it rounds to bfloat16, which is undone here.
    """
    model = policy.model
    before = [parameter.detach().clone() for parameter in policy.parameters_of(STAGE)]
    names = policy.names_of(STAGE)
    model.peft_config["default"] = model.peft_config[STAGE]
    try:
        yield
    finally:
        del model.peft_config["default"]
    for name, value in zip(names, before, strict=True):
        model.get_parameter(name).data = value
        if REFERENCE in model.peft_config:  # GRPO makes none for a KL that counts for nothing
            copy = model.get_parameter(name.replace(f".{STAGE}.", f".{REFERENCE}."))
            copy.data = value.clone()
            copy.requires_grad_(False)


def dealt_rows(tasks: Tasks, plan: Plan, seed: int) -> Dataset:
    """The prompts of all steps in order, as numbers of ``tasks.train``; TRL repeats each for its group."""
    number = {id(task): index for index, task in enumerate(tasks.train)}
    dealt = [task for step in range(plan.ppo.steps) for task in tasks.deal(step, plan.groups, seed)]
    # TRL wants a text as well, but never shows it to the policy.
    texts = [task.messages[-1]["content"] for task in dealt]
    return Dataset.from_dict({"prompt": texts, "task": [number[id(task)] for task in dealt]})


def places_of(dealt: Sequence[Task], episodes: Sequence[Episode]) -> list[int]:
    """For every dealt task the place of one of its episodes, each episode once."""
    found: dict[int, list[int]] = {}
    for place, episode in enumerate(episodes):
        found.setdefault(id(episode.task), []).append(place)
    return [found[id(task)].pop() for task in dealt]


def _with_positions(_: Any, args: Any, options: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """Positions from the mask for TRL's forward passes, which leave them to count the padding on the left."""
    if options.get("fused_lm_head"):
        options["position_ids"] = position_ids(options["attention_mask"])
    return args, options
