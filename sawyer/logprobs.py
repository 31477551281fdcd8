"""Log-probabilities of responses: the one home of alignment, temperature and precision (PPO details 1, 2, 6).

Shapes: B episodes, C prompt width (padded left), R response width (padded right), V vocabulary, H hidden width.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from sawyer.fused.functions import TokenLogprobs
from sawyer.fused.passes import logprobs


class Batch(NamedTuple):
    """Episodes as tensors. Masks come from lengths, never from token ids.

    Attributes:
        prompts: int64 ``[B, C]``, padded on the left.
        prompt_mask: bool ``[B, C]``.
        responses: int64 ``[B, R]``, padded on the right.
        response_mask: bool ``[B, R]``: position t counts if t < length, the EOS included.
    """

    prompts: Tensor
    prompt_mask: Tensor
    responses: Tensor
    response_mask: Tensor


def collate(prompts: Sequence[Sequence[int]], responses: Sequence[Sequence[int]], pad: int) -> Batch:
    """Pad prompts on the left and responses on the right (details 5 and 6)."""
    width, reach = max(map(len, prompts)), max(1, *map(len, responses)) if len(responses) > 1 else len(responses[0])
    reach = max(1, reach)
    left = [[pad] * (width - len(p)) + list(p) for p in prompts]
    right = [list(r) + [pad] * (reach - len(r)) for r in responses]
    prompt_lengths = torch.tensor([len(p) for p in prompts])
    lengths = torch.tensor([len(r) for r in responses])
    return Batch(
        torch.tensor(left),
        torch.arange(width)[None] >= (width - prompt_lengths)[:, None],
        torch.tensor(right),
        torch.arange(reach)[None] < lengths[:, None],
    )


def position_ids(mask: Tensor) -> Tensor:
    """Positions of a left-padded batch: cumsum(mask) − 1, floored at 0. Shape and device of ``mask``, int64."""
    return (mask.long().cumsum(-1) - 1).clamp_min(0)


def response_logits(model: Any, batch: Batch, *, decoder_start: int | None = None) -> tuple[Tensor, Tensor]:
    """Logits that predict each response token, and the last hidden states they come from.

    Decoder-only: position C−1+t predicts response token t, so the head runs on the last R+1 positions but the last.
    Encoder-decoder (``decoder_start`` given): the decoder reads the response shifted right.

    Returns:
        logits ``[B, R, V]`` in the model's precision and hidden states ``[B, R, H]`` (the head's input).
    """
    seen: list[Tensor] = []
    reach = batch.responses.shape[1]

    def keep(_: Any, args: tuple[Tensor, ...]) -> tuple[Tensor]:
        # In one piece: a slice would make the head one small product a row, and would leave a copy behind.
        seen.append(args[0][:, -reach - 1 : -1].contiguous() if decoder_start is None else args[0])
        return (seen[0],)

    hook = model.get_output_embeddings().register_forward_pre_hook(keep, prepend=True)
    try:
        if decoder_start is not None:
            start = torch.full_like(batch.responses[:, :1], decoder_start)
            logits = model(
                input_ids=batch.prompts,
                attention_mask=batch.prompt_mask.long(),
                decoder_input_ids=torch.cat([start, batch.responses[:, :-1]], 1),
                use_cache=False,
            ).logits
            return logits, seen[0]
        mask = torch.cat([batch.prompt_mask, batch.response_mask], 1)
        logits = model(
            input_ids=torch.cat([batch.prompts, batch.responses], 1),
            attention_mask=mask.long(),
            position_ids=position_ids(mask),
            logits_to_keep=reach + 1,
            use_cache=False,
        ).logits
    finally:
        hook.remove()
    return logits, seen[0]


def token_logprobs(logits: Tensor, tokens: Tensor, temperature: float = 1.0) -> Tensor:
    """Float32 log_softmax(logits / temperature) at ``tokens``. Shapes ``[…, V]``, ``[…]`` → ``[…]``."""
    return TokenLogprobs.apply(logits, tokens, temperature)


def entropy(logits: Tensor, temperature: float = 1.0) -> Tensor:
    """Entropy of the sampling distribution in nats, float32, without gradient. ``[…, V]`` → ``[…]``."""
    flat = logits.detach().flatten(0, -2)
    anything = torch.zeros(len(flat), dtype=torch.long, device=flat.device)
    _, _, found = logprobs(flat, anything, temperature, entropies=True)
    return found.float().view(logits.shape[:-1])
