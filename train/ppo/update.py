"""The update of PPO: clipped losses over micro-batches, gradient accumulation, one optimiser step a minibatch."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sawyer.errors import TrainingError
from sawyer.recipe import PpoSpec
from train.ppo.actor import Actor
from train.ppo.maths import PolicyLoss, policy_loss, value_loss
from train.ppo.rollout import Rollout


@dataclass(frozen=True)
class Update:
    """Means over a minibatch's valid tokens. ``skipped``: the target KL was passed and no step was taken.

    ``gap`` is the largest |log π_new − log π_old| of the minibatch; of an update's first minibatch it is 0.
    """

    policy: float
    value: float
    clip_fraction: float
    value_clip_fraction: float
    ratio: float
    approx_kl: float
    gap: float
    grad_norm: float
    skipped: bool


class Learner:
    """The optimiser over the actor's adapter and value head (detail 16: AdamW, eps 1e-5, float32 weights)."""

    def __init__(self, actor: Actor, spec: PpoSpec) -> None:
        self.actor, self.spec = actor, spec
        head = list(actor.value_head.parameters())
        adapter = actor.parameters()[: -len(head)]
        self.rates = [spec.lr, spec.value_lr or spec.lr]
        groups = [{"params": adapter, "lr": self.rates[0]}, {"params": head, "lr": self.rates[1]}]
        self.optimizer = _optimizer_class(spec)(groups, eps=1e-5, weight_decay=0.0)
        # In float16 the gradients of unlikely words are 0 unless the loss is scaled (Micikevicius et al. 2018). The
        # scale is no part of a checkpoint: a resumed run finds it again within a few steps.
        half = actor.dtype == torch.float16
        self.scaler = torch.amp.GradScaler(actor.policy.device.type, enabled=half)

    def set_rate(self, share: float) -> None:
        """Set the learning rates to ``share`` of the recipe's."""
        for group, rate in zip(self.optimizer.param_groups, self.rates, strict=True):
            group["lr"] = rate * share

    def step(self, rollout: Rollout, parts: Sequence[int], advantages: Tensor, returns: Tensor) -> Update:
        """One optimiser step on the micro-batches ``parts`` of a rollout.

        Raises:
            TrainingError: the loss is not finite; nothing has been changed.
        """
        spec, parameters = self.spec, self.actor.parameters()
        tokens = sum(int(rollout.batches[index].response_mask.sum()) for index in parts)
        sums = torch.zeros(6, dtype=torch.float64)
        gap = 0.0
        self.optimizer.zero_grad(set_to_none=True)
        for index in parts:
            surrogate, value, value_clipped, difference = self._losses(rollout, index, advantages, returns)
            # Sums over the minibatch's tokens: every token weighs the same, however micro-batches fall (detail 13).
            self.scaler.scale((surrogate.loss + spec.value_coefficient * value) / tokens).backward()
            terms = (surrogate.loss, value, surrogate.clipped, value_clipped, surrogate.ratio, surrogate.approx_kl)
            sums += torch.tensor([float(term.detach()) for term in terms], dtype=torch.float64)
            gap = max(gap, difference)
        policy, value_mean, clipped, value_clips, ratio, approx_kl = (sums / tokens).tolist()
        self.scaler.unscale_(self.optimizer)
        norm = float(torch.nn.utils.clip_grad_norm_(parameters, spec.grad_norm))
        told = [policy, value_mean, *([] if self.scaler.is_enabled() else [norm])]  # a scale too large is lowered
        if not all(map(math.isfinite, told)):
            raise TrainingError(
                f"PPO's loss is not finite (policy {policy}, value {value_mean}, gradient norm {norm}). The "
                "checkpoints so far are kept; lower ppo.lr, or set model.dtype to float32."
            )
        skipped = spec.target_kl is not None and approx_kl > spec.target_kl
        if not skipped:
            self.scaler.step(self.optimizer)
        self.scaler.update()
        return Update(policy, value_mean, clipped, value_clips, ratio, approx_kl, gap, norm, skipped)

    def _losses(
        self, rollout: Rollout, index: int, advantages: Tensor, returns: Tensor
    ) -> tuple[PolicyLoss, Tensor, Tensor, float]:
        """Loss sums of one micro-batch, its clipped values and its largest log-probability gap."""
        batch = rollout.batches[index]
        mask = batch.response_mask
        old, old_values, wanted, targets = rollout.part(index, rollout.old, rollout.values, advantages, returns)
        forward = self.actor.measure(batch)
        surrogate = policy_loss(forward.logprobs, old, wanted, mask, self.spec.clip)
        value, value_clipped = value_loss(forward.values, old_values, targets, mask, self.spec.value_clip)
        gap = float(((forward.logprobs.detach() - old).abs() * mask).max())
        return surrogate, value, value_clipped, gap


def _optimizer_class(spec: PpoSpec) -> Any:
    if spec.optimizer == "adamw":
        return torch.optim.AdamW
    try:
        from bitsandbytes.optim import AdamW8bit
    except ImportError as error:
        raise TrainingError(
            "ppo.optimizer adamw_8bit needs the package bitsandbytes, which cannot be imported here "
            f"({error}). Install it, or set ppo.optimizer to adamw."
        ) from error
    return AdamW8bit


def summarise(updates: Sequence[Update]) -> dict[str, float]:
    """Means over a step's minibatches, under the names they are logged by."""
    taken = [update for update in updates if not update.skipped]
    names = {
        "loss/policy": "policy",
        "loss/value": "value",
        "policy/clip_fraction": "clip_fraction",
        "value/clip_fraction": "value_clip_fraction",
        "policy/ratio": "ratio",
        "policy/approx_kl": "approx_kl",
        "policy/grad_norm": "grad_norm",
    }
    means = {name: sum(getattr(u, key) for u in updates) / len(updates) for name, key in names.items()}
    return {**means, "policy/first_gap": updates[0].gap, "policy/updates": float(len(taken))}
