"""The two halves of a decoder layer, attention and gated unit, as one autograd function each.

What reads the same input is one product: the weights of queries, keys and values (of gate and up) lie one below the
other, and so do their adapters' A; their B lie along a block diagonal. Residuals are added by the products. Kept for
the backward pass is what is costly to make again; normalised inputs and gated products are not.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd import Function

from sawyer.fused.passes import (
    Heads,
    gate,
    gate_back,
    join_heads,
    norm,
    norm_back,
    softmax,
    softmax_back,
    split_heads,
)


class Product(NamedTuple):
    """Frozen linear layers that read one input: weight [o, i], bias [o]; ``outs`` are the parts of o, ``scales`` what
    multiplies each part's adapter, 0 where it has none.
    """

    weight: Tensor
    bias: Tensor | None
    outs: tuple[int, ...]
    scales: tuple[float, ...]


class Thin(NamedTuple):
    """The adapters of a product in its precision: down [R, i], up [o, R] with the scales in it; ``ranks`` sum to R."""

    down: Tensor
    up: Tensor
    ranks: tuple[int, ...]


def thin(product: Product, pairs: Sequence[Tensor]) -> Thin | None:
    """A and B of each part that has an adapter, in order, joined; None without any."""
    if not pairs:
        return None
    dtype, parts = product.weight.dtype, iter(zip(pairs[::2], pairs[1::2], strict=True))
    downs, ranks = [a.to(dtype) for a in pairs[::2]], []
    ups = []
    for out, scale in zip(product.outs, product.scales, strict=True):
        a, b = next(parts) if scale else (None, None)
        ranks.append(0 if a is None else len(a))
        ups.append(pairs[0].new_zeros(out, 0) if b is None else b * scale)
    up = ups[0] if len(ups) == 1 else torch.block_diag(*ups)
    return Thin(downs[0] if len(downs) == 1 else torch.cat(downs), up.to(dtype), tuple(ranks))


def forwards(x: Tensor, product: Product, low: Thin | None, residual: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """x [N, i] → W x + bias + up down x (+ residual) [N, o], and down x [N, R] for the backward pass."""
    added = residual if residual is not None else product.bias
    out = x @ product.weight.t() if added is None else torch.addmm(added, x, product.weight.t())
    if residual is not None and product.bias is not None:
        out += product.bias
    if low is None:
        return out, x.new_empty(0)
    inner = x @ low.down.t()
    return out.addmm_(inner, low.up.t()), inner


def of_input(grad: Tensor, product: Product, low: Thin | None) -> tuple[Tensor, Tensor | None]:
    """Gradient of x, and that of down x."""
    out = grad @ product.weight
    if low is None:
        return out, None
    back = grad @ low.up
    return out.addmm_(back, low.down), back


def of_adapters(
    grad: Tensor, back: Tensor | None, x: Tensor, inner: Tensor, product: Product, low: Thin | None
) -> list[Tensor]:
    """Gradients of each part's A and B, in float32 at least, in the order of ``thin``'s pairs."""
    if low is None or back is None:
        return []
    of_down, of_up = back.t() @ x, grad.t() @ inner
    made: list[Tensor] = []
    row = column = 0
    for out, rank, scale in zip(product.outs, low.ranks, product.scales, strict=True):
        if rank:
            made.append(_trained(of_down[column : column + rank]))
            made.append(_trained(of_up[row : row + out, column : column + rank]) * scale)
        row, column = row + out, column + rank
    return made


def _trained(gradient: Tensor) -> Tensor:
    return gradient.to(torch.promote_types(gradient.dtype, torch.float32))


class AttentionHalf(Function):
    """``x + O(softmax(scale · Q Kᵀ + mask) V)`` of norm(x): rotary positions, groups of heads may share keys."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        eps: float,
        cos: Tensor,
        sin: Tensor,
        mask: Tensor | None,
        shape: Heads,
        scale: float,
        qkv: Product,
        out: Product,
        *pairs: Tensor,
    ) -> Tensor:
        """x [N, h] → the same; cos, sin [B, T, D], mask [B, 1, T, T]; ``pairs`` are A and B of the adapters of Q, K, V
        and O that have one.
        """
        ctx.size = 2 * sum(map(bool, qkv.scales))
        low_qkv, low_out = thin(qkv, pairs[: ctx.size]), thin(out, pairs[ctx.size :])
        y, root = norm(x, weight, eps)
        rows, inner = forwards(y, qkv, low_qkv)
        q, k, v = split_heads(rows, cos, sin, shape)
        grouped, flat = (shape.batch * shape.keys, -1, shape.width), (shape.batch * shape.keys, shape.length, -1)
        scores = torch.bmm(q.view(grouped), k.view(flat).transpose(1, 2))
        weights = softmax(scores.view(*q.shape[:3], -1), mask, scale)
        mixed = torch.bmm(weights.view(*scores.shape), v.view(flat))
        mixed = mixed.view(q.shape).transpose(1, 2).reshape(len(x), -1)
        made, inner_out = forwards(mixed, out, low_out, x)
        ctx.save_for_backward(x, weight, root, cos, sin, q, k, v, weights, mixed, inner, inner_out)
        ctx.products, ctx.lows, ctx.shape, ctx.scale = (qkv, out), (low_qkv, low_out), shape, scale
        return made

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of x and of the adapters."""
        x, weight, root, cos, sin, q, k, v, weights, mixed, inner, inner_out = ctx.saved_tensors
        (qkv, out), (low_qkv, low_out), shape = ctx.products, ctx.lows, ctx.shape
        grad = grads[0].contiguous()
        of_mixed, back = of_input(grad, out, low_out)
        of_pairs = of_adapters(grad, back, mixed, inner_out, out, low_out)
        of_mixed = of_mixed.view(shape.batch, shape.length, -1, shape.width).transpose(1, 2).contiguous()
        grouped, flat = (shape.batch * shape.keys, -1, shape.width), (shape.batch * shape.keys, shape.length, -1)
        of_mixed, q_rows, keys = of_mixed.view(grouped), q.view(grouped), k.view(flat)
        held = weights.view(shape.batch * shape.keys, -1, shape.length)
        of_v = torch.bmm(held.transpose(1, 2), of_mixed).view(v.shape)
        of_weights = torch.bmm(of_mixed, v.view(flat).transpose(1, 2)).view(weights.shape)
        of_scores = softmax_back(weights, of_weights, ctx.scale).view(held.shape)
        of_q = torch.bmm(of_scores, keys).view(q.shape)
        of_k = torch.bmm(of_scores.transpose(1, 2), q_rows).view(k.shape)
        rows = join_heads(of_q, of_k, of_v, cos, sin, shape)
        of_x, pairs = _through_norm(ctx, rows, grad, (x, weight, root, inner), qkv, low_qkv)
        return of_x, *[None] * 9, *pairs, *of_pairs


class GatedHalf(Function):
    """``x + Down(silu(Gate(norm(x))) · Up(norm(x)))``."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, eps: float, gate_up: Product, down: Product, *pairs: Tensor
    ) -> Tensor:
        """x [N, h] → the same; ``pairs`` are A and B of the adapters of Gate, Up and Down that have one."""
        ctx.size = 2 * sum(map(bool, gate_up.scales))
        low_both, low_down = thin(gate_up, pairs[: ctx.size]), thin(down, pairs[ctx.size :])
        y, root = norm(x, weight, eps)
        both, inner = forwards(y, gate_up, low_both)
        out, inner_down = forwards(gate(both), down, low_down, x)
        ctx.save_for_backward(x, weight, root, both, inner, inner_down)
        ctx.products, ctx.lows = (gate_up, down), (low_both, low_down)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of x and of the adapters."""
        x, weight, root, both, inner, inner_down = ctx.saved_tensors
        (gate_up, down), (low_both, low_down) = ctx.products, ctx.lows
        grad = grads[0].contiguous()
        of_middle, back = of_input(grad, down, low_down)
        of_both, middle = gate_back(both, of_middle)
        of_pairs = of_adapters(grad, back, middle, inner_down, down, low_down)
        of_x, pairs = _through_norm(ctx, of_both, grad, (x, weight, root, inner), gate_up, low_both)
        return of_x, *[None] * 4, *pairs, *of_pairs


def _through_norm(
    ctx: Any, grad: Tensor, residual: Tensor, kept: tuple[Tensor, ...], product: Product, low: Thin | None
) -> tuple[Tensor | None, list[Tensor]]:
    """From the gradient of a product to those of the half's input (None for the first layer's) and of its adapters."""
    x, weight, root, inner = kept
    further = ctx.needs_input_grad[0]
    if further:
        of_y, back = of_input(grad, product, low)
    else:
        of_y, back = x, None if low is None else grad @ low.up
    of_x, y = norm_back(of_y, x, weight, root, residual=residual, further=further)
    return of_x, of_adapters(grad, back, y, inner, product, low)
