"""The forward pass of a ragged batch through the transformers model itself: any decoder that PEFT can adapt."""

import inspect
from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor
from transformers.cache_utils import Cache

from sawyer.fused import lora_layers, more_than_lora
from sawyer.models import Policy
from sawyer.ragged.slots import Plan, Slots
from sawyer.ragged.stacked import StackedAdapters


class Forward(Protocol):
    """Runs a plan with an adapter for each row (None: base) → logits ``[B, V]`` after each row's last token."""

    def __call__(self, plan: Plan, adapters: Sequence[str | None]) -> Tensor: ...

    def restack(self, names: Sequence[str]) -> None:
        """The model's adapters are these now."""


class SlotCache(Cache):
    """What transformers takes for a cache: it hands keys and values on to the slots."""

    def __init__(self, slots: Slots) -> None:
        super().__init__(layers=[])
        self.slots = slots
        self.plan: Plan | None = None

    def update(self, key_states: Tensor, value_states: Tensor, layer_idx: int, *args: Any, **kwargs: Any):
        """``[B, heads, T, width]`` in, ``[B, heads, S, width]`` out."""
        assert self.plan is not None
        return self.slots.update(layer_idx, self.plan, key_states.transpose(1, 2), value_states.transpose(1, 2))

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Asked for positions and masks, both of which are given."""
        return 0


class ModelForward:
    """The model as transformers wrote it, its attention reading the slots, its adapted layers the stacked product."""

    def __init__(self, policy: Policy, slots: Slots) -> None:
        self._model = innermost(policy.model)
        self._cache = SlotCache(slots)
        self._stacked = StackedAdapters(policy.model, policy.model.dtype)
        self._stacked.install()

    def restack(self, names: Sequence[str]) -> None:
        self._stacked.stack(names)

    def __call__(self, plan: Plan, adapters: Sequence[str | None]) -> Tensor:
        self._stacked.choose(adapters)
        self._cache.plan = plan
        ends = sorted({count - 1 for count in plan.counts})
        output = self._model(
            input_ids=plan.ids,
            attention_mask=plan.mask,
            position_ids=plan.positions,
            past_key_values=self._cache,
            use_cache=True,
            logits_to_keep=torch.tensor(ends, device=plan.ids.device),
        )
        places = [ends.index(count - 1) for count in plan.counts]
        return output.logits[range(len(places)), places]


def can_run_ragged(policy: Policy) -> bool:
    """Whether rows of a policy may have lengths of their own: a decoder of full attention with plain LoRA adapters.

    Others (encoder-decoder, sliding windows shorter than the context, states instead of keys and values, DoRA, trained
    biases or whole modules beside the adapters) are decoded by ``sawyer.generation.decode``.
    """
    if policy.is_encoder_decoder:
        return False
    config = policy.model.config.get_text_config(decoder=True)
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    window = getattr(config, "sliding_window", None)
    full = kinds == {"full_attention"} and (not window or window >= policy.context)
    asked = inspect.signature(innermost(policy.model).forward).parameters
    told = {"position_ids", "past_key_values", "logits_to_keep"} <= set(asked)
    return full and told and adapters_are_plain(policy.model)


def adapters_are_plain(model: Any) -> bool:
    """Whether W x + s B A x, or that for no layer, is all that any adapter does."""
    for config in getattr(model, "peft_config", {}).values():
        whole = config.modules_to_save or getattr(config, "trainable_token_indices", None)
        if config.peft_type != "LORA" or whole or config.bias != "none" or getattr(config, "target_parameters", None):
            return False
    layers = lora_layers(model)
    embedded = any(len(layer.lora_embedding_A) for layer in layers)
    return not embedded and not any(more_than_lora(layer, name) for layer in layers for name in layer.lora_A)


def innermost(model: Any) -> Any:
    """The transformers model, without PEFT's wrapping."""
    return model.get_base_model() if hasattr(model, "peft_config") else model
