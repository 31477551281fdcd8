"""What reads tokens during decoding and keeps the state of the rows: one class for each kind of backbone.

A reader gives the logits of every row's next token and then follows the rows that go on.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from sawyer.cache import new_cache, new_encoder_decoder_cache
from sawyer.logprobs import position_ids
from sawyer.models import Policy


class DecoderReader:
    """Decoder-only: prompt and reply are one sequence, padded on the left.

    Args:
        prompts: token ids of every row, not empty.
    """

    def __init__(self, policy: Policy, prompts: Sequence[Sequence[int]]) -> None:
        self._policy = policy
        self._ids, self._mask = pad_left(prompts, policy.chat.pad_id, policy.device)
        self._positions = position_ids(self._mask)
        self._cache = new_cache(policy.model.config)

    def read(self, stages: Sequence[str]) -> Tensor:
        """Logits ``[rows, V]`` of the next token of every row that is left, ``stages`` answering."""
        output = ask(
            self._policy,
            stages,
            input_ids=self._ids,
            attention_mask=self._mask,
            position_ids=self._positions,
            past_key_values=self._cache,
            logits_to_keep=1,
        )
        return output.logits[:, -1]

    def follow(self, places: Sequence[int], tokens: Sequence[int]) -> None:
        """Go on with the rows at ``places`` (ascending), whose newest tokens are ``tokens``."""
        if len(places) < len(self._mask):
            index = torch.tensor(places, device=self._mask.device, dtype=torch.long)
            self._mask, self._positions = self._mask[index], self._positions[index]
            for layer in self._cache.layers if places else ():
                layer.batch_select_indices(index)
        self._ids = _column(tokens, self._mask)
        self._mask = torch.cat([self._mask, self._mask.new_ones(len(places), 1)], 1)
        self._positions = self._positions[:, -1:] + 1


class EncoderDecoderReader:
    """Encoder-decoder: the prompt is encoded once, the reply decoded from ``decoder_start_token_id`` on."""

    def __init__(self, policy: Policy, prompts: Sequence[Sequence[int]]) -> None:
        self._policy = policy
        self._prompts, self._mask = pad_left(prompts, policy.chat.pad_id, policy.device)
        start = policy.model.config.decoder_start_token_id
        self._ids = torch.full((len(prompts), 1), start, device=policy.device)
        self._encoded: Tensor | None = None  # [rows, C, H], once the prompt has been read
        self._cache = new_encoder_decoder_cache()

    def read(self, stages: Sequence[str]) -> Tensor:
        """As :meth:`DecoderReader.read`."""
        from transformers.modeling_outputs import BaseModelOutput

        seen = {"input_ids": self._prompts} if self._encoded is None else {
            "encoder_outputs": BaseModelOutput(last_hidden_state=self._encoded)
        }  # fmt: skip
        output = ask(
            self._policy,
            stages,
            attention_mask=self._mask,
            decoder_input_ids=self._ids,
            past_key_values=self._cache,
            **seen,
        )
        self._encoded = output.encoder_last_hidden_state
        return output.logits[:, -1]

    def follow(self, places: Sequence[int], tokens: Sequence[int]) -> None:
        """As :meth:`DecoderReader.follow`."""
        assert self._encoded is not None, "read comes first"
        if len(places) < len(self._mask):
            index = torch.tensor(places, device=self._mask.device, dtype=torch.long)
            self._mask, self._encoded = self._mask[index], self._encoded[index]
            for half in (self._cache.self_attention_cache, self._cache.cross_attention_cache):
                for layer in half.layers if places else ():
                    layer.batch_select_indices(index)
        self._ids = _column(tokens, self._mask)


def ask(policy: Policy, stages: Sequence[str], **inputs: Any) -> Any:
    """One forward pass of rows of any stages: one adapter for all, or per-row adapters where they are mixed."""
    mixed = len(set(stages)) > 1
    # PEFT multiplies each group of rows with its own adapter; "__base__" rows with none.
    options = {"adapter_names": ["__base__" if stage == "base" else stage for stage in stages]} if mixed else {}
    with policy.using(next(stage for stage in stages if stage != "base") if mixed else stages[0]) as model:
        return model(**inputs, use_cache=True, **options)


def pad_left(prompts: Sequence[Sequence[int]], pad: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Token ids and attention mask, int64 ``[rows, longest]``."""
    width = max(map(len, prompts))
    ids = [[pad] * (width - len(prompt)) + list(prompt) for prompt in prompts]
    mask = [[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts]
    return torch.tensor(ids, device=device), torch.tensor(mask, device=device)


def _column(tokens: Sequence[int], like: Tensor) -> Tensor:
    return torch.tensor(list(tokens), device=like.device, dtype=torch.long).reshape(-1, 1)
