"""The autograd functions: gradients derived by hand, nothing kept that the backward pass does not read.

Every function works in the precision of its input; sums over many terms, softmax and normalisation are float32 at
least. Gradients of frozen weights are never made.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.nn.functional import linear, silu

from sawyer.fused.passes import logprobs, logprobs_back, norm, norm_back, softmax, softmax_back


class LoraLinear(Function):
    """``x Wᵀ + bias + s (x Aᵀ) Bᵀ`` with W [o, i] and bias [o] frozen, A [r, i] and B [o, r] trained (Hu et al. 2021).

    With h = x Aᵀ and g the gradient of the output: dx = g W + s (g B) A, dA = s (g B)ᵀ x, dB = s gᵀ h. A and B may be
    of higher precision than x: they are rounded on the way in, and their gradients come back in their own.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, a: Tensor, b: Tensor, scale: float) -> Tensor:
        """x [..., i] → [..., o]."""
        flat = x.reshape(-1, x.shape[-1])
        down, up = a.to(x.dtype), (b * scale).to(x.dtype)
        inner = flat @ down.t()
        out = linear(flat, weight, bias).addmm_(inner, up.t())
        ctx.save_for_backward(flat, weight, down, up, inner)
        ctx.scale, ctx.shape, ctx.dtype = scale, x.shape, a.dtype
        return out.view(*x.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of x, A and B."""
        flat, weight, down, up, inner = ctx.saved_tensors
        grad = grads[0].reshape(-1, grads[0].shape[-1])
        back = grad @ up
        of_x = (grad @ weight).addmm_(back, down).view(ctx.shape) if ctx.needs_input_grad[0] else None
        of_a = (back.t() @ flat).to(ctx.dtype)
        of_b = (grad.t() @ inner).to(ctx.dtype).mul_(ctx.scale)
        return of_x, None, None, of_a, of_b, None


class RmsNorm(Function):
    """``w · x / sqrt(mean(x²) + eps)`` over the last axis, w frozen (Zhang and Sennrich 2019).

    With n the normalised input, r the reciprocal root and g = w · (gradient): dx = r (g − n · mean(g n)).
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        """x [..., h] → [..., h]."""
        flat = x.reshape(-1, x.shape[-1])
        y, root = norm(flat, weight, eps)
        ctx.save_for_backward(flat, weight, root)
        return y.view(x.shape)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """Gradient of x."""
        flat, weight, root = ctx.saved_tensors
        of_x, _ = norm_back(grads[0].reshape(flat.shape), flat, weight, root)
        return None if of_x is None else of_x.view(grads[0].shape), None, None


class SwiGlu(Function):
    """``silu(gate) · up`` (Shazeer 2020); keeps the two inputs alone."""

    @staticmethod
    def forward(ctx: Any, gate: Tensor, up: Tensor) -> Tensor:
        """Two tensors of one shape → the same."""
        ctx.save_for_backward(gate, up)
        return silu(gate).mul_(up)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of both."""
        gate, up = ctx.saved_tensors
        return torch.ops.aten.silu_backward(grads[0] * up, gate), silu(gate).mul_(grads[0])


class DenseAttention(Function):
    """``softmax(scale · Q Kᵀ + bias) V`` by three batched products; keeps the probabilities, T · S a head.

    For the short sequences of chat replies this is several times faster on a CPU than the blocked kernel's backward
    pass; for long ones it takes too much memory.
    """

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, scale: float) -> Tensor:
        """q [B, H, T, D], k and v [B, H, S, D], bias broadcast to [B, H, T, S] → [B, T, H, D]."""
        size, heads, length, width = q.shape
        q, k, v = (part.reshape(size * heads, -1, width) for part in (q, k, v))
        scores = torch.bmm(q, k.transpose(1, 2)).view(size, heads, length, -1)
        weights = softmax(scores, bias, scale).view(size * heads, length, -1)
        ctx.save_for_backward(q, k, v, weights)
        ctx.scale, ctx.shape = scale, (size, heads)
        return torch.bmm(weights, v).view(size, heads, length, width).transpose(1, 2).contiguous()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of q, k and v."""
        q, k, v, weights = ctx.saved_tensors
        grad = grads[0].transpose(1, 2).reshape(q.shape)
        of_v = torch.bmm(weights.transpose(1, 2), grad)
        of_weights = torch.bmm(grad, v.transpose(1, 2))
        of_scores = softmax_back(weights, of_weights, ctx.scale)
        of_q, of_k = torch.bmm(of_scores, k), torch.bmm(of_scores.transpose(1, 2), q)
        return *(part.view(*ctx.shape, -1, part.shape[-1]) for part in (of_q, of_k, of_v)), None, None


class TokenLogprobs(Function):
    """log_softmax(logits / temperature) at given tokens, float32 at least; keeps the logits as they came."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, tokens: Tensor, temperature: float) -> Tensor:
        """logits [..., V], tokens [...] → [...]."""
        flat = logits.reshape(-1, logits.shape[-1])
        found, total = logprobs(flat, tokens.flatten(), temperature, entropies=False)
        ctx.save_for_backward(flat, tokens, total)
        ctx.temperature = temperature
        return found.view(tokens.shape)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """(1{v = token} − softmax) · gradient / temperature."""
        flat, tokens, total = ctx.saved_tensors
        made = logprobs_back(flat, tokens.flatten(), total, grads[0].flatten(), ctx.temperature)
        return made.view(*tokens.shape, -1), None, None
