"""The same forward pass written out for Llama and its relatives: an eighth of the module calls, half of the products.

A step of a few rows on a CPU is bound by the time between operations and by products whose kernels are made for many
rows. Here q, k and v are one product, gate and up another, residuals are added by the products themselves, and weights
are packed for few rows. They are taken out of the model, which can then answer through this pass alone; but for a stage
that is asked with its adapter added to the weights, of which a copy is packed and the model left as it is.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, rms_norm, scaled_dot_product_attention, silu

from sawyer.fused import KINDS, merged_weight
from sawyer.fused.passes import Heads, attend_one, gate, norm
from sawyer.models import Policy
from sawyer.ragged.forward import innermost
from sawyer.ragged.slots import Plan, Slots
from sawyer.ragged.stacked import Ranks, StackedAdapters

TYPICAL_ROWS = 3  # of a step: what oneDNN chooses the layout of packed weights for; others work as well


class Matrix:
    """A frozen weight ``[out, in]``, on a CPU packed by oneDNN: with few rows several times quicker than as it lies."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        # oneDNN takes float16 on few processors alone.
        fits = weight.dtype != torch.float16 and torch.backends.mkldnn.is_available()
        self.packed = weight.device.type == "cpu" and fits
        self._weight = torch.ops.mkldnn._reorder_linear_weight(weight, TYPICAL_ROWS) if self.packed else weight
        self._bias = bias

    def __call__(self, x: Tensor) -> Tensor:
        """x ``[N, in]`` → ``[N, out]``."""
        if self.packed:
            return torch.ops.mkldnn._linear_pointwise(x, self._weight, self._bias, "none", [], "")
        return linear(x, self._weight, self._bias)

    def weight(self) -> Tensor:
        """As it was given, bit for bit."""
        return self._weight.to_dense() if self.packed else self._weight


class Joined:
    """Several linear layers that read the same input, as one product; where it pays, their adapters' A as well.

    Args:
        merged: a stage whose adapter is added to a copy of the weights; None takes the weights out of the layers.
    """

    def __init__(self, modules: Sequence[Any], stacked: StackedAdapters, merged: str | None = None) -> None:
        self._modules, self._stacked = modules, stacked
        bases = [_base(module) for module in modules]
        biases = None if all(base.bias is None for base in bases) else torch.cat([_bias(base) for base in bases])
        self._bias, self._out = biases, sum(base.out_features for base in bases)
        if merged is None:
            weight = torch.cat([base.weight.data for base in bases])
            for base in bases:  # nothing is kept twice
                base.weight.data = base.weight.data.new_empty(0)
        else:
            weight = torch.cat([merged_weight(module, merged) for module in modules])
        self._matrix = Matrix(weight, biases)
        self._joined = False  # whether the matrix has the adapters' A below it
        self.restack()

    @torch.no_grad()
    def restack(self) -> None:
        """Join the pairs: A below A, B along the diagonal, each layer's part of the output having its own columns."""
        found = [(self._stacked.pair(module), _base(module).out_features) for module in self._modules]
        self.parts: tuple[Ranks, ...] = tuple(pair[2] for pair, _ in found if pair)
        ranks = sum(map(sum, self.parts))
        self._b = _base(self._modules[0]).weight.new_zeros(ranks, self._out)
        row = column = 0
        for pair, size in found:
            if pair:
                self._b[row : row + sum(pair[2]), column : column + size] = pair[1].t()
                row += sum(pair[2])
            column += size
        downs = [pair[0] for pair, _ in found if pair]
        self._a = torch.cat(downs) if downs else None
        if self._matrix.packed and (downs or self._joined):
            # A product of its own would cost nearly as much, for its few rows, as the large one.
            bias = None if self._bias is None else torch.cat([self._bias, self._bias.new_zeros(ranks)])
            self._matrix = Matrix(torch.cat([self._matrix.weight()[: self._out], *downs]), bias)
            self._joined = bool(downs)

    def __call__(self, x: Tensor, mask: Tensor | None, residual: Tensor | None = None) -> Tensor:
        """x ``[N, in]`` → ``[N, out]``, plus ``residual``; ``mask`` ``[N, R]`` keeps each row's ranks, None is base."""
        whole = self._matrix(x)
        out = whole[:, : self._out]
        if residual is not None:
            out = residual + out
        if mask is not None and self._a is not None:
            inner = whole[:, self._out :] if self._matrix.packed else linear(x, self._a)
            out.addmm_(inner * mask, self._b)
        return out


