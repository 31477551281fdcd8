"""What the backward pass needs of the forward pass: bytes a position in a layer, kept tensor by kept tensor.

Counted from what each function saves (autograd's rules: a product with a frozen weight keeps the weight and not its
input, an adapter's product keeps its input, a norm its input in float32, a product of two its two factors) in
transformers' and PEFT's modules under autocast, and in ``sawyer.fused``. ``c`` is the bytes of a number in the passes.
"""

from sawyer.plan.setting import Setting
from sawyer.plan.shape import Shape

DENSE = 256
"""Longest row whose attention ``sawyer.fused`` makes with all its probabilities (``sawyer.fused.install.LONGEST``)."""


def decoder_layer(setting: Setting, rank: int, length: int) -> float:
    """Of one decoder layer and position, in rows of ``length``; transformers' own modules, PEFT's adapters.

    Torch's attention and FlashAttention keep queries, keys, values, output and a float32 sum for each head; torch's
    has keys and values repeated for grouped heads, because rows are padded and it has no masked grouped attention.
    Plain attention ("eager") keeps its probabilities instead of the sum, in float32 and rounded.
    """
    shape, c = setting.shape, setting.compute
    norms = 2 * 4 * shape.width
    if c == 4:  # nothing is rounded: layers that read the same input keep one
        inputs = 2 * 4 * shape.width + 4 * shape.inner + 4 * shape.middle
        attention = 4.0 * 3 * shape.inner
    else:  # each adapted layer keeps a rounded copy of its input
        inputs = c * (5 * shape.width + shape.inner + shape.middle)
        attention = c * 4.0 * shape.inner
    if setting.attention == "flash_attention_2":
        attention -= 2 * c * (shape.inner - shape.kv)
    eager = setting.attention == "eager"
    attention += shape.heads * length * (4 + (c if c < 4 else 0)) if eager else 4 * shape.heads
    gating = 3 * c * shape.middle  # gate, silu(gate) and up
    return norms + inputs + attention + gating + _inner(shape, c, rank)


def fused_layer(setting: Setting, rank: int, length: int) -> float:
    """Of one decoder layer and position by ``sawyer.fused``, whose functions say what they keep."""
    shape, c = setting.shape, setting.compute
    norms = 2 * (2 * c * shape.width + 4)  # the normalised input and the output, and the root
    attention = c * 3 * shape.inner + c * shape.inner  # repeated for grouped heads, and the output's input
    probabilities = c * shape.heads * length if length <= DENSE else 4 * shape.heads
    return norms + attention + probabilities + 3 * c * shape.middle + _inner(shape, c, rank)


def t5_layer(setting: Setting, rank: int, length: int, seen: int) -> float:
    """Of one T5 layer and position that looks at ``seen`` others.

    One attention and one feed-forward part; a decoder layer's second attention is :func:`t5_cross`.
    """
    shape, c = setting.shape, setting.compute
    feeding = 4 * shape.width + c * (2 * shape.width + (4 if shape.gated else 2) * shape.middle + 3 * rank)
    return _t5_attention(setting, rank, seen) + feeding


def t5_cross(setting: Setting, rank: int, seen: int) -> float:
    """Of a decoder layer's attention to the encoder and a position of the decoder, the encoder's side left out."""
    return _t5_attention(setting, rank, seen)


def _t5_attention(setting: Setting, rank: int, seen: int) -> float:
    shape, c = setting.shape, setting.compute
    # transformers adds the positions' bias to the mask for every row, head and pair, and torch's attention keeps that.
    mask = shape.heads * seen * setting.weight
    return 4 * shape.width + c * (3 * shape.width + 4 * shape.inner + 4 * rank) + mask


def encoder_layer(shape: Shape, compute: int, length: int, *, cpu: bool) -> float:
    """Of one RoBERTa layer and position, all weights trained, with dropout of hidden states and attention.

    On a CPU dropout in attention means plain attention, which torch makes in float32 whatever the precision of the
    passes: queries, keys, values, probabilities, the mask of the dropout and their product. A mask has the precision of
    what it is multiplied with, on a GPU it is one byte.
    """
    c, mask = compute, compute if cpu else 1
    if c == 4:
        inputs = 4 * (shape.width + shape.inner + shape.width + 2 * shape.middle)
    else:  # every layer keeps a rounded copy of its input
        inputs = c * (3 * shape.width + shape.inner + shape.width + 2 * shape.middle)
    attention = (4 if cpu else c) * 3 * shape.inner
    probabilities = 3 * 4 * shape.heads * length if cpu else 4 * shape.heads
    dropped = 2 * mask * shape.width
    norms = 2 * 4 * shape.width
    return inputs + attention + probabilities + dropped + norms


def logits_learning(setting: Setting) -> float:
    """Bytes of a learnt position and a word of the vocabulary in SFT, at the start of the backward pass.

    The log-probabilities, the gradient that comes back to them and the one that goes on, each float32 (torch's
    cross-entropy). While the loss is made: logits, a float32 copy where they are rounded, log-probabilities.
    """
    forward = 8 if setting.compute == 4 else setting.compute + 8
    return max(12, forward)


def logits_of_replies(setting: Setting, temperature: float) -> float:
    """The same in PPO's update (``sawyer.fused.functions.TokenLogprobs``), which keeps the logits as they came."""
    c = setting.compute
    if c == 4:
        return 8 if temperature == 1 else 12
    return c + 8  # beside the logits a float32 copy and what its logarithm of a sum is made with


def _inner(shape: Shape, c: int, rank: int) -> float:
    """What lies between A and B of the adapted layers."""
    return c * rank * (7 if shape.gated else 6)


def backward(setting: Setting) -> float:
    """Gradients of a position that are under way in one layer: the widest part's three, and two of the stream."""
    shape, c = setting.shape, setting.compute
    return 3 * c * shape.middle + 2 * 4 * shape.width
