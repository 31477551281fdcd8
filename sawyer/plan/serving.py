"""The ledger of the server: one backbone, two adapters, and room for the rows that are decoded together."""

from sawyer.plan.generation import (
    TOKENS,
    adapters_stacked,
    kv_bytes,
    reading,
    sampling,
    slot_capacity,
    slots,
)
from sawyer.plan.ledger import Item, Ledger, Moment, item
from sawyer.plan.scoring import reward_models
from sawyer.plan.setting import Setting, adapter_weights, reserve
from sawyer.recipe import Recipe

PIECE = 512  # tokens of prompts read between two steps (sawyer.ragged.batch)
LEAN = ("llama", "mistral", "qwen2", "qwen3")
"""Families that ``sawyer.ragged.lean`` runs, which packs the weights on a CPU."""


def serve_ledger(recipe: Recipe, setting: Setting) -> Ledger:
    """Base, sft and rlf side by side, as many replies as there may be, each as long as ``model.context`` lets it be."""
    shape, context, rows = setting.shape, recipe.model.context, recipe.serve.max_rows
    if shape.positions and shape.kind == "decoder":
        context = min(context, shape.positions)
    adapters = sum(section is not None for section in (recipe.sft, recipe.ppo)) or 1
    weights = adapter_weights(recipe, shape)
    width = setting.compute if setting.nf4 else setting.weight
    lean = shape.model_type in LEAN and not setting.nf4
    held = [
        *(_packed(setting) if lean and setting.cpu else setting.backbone()),
        item("adapters", 4 * adapters * weights, f"{adapters} of {weights / 1e6:,.1f} M, float32"),
    ]
    if setting.cpu and recipe.ppo is not None:  # beside a GPU the reward model scores on the CPU
        held.extend(reward_models(recipe, recipe.ppo.parts, "cpu"))
    if shape.kind == "t5":
        cache = item("KV cache", rows * 2 * context * kv_bytes(setting, width), f"{rows} rows, both attentions")
        moments = [Moment("decoding", (cache, reading(setting, rows * context, width), sampling(setting, rows)))]
        return Ledger("serve", tuple(held), tuple(moments), reserve(setting.device, moments[0].size))
    if lean:
        held.append(adapters_stacked(recipe, setting, adapters, width))
    else:
        held.append(item("adapters, stacked", width * adapters * weights, "as one product a layer"))
    fitting = max(1, min(rows, TOKENS // slot_capacity(context, context)))
    cache = slots(setting, fitting, context, context, width)
    # The rows of one layer as attention takes them: grouped heads and places that do not lie side by side are copied.
    looked = item("attention", 2 * fitting * context * shape.kv * max(width, 4), "one layer's keys and values")
    decoding = (cache, looked, reading(setting, max(PIECE, fitting), width), sampling(setting, fitting))
    moments = [Moment("decoding", decoding)]
    if lean and setting.cpu:
        largest = max(2 * shape.width * shape.middle, 0 if shape.tied else shape.embedding)
        moments.append(Moment("packing", (item("packing", 2 * width * largest, "the largest product twice"),)))
    return Ledger("serve", tuple(held), tuple(moments), reserve(setting.device, max(m.size for m in moments)))


def _packed(setting: Setting) -> tuple[Item, ...]:
    """The weights as ``sawyer.ragged.lean`` has them on a CPU: products packed, embeddings as they were.

    Packed weights are taken out of the model, but a mapped file stays until nothing of it is used; the system may take
    pages of it back when it needs them.
    """
    shape, width = setting.shape, setting.weight
    packed = width * (shape.linear_weights + shape.embedding)
    rest = width * (shape.weights if setting.mapped else shape.embeddings + shape.small)
    note = "the checkpoint, mapped as a whole" if setting.mapped else "embeddings and norms"
    return item("backbone, packed", packed, "products and output layer"), item("backbone, as loaded", rest, note)
