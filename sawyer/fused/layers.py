"""Decoder layers of Llama's kind run as their two halves, wherever nothing about them is out of the ordinary.

A layer asks at every pass whether it can: what an adapter needs beyond plain LoRA, weights that lie elsewhere than they
were put (an adapter in the weights), a cache of keys and values and long sequences go through the modules as before.
"""

from collections.abc import Sequence
from types import MethodType
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from sawyer.fused.halves import AttentionHalf, GatedHalf, Product
from sawyer.fused.passes import LONGEST, Heads

NORMS_OF_HEADS = ("q_norm", "k_norm")


class Adapted(NamedTuple):
    """A linear layer as a pass finds it: the frozen layer, and A, B and scale of the active adapter, if any."""

    base: nn.Linear
    a: Tensor | None
    b: Tensor | None
    scale: float


def adapted(module: Any) -> Adapted | None:
    """None where the layer does more than W x + bias + s B A x."""
    if type(module) is nn.Linear:
        return Adapted(module, None, None, 0.0)
    if type(getattr(module, "base_layer", None)) is not nn.Linear or not hasattr(module, "lora_variant"):
        return None
    active = [name for name in module.active_adapters if name in module.lora_A]
    if module.disable_adapters or not active:
        return Adapted(module.base_layer, None, None, 0.0)
    name = active[0]
    more = name in module.lora_variant or bool(module.lora_bias.get(name)) or len(active) > 1 or module.merged
    if more or (module.training and not isinstance(module.lora_dropout[name], nn.Identity)):
        return None
    scale = module.scaling[name]
    return Adapted(module.base_layer, module.lora_A[name].weight, module.lora_B[name].weight, scale) if scale else None


def join_weights(modules: Sequence[Any]) -> Tensor | None:
    """Lay the weights of linear layers one below the other in one tensor [sum of outs, in], of which theirs become
    parts; None where they are not plain.
    """
    bases = [module.get_base_layer() if hasattr(module, "get_base_layer") else module for module in modules]
    if any(type(base) is not nn.Linear for base in bases):
        return None
    joined = torch.cat([base.weight.data for base in bases])
    for base, part in zip(bases, joined.split([base.out_features for base in bases]), strict=True):
        base.weight.data = part
    return joined


def run_by_halves(layer: nn.Module) -> None:
    """Put the halves in place of the forward pass of a layer gated by SiLU, if it is otherwise what they are made of."""
    attention, mlp = layer.self_attn, layer.mlp
    if any(hasattr(attention, name) for name in NORMS_OF_HEADS):
        return
    qkv, gate_up = (attention.q_proj, attention.k_proj, attention.v_proj), (mlp.gate_proj, mlp.up_proj)
    joined = [(parts, join_weights(parts)) for parts in (qkv, (attention.o_proj,), gate_up, (mlp.down_proj,))]
    if all(weight is not None for _, weight in joined):
        layer.forward = MethodType(_Halves(joined), layer)


class _Halves:
    """The forward pass of a layer."""

    def __init__(self, joined: Sequence[tuple[Sequence[Any], Tensor]]) -> None:
        self._joined = joined

    def __call__(self, layer: Any, hidden_states: Tensor, attention_mask: Tensor | None = None, **options: Any) -> Any:
        """[B, T, h] → the same, as transformers' layers do."""
        batch, length, _ = hidden_states.shape
        attention, plain = layer.self_attn, length <= LONGEST and hidden_states.is_cpu
        plain = plain and options.get("past_key_values") is None and not options.get("output_attentions")
        plain = plain and getattr(attention, "sliding_window", None) is None
        found = [_product(parts, weight) for parts, weight in self._joined] if plain else [None]
        if any(product is None for product in found):
            return type(layer).forward(layer, hidden_states, attention_mask, **options)
        (qkv, pairs), (out, more), (gate_up, pairs_above), (down, more_above) = found
        cos, sin = options["position_embeddings"]
        width = attention.head_dim
        shape = Heads(batch, length, qkv.outs[0] // width, qkv.outs[1] // width, width)
        turns = [_for_rows(part, shape) for part in (cos, sin)]
        x, first, second = hidden_states.reshape(batch * length, -1), layer.input_layernorm, layer.post_attention_layernorm
        mask = None if attention_mask is None else attention_mask.contiguous()
        x = AttentionHalf.apply(
            x, first.weight, first.variance_epsilon, *turns, mask, shape, attention.scaling, qkv, out, *pairs, *more
        )
        x = GatedHalf.apply(x, second.weight, second.variance_epsilon, gate_up, down, *pairs_above, *more_above)
        return x.view(hidden_states.shape)


def _product(parts: Sequence[Any], weight: Tensor) -> tuple[Product, list[Tensor]] | None:
    """The layers as one product, and A and B of those that have an adapter."""
    found = [adapted(module) for module in parts]
    place, pairs = weight.data_ptr(), []
    for each in found:
        if each is None or each.base.weight.data_ptr() != place:
            return None
        place += each.base.weight.numel() * weight.element_size()
        pairs += [] if each.a is None else [each.a, each.b]
    biases = [each.base.bias for each in found]
    bias = None if all(bias is None for bias in biases) else torch.cat([
        each.base.bias if each.base.bias is not None else weight.new_zeros(each.base.out_features) for each in found
    ])  # fmt: skip
    outs, scales = tuple(each.base.out_features for each in found), tuple(each.scale for each in found)
    return Product(weight, bias, outs, scales), pairs


def _for_rows(angles: Tensor, shape: Heads) -> Tensor:
    """cos or sin, which may be one row for all, as [B, T, D]."""
    return angles.expand(shape.batch, shape.length, shape.width).contiguous()
