"""GRPO and RLOO beside PPO: the sections hold what is theirs, the rest is taken from ``ppo``.

Prompts, reward, sampling and penalties come from ``ppo`` alone, so that the three methods can be compared on one
recipe. Sources of the defaults: DeepSeekMath (Shao et al. 2024) for GRPO, "Back to Basics" (Ahmadian et al. 2024) for
RLOO, and TRL 1.16's configurations.
"""

from dataclasses import dataclass
from typing import Literal

from pydantic import Field

from sawyer.recipe.ppo import PpoSpec
from sawyer.recipe.section import LearningRate, Positive, Spec

METHODS = ("grpo", "rloo")
SHARED = ("steps", "batch_size", "minibatch_size", "micro_batch", "epochs", "lr", "clip", "save_every", "sample_every")


class AlternativeSpec(Spec):
    """What GRPO and RLOO have in common."""

    steps: Positive | None = Field(None, description="rollout-and-update rounds; default: ppo.steps")
    batch_size: Positive | None = Field(None, description="episodes a step; default: ppo.batch_size")
    minibatch_size: Positive | None = Field(None, description="episodes an optimiser step; default: as ppo")
    micro_batch: Positive | None = Field(None, description="episodes a forward pass; default: as ppo")
    epochs: Positive | None = Field(None, description="passes over a rollout; default: ppo.epochs")
    lr: LearningRate | None = Field(None, description="default: ppo.lr")
    clip: float | None = Field(None, gt=0, description="how far the ratio may leave 1; default: ppo.clip")
    save_every: Positive | None = Field(None, description="default: ppo.save_every")
    sample_every: Positive | None = Field(None, description="default: ppo.sample_every")


class GrpoSpec(AlternativeSpec):
    """GRPO instead of PPO: replies to one prompt are judged by each other. What is not here comes from ppo."""

    group_size: int = Field(8, ge=2, description="replies to each prompt; divides batch_size")
    beta: float = Field(0.04, ge=0, description="coefficient of the KL (k3, nats a token) in the loss")
    loss_type: Literal["grpo", "dapo", "bnpo", "dr_grpo"] = Field(
        "dapo", description="mean over replies, then tokens (grpo), or over a step's tokens, or by a constant (dr_grpo)"
    )
    scale_rewards: Literal["group", "batch", "none"] = Field(
        "group", description="whose deviation divides the advantages"
    )


class RlooSpec(AlternativeSpec):
    """RLOO instead of PPO: a reply's baseline is the mean of the others to its prompt. The rest comes from ppo."""

    group_size: int = Field(4, ge=2, description="replies to each prompt; divides batch_size")
    beta: float | None = Field(
        None, ge=0, description="coefficient of the KL (k1, nats a reply) in the reward; default: ppo.kl's first"
    )
    normalize_advantages: bool = Field(False, description="bring a step's advantages to mean 0 and deviation 1")


@dataclass(frozen=True)
class Plan:
    """A run of ``method`` with everything filled in.

    ``ppo`` is the recipe's section with the method's own steps, batches, rate, clip and fixed KL coefficient in place
    of PPO's, so that whatever reads a ``PpoSpec`` reads this run's settings.
    """

    method: str
    spec: GrpoSpec | RlooSpec
    ppo: PpoSpec
    beta: float

    @property
    def groups(self) -> int:
        """Prompts a step."""
        return self.ppo.batch_size // self.spec.group_size

    @property
    def updates(self) -> int:
        """Optimiser steps a step."""
        return self.ppo.epochs * self.ppo.batch_size // self.ppo.minibatch_size


def make_plan(method: str, spec: GrpoSpec | RlooSpec | None, ppo: PpoSpec | None) -> Plan:
    """Fill in a method's section from ``ppo``; a missing section is one of defaults.

    Raises:
        ValueError: there is no ``ppo``, or batches do not divide; the message names the keys.
    """
    if ppo is None:
        raise ValueError(
            f"{method} takes its prompts, reward and sampling from the ppo section: add one, with ppo.prompts at least"
        )
    spec = spec or (GrpoSpec() if method == "grpo" else RlooSpec())
    given = {key: getattr(spec, key) for key in SHARED if getattr(spec, key) is not None}
    merged = ppo.model_copy(update=given)
    # A batch that was made smaller than PPO's parts of one is a part of its own.
    minibatch = merged.minibatch_size if "minibatch_size" in given else min(ppo.minibatch_size, merged.batch_size)
    micro = merged.micro_batch if "micro_batch" in given else min(ppo.micro_batch, minibatch)
    beta = spec.beta if spec.beta is not None else ppo.kl.first
    kl = ppo.kl.model_copy(update={"beta": beta, "target": None})
    merged = merged.model_copy(update={"minibatch_size": minibatch, "micro_batch": micro, "kl": kl})
    _check_batches(method, spec, merged)
    return Plan(method, spec, merged, beta)


def _check_batches(method: str, spec: GrpoSpec | RlooSpec, merged: PpoSpec) -> None:
    """Raise ValueError unless groups, minibatches and micro-batches divide what they are parts of."""

    def name(key: str) -> str:
        return f"{'ppo' if key in SHARED and getattr(spec, key) is None else method}.{key} "

    sizes = {key: getattr(merged, key) for key in ("batch_size", "minibatch_size", "micro_batch")}
    sizes["group_size"] = spec.group_size
    pairs = (("batch_size", "group_size"), ("batch_size", "minibatch_size"), ("minibatch_size", "micro_batch"))
    for whole, part in pairs:
        if sizes[whole] % sizes[part]:
            raise ValueError(
                f"{name(whole)}{sizes[whole]} must be a multiple of {name(part)}{sizes[part]}: set {method}.{whole} or "
                f"{method}.{part}"
            )
