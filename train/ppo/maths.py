"""PPO's tensor maths: no model, no tokenizer, no recipe. Checked by hand in ``tests/train/test_ppo_maths.py``.

Shapes: B responses, R the response width. ``mask`` is bool [B, R], true at the L valid tokens of a row (EOS included);
it comes from lengths, never from ``ids == pad``. Sources: lm-human-preferences, summarize-from-feedback, "The N
Implementation Details of RLHF with PPO". Beware of torchtune's ``whiten``, whose ``shift_mean`` is inverted.
"""

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor


def length_mask(lengths: Tensor, width: int) -> Tensor:
    """[B] lengths -> bool [B, width], true at positions before each length."""
    return torch.arange(width, device=lengths.device) < lengths.unsqueeze(1)


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean over the true positions of ``mask``; 0 when there are none."""
    return (values * mask).sum() / mask.sum().clamp(min=1)


def whiten(values: Tensor, mask: Tensor, epsilon: float = 1e-8) -> Tensor:
    """Shift and scale the valid entries to mean 0 and variance 1; invalid entries become 0."""
    mean = masked_mean(values, mask)
    variance = masked_mean((values - mean) ** 2, mask)
    return (values - mean) * torch.rsqrt(variance + epsilon) * mask


def kl_k1(logprobs: Tensor, reference: Tensor, mask: Tensor) -> Tensor:
    """Per-token log-ratio log π − log π_ref [B, R]: unbiased, of either sign; a row's sum is its KL in nats."""
    return (logprobs - reference) * mask


def kl_k3(logprobs: Tensor, reference: Tensor, mask: Tensor) -> Tensor:
    """Schulman's low-variance, never negative estimate r − 1 − log r with r = π_ref/π, per token [B, R], in nats."""
    log_ratio = reference - logprobs
    return (torch.expm1(log_ratio) - log_ratio) * mask


def mean_of_others(scores: Tensor, groups: Sequence[Hashable]) -> Tensor:
    """For each score [B] the mean of the other scores of its group, float32 [B]; 0 where it is alone.

    Subtracted from the score it takes out what the prompt alone brings, and does not bias the gradient, for it does not
    depend on the reply (Kool et al. 2019; Ahmadian et al. 2024).
    """
    places: dict[Hashable, list[int]] = {}
    for place, group in enumerate(groups):
        places.setdefault(group, []).append(place)
    means = torch.zeros_like(scores, dtype=torch.float32)
    for mine in places.values():
        if len(mine) > 1:
            found = scores[mine].float()
            means[mine] = (found.sum() - found) / (len(mine) - 1)
    return means


def token_rewards(kl: Tensor, scores: Tensor, lengths: Tensor, beta: float) -> Tensor:
    """−β·k1 at every valid token, plus the response's score at its last valid token.

    Args:
        kl: k1 per token [B, R], zero outside the mask. scores: normalised scores [B]. lengths: [B], each at least 1.
    """
    if bool((lengths < 1).any()):
        raise ValueError("every response needs at least one token (EOS counts): a length below 1 was given")
    rewards = -beta * kl
    rows = torch.arange(len(lengths), device=kl.device)
    rewards[rows, lengths - 1] += scores.to(rewards.dtype)
    return rewards


def gae(rewards: Tensor, values: Tensor, mask: Tensor, gamma: float, lam: float) -> tuple[Tensor, Tensor]:
    """Generalised advantage estimation (Schulman 2016) over one response each; V past the end is 0.

    Returns:
        (advantages, returns), both [B, R] and 0 outside the mask; returns = advantages + values, before whitening.
    """
    values = values * mask
    rewards = rewards * mask
    advantages = torch.zeros_like(values)
    running = torch.zeros_like(values[:, 0])
    following = torch.zeros_like(running)
    for t in reversed(range(values.shape[1])):
        delta = rewards[:, t] + gamma * following - values[:, t]
        running = (delta + gamma * lam * running) * mask[:, t]  # padding to the right carries nothing leftwards
        advantages[:, t] = running
        following = values[:, t]
    return advantages, (advantages + values) * mask


class PolicyLoss(NamedTuple):
    """Sums over a micro-batch's valid tokens, so that micro-batches add up to one minibatch mean."""

    loss: Tensor
    clipped: Tensor  # tokens where the clip took effect
    ratio: Tensor
    approx_kl: Tensor  # k3 of old against new policy


def policy_loss(logprobs: Tensor, old: Tensor, advantages: Tensor, mask: Tensor, clip: float) -> PolicyLoss:
    """PPO's clipped surrogate, negated, as sums over valid tokens (divide by the minibatch's count of valid tokens)."""
    # Outside the mask the log-ratio is zeroed before exp, so that garbage there can never overflow into the gradient.
    log_ratio = torch.where(mask, logprobs - old, 0.0)
    ratio = log_ratio.exp()
    free = -advantages * ratio
    held = -advantages * ratio.clamp(1.0 - clip, 1.0 + clip)
    with torch.no_grad():
        clipped = ((held > free) & mask).sum()
        approx_kl = ((torch.expm1(log_ratio) - log_ratio) * mask).sum()
    return PolicyLoss((torch.maximum(free, held) * mask).sum(), clipped, (ratio * mask).sum().detach(), approx_kl)


def value_loss(values: Tensor, old: Tensor, returns: Tensor, mask: Tensor, clip: float) -> tuple[Tensor, Tensor]:
    """Half the squared error, held within ``clip`` of the rollout's values; (sum over valid tokens, clipped tokens)."""
    held = old + (values - old).clamp(-clip, clip)
    free_error = (values - returns) ** 2
    held_error = (held - returns) ** 2
    clipped = ((held_error > free_error) & mask).sum().detach()
    return 0.5 * (torch.maximum(free_error, held_error) * mask).sum(), clipped


def explained_variance(values: Tensor, returns: Tensor, mask: Tensor) -> float:
    """1 − Var(returns − values) / Var(returns) over valid tokens; 0 when the returns do not vary."""
    chosen_values, chosen_returns = values[mask].double(), returns[mask].double()
    if chosen_returns.numel() < 2:
        return 0.0
    variance = chosen_returns.var()
    if float(variance) < 1e-12:
        return 0.0
    return float(1.0 - (chosen_returns - chosen_values).var() / variance)


def correlation(first: Tensor, second: Tensor) -> float:
    """Pearson correlation of two [B] tensors; 0 when either does not vary."""
    first, second = first.double() - first.double().mean(), second.double() - second.double().mean()
    scale = float(first.norm() * second.norm())
    return float(first @ second) / scale if scale > 1e-12 else 0.0


def linear_decay(step: int, steps: int) -> float:
    """Share of the learning rate in force at ``step`` (0-based): 1 at the first, 1/steps at the last."""
    return 1.0 - step / steps


@dataclass(frozen=True)
class KlController:
    """The KL coefficient: fixed, or adapted towards a target (Ziegler et al. 2019, section 2.2).

    ``target`` is in nats a response, ``horizon`` in episodes. A value: :meth:`after` returns the next controller.
    """

    beta: float
    target: float | None = None
    horizon: int = 10_000

    def after(self, kl: float, episodes: int) -> "KlController":
        """The controller for the next step, having seen a mean KL of ``kl`` nats a response over ``episodes``."""
        if self.target is None or not math.isfinite(kl):
            return self
        # ±0.2 bounds the proportional error, so that one wild rollout cannot throw beta.
        error = min(max(kl / self.target - 1.0, -0.2), 0.2)
        return KlController(self.beta * (1.0 + error * episodes / self.horizon), self.target, self.horizon)
