"""KL of a stage from its reference, in nats a response, estimated on replies the stage drew itself.

Both estimators are Schulman's (http://joschu.net/blog/kl-approx.html), summed over a response's tokens: k1, the
log-ratio, is unbiased and may be negative; k3, r − 1 − log r with r = π_ref/π, has less variance and never is.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch

from sawyer.logprobs import Batch, collate, response_logits, token_logprobs
from sawyer.models import Policy


class Divergence(NamedTuple):
    """Float64 ``[n]`` each, in nats: one figure a response."""

    k1: np.ndarray
    k3: np.ndarray


@torch.inference_mode()
def response_kl(
    policy: Policy,
    stage: str,
    reference: str,
    prompts: Sequence[Sequence[int]],
    responses: Sequence[Sequence[int]],
    *,
    temperature: float,
    batch_size: int,
    tick: Callable[[int], None] = lambda done: None,
) -> Divergence:
    """KL(stage ‖ reference) of each response, over its valid tokens, the EOS included.

    Args:
        prompts: token ids as ``stage`` saw them; the reference is asked the same.
        responses: token ids that ``stage`` drew from its full distribution.
        temperature: of that sampling; both log-probabilities use it.
    """
    k1, k3 = np.zeros(len(responses)), np.zeros(len(responses))
    order = sorted(range(len(responses)), key=lambda i: len(prompts[i]) + len(responses[i]))
    for start in range(0, len(order), batch_size):
        places = order[start : start + batch_size]
        batch = collate([prompts[i] for i in places], [responses[i] for i in places], policy.chat.pad_id)
        batch = Batch(*(tensor.to(policy.device) for tensor in batch))
        ours = _logprobs(policy, stage, batch, temperature)
        theirs = _logprobs(policy, reference, batch, temperature)
        # Outside the mask the ratio is of padding, and its exponential may overflow.
        log_ratio = torch.where(batch.response_mask, ours - theirs, 0.0).double()
        k1[places] = log_ratio.sum(1).cpu().numpy()
        k3[places] = (torch.expm1(-log_ratio) + log_ratio).sum(1).cpu().numpy()
        tick(start + len(places))
    return Divergence(k1, k3)


def _logprobs(policy: Policy, stage: str, batch: Batch, temperature: float) -> torch.Tensor:
    start = policy.model.config.decoder_start_token_id if policy.is_encoder_decoder else None
    with policy.using(stage) as model:
        logits, _ = response_logits(model, batch, decoder_start=start)
    return token_logprobs(logits, batch.responses, temperature)
