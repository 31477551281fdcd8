"""Putting the hand-written functions into a policy, module by module, and taking the adapters into the weights."""

from collections.abc import Iterator
from contextlib import contextmanager
from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn

from sawyer.fused.functions import DenseAttention, LoraLinear, RmsNorm, SwiGlu
from sawyer.fused.layers import HALVED, adapted, more_than_lora, run_by_halves
from sawyer.fused.passes import LONGEST
from sawyer.whole import whole_modules

KINDS = ("llama", "mistral", "qwen2", "qwen3")
"""Architectures whose norms and gated units are written alike; of others, the LoRA layers alone are replaced."""

ATTENTION = "sawyer_dense"


def can_fuse(policy: Any) -> bool:
    """Whether training a ``Policy`` gains by ``fuse``: a decoder-only one on a CPU, its weights not quantised, that
    trains no module whole, for the functions give no gradient to a norm.
    """
    plain = not (policy.spec.quantization == "nf4" or policy.is_encoder_decoder or whole_modules(policy.model))
    return policy.device.type == "cpu" and plain


def fuse(model: Any, dtype: torch.dtype) -> None:
    """Hold the frozen weights of a PEFT model in ``dtype`` and put the functions in place of the modules' own.

    To be called when all adapters are there. What an adapter needs beyond plain LoRA on a plain linear layer (dropout
    in training, quantised weights, DoRA, several active adapters) is left to PEFT, layer by layer.
    """
    from peft.tuners.lora import Linear

    for name, parameter in model.named_parameters():
        if "lora_" not in name and parameter.is_floating_point():
            parameter.data = parameter.data.to(dtype)
    known = model.config.model_type in KINDS
    gated = known and model.config.hidden_act == "silu"
    for module in model.modules():
        if isinstance(module, Linear) and type(module.get_base_layer()) is nn.Linear:
            module.forward = MethodType(_lora_forward, module)
        elif known and type(module).__name__.endswith("RMSNorm"):
            module.forward = MethodType(_norm_forward, module)
        elif gated and type(module).__name__.endswith("MLP"):
            module.forward = MethodType(_gated_forward, module)
    if known and model.config._attn_implementation == "sdpa":
        _register_attention()
        model.get_base_model().set_attn_implementation(ATTENTION)
        for layer in model.get_base_model().model.layers if gated and model.config.model_type in HALVED else ():
            run_by_halves(layer)


@contextmanager
def merged(model: Any, adapter: str) -> Iterator[None]:
    """Inside, every adapted layer's weight is W + s B A, rounded to W's precision; the caller disables the adapter.

    Afterwards the weights are the very tensors they were before, so nothing drifts.
    """
    before: list[tuple[nn.Parameter, Tensor]] = []
    try:
        with torch.no_grad():
            for layer in lora_layers(model):
                if adapter in layer.lora_A:
                    weight = layer.get_base_layer().weight
                    before.append((weight, weight.data))
                    weight.data = merged_weight(layer, adapter)
        yield
    finally:
        for weight, data in before:
            weight.data = data


def merged_weight(layer: Any, adapter: str) -> Tensor:
    """W + s B A of a layer, rounded to W's precision; W itself where the adapter leaves the layer alone."""
    if adapter not in getattr(layer, "lora_A", ()):
        return layer.get_base_layer().weight.data if hasattr(layer, "get_base_layer") else layer.weight.data
    weight = layer.get_base_layer().weight.data
    return (weight + layer.get_delta_weight(adapter)).to(weight.dtype)


def can_merge(model: Any, adapter: str) -> bool:
    """Whether W + s B A is all that ``adapter`` does: plain LoRA on plain linear layers, no DoRA, no trained bias, and
    no module trained whole.
    """
    if any(adapter in module.modules_to_save for module in whole_modules(model)):
        return False
    layers = [layer for layer in lora_layers(model) if adapter in layer.lora_A]
    return bool(layers) and all(_is_plain(layer, adapter) for layer in layers)


def _is_plain(layer: Any, adapter: str) -> bool:
    from peft.tuners.lora import Linear

    linear = isinstance(layer, Linear) and type(layer.get_base_layer()) is nn.Linear
    return linear and not more_than_lora(layer, adapter)


def lora_layers(model: Any) -> list[Any]:
    """The modules that PEFT has put into a model."""
    from peft.tuners.lora import LoraLayer

    return [module for module in model.modules() if isinstance(module, LoraLayer)]


def _lora_forward(self: Any, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    found = None if kwargs.get("adapter_names") else adapted(self)
    if found is None:
        return type(self).forward(self, x, *args, **kwargs)
    if found.a is None:
        return self.base_layer(x)
    return LoraLinear.apply(x, found.base.weight, found.base.bias, found.a, found.b, found.scale)


def _norm_forward(self: Any, x: Tensor) -> Tensor:
    return RmsNorm.apply(x, self.weight, self.variance_epsilon)


def _gated_forward(self: Any, x: Tensor) -> Tensor:
    return self.down_proj(SwiGlu.apply(self.gate_proj(x), self.up_proj(x)))


def _attend(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **options: Any
) -> tuple[Tensor, None]:
    """What transformers calls: [B, H, T, D] and an additive mask → [B, T, H, D]."""
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    plain = not options.get("dropout") and options.get("softcap") is None and options.get("sliding_window") is None
    if key.shape[2] > LONGEST or not plain:
        return sdpa_attention_forward(module, query, key, value, attention_mask, **options)
    groups = getattr(module, "num_key_value_groups", 1)
    if groups > 1:
        key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
    scale = options.get("scaling") or query.shape[-1] ** -0.5
    return DenseAttention.apply(query, key, value, attention_mask, scale), None


def _register_attention() -> None:
    """Attention and its mask (additive, always made) under a name of their own; to register again changes nothing."""
    from transformers import AttentionInterface
    from transformers.masking_utils import AttentionMaskInterface, eager_mask

    AttentionInterface.register(ATTENTION, _attend)
    AttentionMaskInterface.register(ATTENTION, eager_mask)