@dataclass(frozen=True)
class Block:
    """One layer's parts; ``q_norm`` and ``k_norm`` are there in Qwen 3."""

    before: nn.Module
    qkv: Joined
    q_norm: nn.Module | None
    k_norm: nn.Module | None
    out: Joined
    after: nn.Module
    gate_up: Joined
    down: Joined

    @property
    def products(self) -> tuple[Joined, ...]:
        return self.qkv, self.out, self.gate_up, self.down


class LeanForward:
    """See the module. Build one only where :func:`can_run_lean` says so, and ``merged`` only where it can be merged."""

    @torch.no_grad()
    def __init__(self, policy: Policy, slots: Slots, merged: str | None = None) -> None:
        model = innermost(policy.model)
        config = model.config
        self._slots, self._body = slots, model.model
        self._head = Matrix(model.lm_head.weight.data, model.lm_head.bias)
        self._heads, self._kv_heads = config.num_attention_heads, config.num_key_value_heads
        self._width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        self._eps, self._middle = config.rms_norm_eps, config.intermediate_size
        self._stacked = StackedAdapters(policy.model, model.dtype)
        self._alone = merged is not None
        if merged is not None:
            self._stacked.stack(())
        self._blocks = [self._block(layer, merged) for layer in model.model.layers]
        # Of the second half of a head, seen from the first: rotate_half as a roll and a sign.
        half = self._width // 2
        self._sign = torch.cat([-torch.ones(half), torch.ones(half)]).to(model.device, model.dtype)

    def restack(self, names: Sequence[str]) -> None:
        self._stacked.stack(names)
        for block in self._blocks:
            for product in block.products:
                product.restack()

    def __call__(self, plan: Plan, adapters: Sequence[str | None]) -> Tensor:
        rows, width = plan.ids.shape
        self._stacked.choose(adapters)
        masks = self._masks(adapters, width)
        x = self._body.embed_tokens(plan.ids)
        turns = self._body.rotary_emb(x, plan.positions)
        cos, sin = turns[0].unsqueeze(2), (turns[1] * self._sign).unsqueeze(2)
        x = x.view(rows * width, -1)
        for number, block in enumerate(self._blocks):
            made = self._short(number, block, x, turns, plan) if self._alone and plan.side_by_side else None
            x = self._layer(number, block, x, cos, sin, plan, masks) if made is None else made
        if width > 1:
            ends = torch.arange(rows) * width + torch.tensor(plan.counts) - 1
            x = x[ends.to(x.device)]
        return self._head(self._norm(x, self._body.norm))

    def _short(self, number: int, block: Block, x: Tensor, turns: tuple[Tensor, Tensor], plan: Plan) -> Tensor | None:
        """A layer with one token a row and no adapters, by compiled kernels; None where there are none for it."""
        cache, rows = self._slots.held(number), len(x)
        if cache is None or block.q_norm is not None:
            return None
        heads = block.qkv(norm(x, block.before.weight, self._eps)[0], None)
        shape = Heads(rows, 1, self._heads, self._kv_heads, self._width)
        cos, sin = (turn.reshape(rows, self._width) for turn in turns)
        mixed = attend_one(heads, cos, sin, cache, plan.positions, shape, self._width**-0.5)
        if mixed is None:
            return None
        x = block.out(mixed, None, x)
        both = block.gate_up(norm(x, block.after.weight, self._eps)[0], None)
        return block.down(gate(both), None, x)

    def _layer(
        self,
        number: int,
        block: Block,
        x: Tensor,
        cos: Tensor,
        sin: Tensor,
        plan: Plan,
        masks: dict[tuple[Ranks, ...], Tensor | None],
    ) -> Tensor:
        rows, width = plan.ids.shape
        queries, turned = self._heads, self._heads + self._kv_heads
        heads = block.qkv(self._norm(x, block.before), masks[block.qkv.parts]).view(rows, width, -1, self._width)
        qk = heads[:, :, :turned]
        if block.q_norm is not None and block.k_norm is not None:
            parts = (self._norm(qk[:, :, :queries], block.q_norm), self._norm(qk[:, :, queries:], block.k_norm))
            qk = torch.cat(parts, 2)
        qk = (qk * cos).addcmul_(qk.roll(self._width // 2, -1), sin)
        keys, values = self._slots.update(number, plan, qk[:, :, queries:], heads[:, :, turned:])
        mixed = self._attend(qk[:, :, :queries].transpose(1, 2), keys, values, plan.mask)
        x = block.out(mixed.transpose(1, 2).reshape(rows * width, -1), masks[block.out.parts], x)
        both = block.gate_up(self._norm(x, block.after), masks[block.gate_up.parts])
        middle = silu(both[:, : self._middle]).mul_(both[:, self._middle :])
        return block.down(middle, masks[block.down.parts], x)

    def _attend(self, query: Tensor, keys: Tensor, values: Tensor, mask: Tensor) -> Tensor:
        """``[B, heads, T, width]`` and two ``[B, kv heads, S, width]`` → ``[B, heads, T, width]``."""
        grouped, dtype = self._kv_heads < self._heads, query.dtype
        if query.shape[2] == 1 and dtype == torch.bfloat16 and query.device.type == "cpu":
            # torch packs keys in bfloat16, which pays with many queries; one takes three times as long as in float32.
            query, keys, values, mask = query.float(), keys.float(), values.float(), mask.float()
        return scaled_dot_product_attention(query, keys, values, attn_mask=mask, enable_gqa=grouped).to(dtype)

    def _norm(self, x: Tensor, module: Any) -> Tensor:
        return rms_norm(x, x.shape[-1:], module.weight, self._eps)

    def _masks(self, adapters: Sequence[str | None], width: int) -> dict[tuple[Ranks, ...], Tensor | None]:
        """Of each kind of product, m repeated for its parts and for the positions of a row: ``[B * T, R]``."""
        made: dict[tuple[Ranks, ...], Tensor | None] = {}
        plain = all(name is None for name in adapters)
        for block in self._blocks:
            for product in block.products:
                if product.parts not in made:
                    made[product.parts] = None if plain or not product.parts else self._mask(product.parts, width)
        return made

    def _mask(self, parts: tuple[Ranks, ...], width: int) -> Tensor:
        mask = torch.cat([self._stacked.mask(ranks) for ranks in parts], -1)
        return mask.expand(-1, width, -1).reshape(-1, mask.shape[-1])

    def _block(self, layer: Any, merged: str | None) -> Block:
        def joined(*modules: Any) -> Joined:
            return Joined(modules, self._stacked, merged)

        attention, mlp = layer.self_attn, layer.mlp
        return Block(
            before=layer.input_layernorm,
            qkv=joined(attention.q_proj, attention.k_proj, attention.v_proj),
            q_norm=getattr(attention, "q_norm", None),
            k_norm=getattr(attention, "k_norm", None),
            out=joined(attention.o_proj),
            after=layer.post_attention_layernorm,
            gate_up=joined(mlp.gate_proj, mlp.up_proj),
            down=joined(mlp.down_proj),
        )


def can_run_lean(policy: Policy) -> bool:
    """Whether a policy that can run ragged is of the family, its weights plain matrices on one device."""
    model = innermost(policy.model)
    if model.config.model_type not in KINDS or getattr(model.config, "hidden_act", "") != "silu":
        return False
    layers = [part for layer in model.model.layers for part in (layer.self_attn, layer.mlp)]
    linears = [module for part in layers for name, module in part.named_children() if name.endswith("_proj")]
    plain = all(type(_base(module)) is nn.Linear for module in linears) and type(model.lm_head) is nn.Linear
    return plain and len({parameter.device for parameter in model.parameters()}) == 1


def _base(module: Any) -> Any:
    return module.get_base_layer() if hasattr(module, "get_base_layer") else module


def _bias(base: nn.Linear) -> Tensor:
    return base.weight.new_zeros(base.out_features) if base.bias is None else base.bias.data
