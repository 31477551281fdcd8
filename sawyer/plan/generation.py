"""What decoding takes: keys and values, the pass over the prompts, the draw of a token."""

from sawyer.plan.ledger import Item, item
from sawyer.plan.setting import Setting
from sawyer.recipe import Recipe

SAMPLING = 36
"""Bytes a row and word of the vocabulary in ``sawyer.generation.choose``: logits, scaled and as log-probabilities in
float32, then in float64 as such, as probabilities and as their running sum."""
TOKENS = 65_536  # of serve.local.engine: most tokens held for all rows
FIRST_CAPACITY = 256  # of sawyer.ragged.slots


def kv_bytes(setting: Setting, width: int) -> int:
    """Bytes of the keys and values of one position in all layers, ``width`` bytes a number."""
    layers = setting.shape.decoder_layers or setting.shape.layers
    return 2 * layers * setting.shape.kv * width


def grown(prompt: int, reply: int) -> int:
    """Positions for which ``sawyer.cache.GrowingLayer`` has room when ``reply`` tokens follow ``prompt``."""
    room = max(64, prompt + 32)
    while room < prompt + reply:
        room = max(64, room + 33, 2 * room)
    return room


def slot_capacity(longest: int, context: int) -> int:
    """Positions of a place of ``sawyer.ragged.slots.Slots`` that must hold ``longest``."""
    size = min(FIRST_CAPACITY, context)
    while size < longest:
        size *= 2
    return min(size, max(context, longest))


def reading(setting: Setting, positions: int, width: int) -> Item:
    """A pass over ``positions`` tokens of prompts without gradients: the widest layer's tensors."""
    shape = setting.shape
    each = 3 * width * shape.middle + (4 * width + 8) * shape.width
    return item("reading prompts", positions * each + setting.unpacked(), f"{positions:,} tokens at once")


def sampling(setting: Setting, rows: int) -> Item:
    """The draw of one token for each row."""
    return item("sampling", SAMPLING * rows * setting.shape.vocab, f"{rows} rows of {setting.shape.vocab:,} words")


def packed_copy(setting: Setting, width: int) -> tuple[Item, ...]:
    """The weights with the adapter in them, packed for a few rows (``sawyer.ragged.merged``), and what making it takes.

    While one product is made: its parts with their float32 products of A and B, joined, and packed.
    """
    shape = setting.shape
    largest = (2 if shape.gated else 1) * shape.width * shape.middle
    return (
        item("merged weights", width * (shape.linear_weights + shape.embedding), "a copy with the adapter, packed"),
        item("packing", largest * 2 * width, "the largest product, joined and packed"),
    )


def slots(setting: Setting, rows: int, longest: int, context: int, width: int) -> Item:
    """Keys and values of ``rows`` rows of up to ``longest`` tokens in ``sawyer.ragged.slots.Slots``."""
    capacity = slot_capacity(longest, context)
    note = f"{rows} rows of {capacity} tokens"
    return item("KV cache", rows * capacity * kv_bytes(setting, width), note)


def adapters_stacked(recipe: Recipe, setting: Setting, adapters: int, width: int) -> Item:
    """The server's second form of the adapters: A below the weights it is multiplied with, B along a diagonal."""
    shape, rank = setting.shape, recipe.lora.r * adapters
    down = sum(rank * one.inputs * one.count for one in shape.linears)
    up = sum(rank * one.outputs * one.count for one in shape.linears)
    # q, k and v share one diagonal, gate and up another: each part's ranks stand against all their outputs.
    joined = rank * shape.layers * (3 * (shape.inner + 2 * shape.kv) + 2 * 2 * shape.middle + 2 * shape.width)
    # Stacked A and B; A once more for where it is not packed, and once packed; the diagonals.
    return item("adapters, stacked", width * (up + 3 * down + joined), f"{adapters} adapters in every product")
