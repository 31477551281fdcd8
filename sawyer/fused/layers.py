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

HALVED = ("llama", "mistral", "qwen2")
"""Architectures whose layers are these halves; Qwen 3 normalises its heads in between."""


class Adapted(NamedTuple):
    """A linear layer as a pass finds it: the frozen layer, and A, B and scale of the active adapter, if any."""

    base: nn.Linear
    a: Tensor | None
    b: Tensor | None
    scale: float


def adapted(module: Any) -> Adapted | None:
    """None where the layer does more than W x + bias + s B A x, or is no such layer."""
    from peft.tuners.lora import Linear

    if type(module) is nn.Linear:
        return Adapted(module, None, None, 0.0)
    if not isinstance(module, Linear) or type(module.base_layer) is not nn.Linear:
        return None
    active = [name for name in module.active_adapters if name in module.lora_A]
    if module.disable_adapters or not active:
        return Adapted(module.base_layer, None, None, 0.0)
    name = active[0]
    dropped = module.training and not isinstance(module.lora_dropout[name], nn.Identity)
    scale = module.scaling[name]
    if len(active) > 1 or module.merged or dropped or not scale or more_than_lora(module, name):
        return None
    return Adapted(module.base_layer, module.lora_A[name].weight, module.lora_B[name].weight, scale)


def more_than_lora(layer: Any, adapter: str) -> bool:
    """Whether an adapter does something to a layer beside adding s B A x: DoRA and its like, or a bias of its own."""
    return adapter in layer.lora_variant or bool(layer.lora_bias.get(adapter))


def join_weights(bases: Sequence[nn.Linear]) -> Tensor:
    """Lay weights one below the other in one tensor [sum of outs, in], of which the layers' own become parts."""
    joined = torch.cat([base.weight.data for base in bases])
    for base, part in zip(bases, joined.split([base.out_features for base in bases]), strict=True):
        base.weight.data = part
    return joined


def run_by_halves(layer: nn.Module) -> None:
    """Put the halves in place of the forward pass of a layer of a halved architecture, gated by SiLU."""
    attention, mlp = layer.self_attn, layer.mlp
    parts = (attention.q_proj, attention.k_proj, attention.v_proj), (attention.o_proj,), (mlp.gate_proj, mlp.up_proj)
    found = [(modules, [adapted(module) for module in modules]) for modules in (*parts, (mlp.down_proj,))]
    if all(each is not None for _, layers in found for each in layers):
        joined = [(modules, join_weights([each.base for each in layers if each])) for modules, layers in found]
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
        first, second = layer.input_layernorm, layer.post_attention_layernorm
        x = hidden_states.reshape(batch * length, -1)
        mask = None if attention_mask is None else attention_mask.contiguous()
        x = AttentionHalf.apply(
            x, first.weight, first.variance_epsilon, *turns, mask, shape, attention.scaling, qkv, out, *pairs, *more
        )
        x = GatedHalf.apply(x, second.weight, second.variance_epsilon, gate_up, down, *pairs_above, *more_above)
        return x.view(hidden_states.shape)


def _product(parts: Sequence[Any], weight: Tensor) -> tuple[Product, list[Tensor]] | None:
    """The layers as one product, and A and B of those that have an adapter."""
    found: list[Adapted] = []
    place, pairs = weight.data_ptr(), []
    for module in parts:
        each = adapted(module)
        if each is None or each.base.weight.data_ptr() != place:
            return None
        found.append(each)
        place += each.base.weight.numel() * weight.element_size()
        pairs += [] if each.a is None or each.b is None else [each.a, each.b]
    outs, scales = tuple(each.base.out_features for each in found), tuple(each.scale for each in found)
    return Product(weight, _bias([each.base for each in found]), outs, scales), pairs


def _bias(bases: Sequence[nn.Linear]) -> Tensor | None:
    if all(base.bias is None for base in bases):
        return None
    return torch.cat([base.weight.new_zeros(base.out_features) if base.bias is None else base.bias for base in bases])


def _for_rows(angles: Tensor, shape: Heads) -> Tensor:
    """cos or sin, which may be one row for all, as [B, T, D]."""
    return angles.expand(shape.batch, shape.length, shape.width).contiguous()
