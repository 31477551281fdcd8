"""Passes over activations, forwards and backwards: by a compiled kernel where there is one, else by torch.

They keep no graph: the autograd functions call them. Sums over many terms, softmax and normalisation are float32 at
least, and what is written is rounded once. N tokens; H heads, K of them for keys and values, D wide; S keys.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import silu

from sawyer.fused.kernels import kernel

LONGEST = 256
"""Keys beyond which attention is left to torch: keeping the probabilities would take more memory than it saves time."""

CACHED_ROWS = 64
"""Positions whose distributions are made at a time: 64 of a vocabulary of 8,192 stay in the processor's cache."""


class Heads(NamedTuple):
    """B sequences of T tokens; H heads of queries, K of keys and values, each D wide."""

    batch: int
    length: int
    queries: int
    keys: int
    width: int


def norm(x: Tensor, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """RMSNorm of x [N, h] → the same, and the reciprocal roots [N] that the way back reads."""
    run = _kernel("norm_forward", x, weight)
    if run:
        y, root = torch.empty_like(x), x.new_empty(len(x), dtype=torch.float32)
        run(*_at(x, weight, y, root), *x.shape, eps)
        return y, root
    wide = at_least_float32(x)
    root = wide.square().mean(-1).add_(eps).rsqrt_()
    return (wide * root[:, None]).to(x.dtype) * weight, root


def norm_back(
    grad: Tensor, x: Tensor, weight: Tensor, root: Tensor, *, residual: Tensor | None = None, further: bool = True
) -> tuple[Tensor | None, Tensor]:
    """Gradient of x (plus ``residual``; None unless ``further``), and the normalised x made again."""
    run = _kernel("norm_backward", grad, x, weight, residual)
    if run:
        out, again = torch.empty_like(x) if further else None, torch.empty_like(x)
        run(*_at(grad, x, weight, root, residual, out, again), *x.shape)
        return out, again
    normal = at_least_float32(x) * root[:, None]
    again = normal.to(x.dtype) * weight
    if not further:
        return None, again
    wide = at_least_float32(grad * weight)
    made = (wide - normal * (wide * normal).mean(-1, keepdim=True)).mul_(root[:, None])
    return (made if residual is None else made + residual).to(x.dtype), again


def gate(both: Tensor) -> Tensor:
    """silu(gate) · up of rows [N, 2 m] that hold gate and up side by side → [N, m]."""
    run = _kernel("gate_forward", both)
    if run:
        y = both.new_empty(len(both), both.shape[1] // 2)
        run(*_at(both, y), *y.shape)
        return y
    first, second = both.chunk(2, -1)
    return silu(first).mul_(second)


def gate_back(both: Tensor, grad: Tensor) -> tuple[Tensor, Tensor]:
    """Gradient of both [N, 2 m], and the product [N, m] made again."""
    run = _kernel("gate_backward", both, grad)
    if run:
        out, again = torch.empty_like(both), torch.empty_like(grad)
        run(*_at(both, grad, out, again), *grad.shape)
        return out, again
    first, second = both.chunk(2, -1)
    held = silu(first)
    return torch.cat([torch.ops.aten.silu_backward(grad * second, first), held * grad], -1), held * second


def split_heads(rows: Tensor, cos: Tensor, sin: Tensor, shape: Heads) -> tuple[Tensor, Tensor, Tensor]:
    """Rows [N, (H + 2 K) D] → queries [B, H, T, D], keys and values [B, K, T, D], the first two turned by their
    positions' angles (cos and sin [B, T, D]; Su et al. 2021).
    """
    batch, length, queries, keys, width = shape
    run = _kernel("heads", rows, cos, sin)
    if run:
        q = rows.new_empty(batch, queries, length, width)
        k, v = (rows.new_empty(batch, keys, length, width) for _ in range(2))
        run(*_at(rows, cos, sin, q, k, v), *shape, 0)
        return q, k, v
    parts = rows.view(batch, length, -1, width).transpose(1, 2).split([queries, keys, keys], 1)
    q, k = (part * cos[:, None] + _half_turned(part) * sin[:, None] for part in parts[:2])
    return q.contiguous(), k.contiguous(), parts[2].contiguous()


def join_heads(q: Tensor, k: Tensor, v: Tensor, cos: Tensor, sin: Tensor, shape: Heads) -> Tensor:
    """The way back of :func:`split_heads`: gradients of queries, keys and values → of the rows."""
    run = _kernel("heads", q, k, v, cos, sin)
    if run:
        rows = q.new_empty(shape.batch * shape.length, (shape.queries + 2 * shape.keys) * shape.width)
        run(*_at(rows, cos, sin, q, k, v), *shape, 1)
        return rows
    turned = [part * cos[:, None] - _half_turned(part * sin[:, None]) for part in (q, k)]
    return torch.cat([*turned, v], 1).transpose(1, 2).reshape(shape.batch * shape.length, -1)


def softmax(scores: Tensor, mask: Tensor | None, scale: float) -> Tensor:
    """softmax(scale · scores + mask) of scores [B, H, T, S], which are overwritten; mask [B, 1, T, S]."""
    run = _kernel("softmax_forward", scores, mask) if scores.shape[-1] <= LONGEST else None
    if run and (mask is None or mask.shape == (len(scores), 1, *scores.shape[2:])):
        run(*_at(scores, mask), *scores.shape, scale)
        return scores
    wide = at_least_float32(scores).mul_(scale)
    return (wide if mask is None else wide.add_(mask)).softmax(-1).to(scores.dtype)


def softmax_back(weights: Tensor, grad: Tensor, scale: float) -> Tensor:
    """Gradient of the scores; ``grad``, of the weights and of their shape, is overwritten."""
    run = _kernel("softmax_backward", weights, grad)
    if run:
        run(*_at(weights, grad), weights.numel() // weights.shape[-1], weights.shape[-1], scale)
        return grad
    return torch._softmax_backward_data(grad, weights, -1, weights.dtype).mul_(scale)


def attend_one(
    rows: Tensor, cos: Tensor, sin: Tensor, cache: tuple[Tensor, Tensor], starts: Tensor, shape: Heads, scale: float
) -> Tensor | None:
    """One new position of each of B sequences: its keys and values are written into the cache and its queries look at
    all that lies there → [B, H D]; None, and nothing written, where there is no kernel for it.

    Args:
        rows: [B, (H + 2 K) D] of queries, keys and values. cos, sin: [B, D].
        cache: keys and values [places, capacity, K D], sequence b at place b. starts: int64 [B], positions held so far.
    """
    run = _kernel("attend_one", rows, cos, sin, *cache)
    if run is None:
        return None
    batch, _, queries, keys, width = shape
    capacity, out = cache[0].shape[1], rows.new_empty(batch, queries * width)
    scratch = rows.new_empty(batch, capacity + 2 * width, dtype=torch.float32)
    run(*_at(rows, cos, sin, *cache, starts.contiguous(), out, scratch), batch, queries, keys, width, capacity, scale)
    return out


def logprobs(logits: Tensor, tokens: Tensor, temperature: float, *, entropies: bool) -> tuple[Tensor, ...]:
    """Of logits [N, V] / temperature: log-probability of tokens [N], log of the sum, entropy in nats if asked for;
    float32 [N] at least.
    """
    run = _kernel("logprob_forward", logits)
    if run:
        tokens = tokens.contiguous()
        made = [logits.new_empty(len(logits), dtype=torch.float32) for _ in range(3 if entropies else 2)]
        run(*_at(logits, tokens, *made), *([] if entropies else [None]), *logits.shape, 1 / temperature)
        return tuple(made)
    scaled = _heated(logits, temperature)
    total = scaled.logsumexp(-1)
    out = scaled.gather(-1, tokens.unsqueeze(-1)).squeeze(-1) - total
    if not entropies:
        return out, total
    parts = [some.log_softmax(-1) for some in scaled.split(CACHED_ROWS)]
    return out, total, torch.cat([-(part.exp() * part).sum(-1) for part in parts])


def logprobs_back(logits: Tensor, tokens: Tensor, total: Tensor, grad: Tensor, temperature: float) -> Tensor:
    """(1{v = token} − softmax) · gradient / temperature, [N, V]."""
    run = _kernel("logprob_backward", logits)
    if run:
        tokens, grad = tokens.contiguous(), grad.contiguous()
        out = torch.empty_like(logits)
        run(*_at(logits, tokens, total, grad, out), *logits.shape, 1 / temperature)
        return out
    slope = (grad / temperature).unsqueeze(-1)
    out = _heated(logits, temperature)
    if out is logits:
        out = logits.clone()
    out.sub_(total.unsqueeze(-1)).exp_().mul_(-slope).scatter_add_(-1, tokens.unsqueeze(-1), slope)
    return out.to(logits.dtype)


def at_least_float32(x: Tensor) -> Tensor:
    """x itself if it is that already."""
    return x.float() if x.dtype in (torch.bfloat16, torch.float16) else x


def _kernel(name: str, *tensors: Tensor | None) -> Callable[..., None] | None:
    """A kernel, where these tensors lie as kernels read them: each in one piece, on the CPU, of one precision."""
    dtype = tensors[0].dtype if tensors[0] is not None else None
    for tensor in tensors:
        if tensor is not None and (not tensor.is_cpu or not tensor.is_contiguous() or tensor.dtype != dtype):
            return None
    return kernel(name, dtype) if dtype else None


def _at(*tensors: Tensor | None) -> list[int | None]:
    return [None if tensor is None else tensor.data_ptr() for tensor in tensors]


def _half_turned(x: Tensor) -> Tensor:
    first, second = x.chunk(2, -1)
    return torch.cat([-second, first], -1)


def _heated(logits: Tensor, temperature: float) -> Tensor:
    """logits / temperature, float32 at least; the logits themselves where nothing is to be done."""
    wide = at_least_float32(logits)
    if temperature == 1:
        return wide
    return wide / temperature if wide is logits else wide.div_(temperature)
