"""Ledgers of the stages that learn from given data: SFT's adapter, and the reward model, which is trained whole."""

from sawyer.plan.activations import backward, decoder_layer, encoder_layer, logits_learning
from sawyer.plan.device import Device
from sawyer.plan.ledger import Item, Ledger, Moment, item
from sawyer.plan.setting import Setting, adapter_weights, reserve
from sawyer.plan.shape import Shape
from sawyer.recipe import Recipe


def optimiser_states(name: str, weights: int) -> Item:
    """Adam's two moments: float32, or 8 bits with a float32 scale for each block of 256 (Dettmers et al. 2022)."""
    if "8bit" not in name:
        return item("optimiser", 8 * weights, f"{name}: two moments in float32")
    note = "two moments of 8 bits" + (", which may leave the card for the host" if name.startswith("paged") else "")
    return item("optimiser", (2 + 8 / 256) * weights, f"{name}: {note}")


def step_scratch(device: Device, name: str, weights: int) -> tuple[Item, ...]:
    """torch's AdamW on a GPU updates all tensors at once and makes a root of the second moments beside them."""
    wide = device.kind == "cuda" and "8bit" not in name and "fused" not in name
    return (item("optimiser's scratch", 4 * weights, "the root of the second moments"),) if wide else ()


def sft_ledger(recipe: Recipe, setting: Setting) -> Ledger:
    """One step of ``train.sft``: rows of ``max_length`` tokens, every one of them learnt."""
    spec, shape = recipe.sft, setting.shape
    assert spec is not None
    micro = min(spec.micro_batch, spec.batch_size)
    adapter, positions = adapter_weights(recipe, shape), micro * spec.max_length
    layer = positions * decoder_layer(setting, recipe.lora.r, spec.max_length)
    gradients = item("gradients", 4 * adapter, "float32, of the adapter alone")
    each = logits_learning(setting)
    words = f"{positions:,} tokens of {shape.vocab:,} words, {each:g} bytes each"
    logits = item("logits", positions * shape.vocab * each, words)
    accumulating = (gradients,) if micro < spec.batch_size else ()
    kept, again = kept_activations(setting, layer, positions, checkpointing=spec.gradient_checkpointing)
    moving = item("backward", positions * backward(setting) + again + setting.unpacked(), "gradients under way")
    late = (gradients,) if spec.gradient_checkpointing else accumulating
    moments = (
        Moment("loss", (*kept, logits, *accumulating)),
        Moment("backward pass", (*kept, moving, *late)),
        Moment("optimiser step", (gradients, *step_scratch(setting.device, spec.optimizer, adapter))),
    )
    held = (*setting.backbone(), item("adapter", 4 * adapter, _rank(recipe, adapter)),
            optimiser_states(spec.optimizer, adapter))  # fmt: skip
    return Ledger("sft", held, moments, reserve(setting.device, max(moment.size for moment in moments)))


def kept_activations(
    setting: Setting, layer: float, positions: int, *, checkpointing: bool
) -> tuple[tuple[Item, ...], float]:
    """What the forward pass keeps for the backward pass, and what the latter makes again at a time.

    ``layer`` is the bytes of all positions in one layer. With checkpointing each layer's input alone is kept (Chen et
    al. 2016), and one layer is made again at a time.
    """
    layers, rounded = setting.shape.layers, setting.rounded_weights()
    if not checkpointing:
        kept = [item("activations", layers * layer, f"{positions:,} tokens in {layers} layers")]
        if rounded:
            kept.append(item("rounded weights", rounded, "autocast's copies, kept for the backward pass"))
        return tuple(kept), 0
    inputs = layers * positions * setting.shape.width * setting.weight
    note = f"{positions:,} tokens, the inputs of {layers} layers"
    return (item("activations", inputs, note),), layer + rounded / layers


def reward_ledger(recipe: Recipe, shape: Shape, device: Device) -> Ledger:
    """One step of ``train.reward_model``: both replies of every pair in one pass, all weights float32 and trained."""
    spec = recipe.reward
    assert spec is not None
    if recipe.model.dtype == "auto":
        compute = 2 if device.kind == "cuda" or device.bf16 else 4
    else:
        compute = 4 if recipe.model.dtype == "float32" else 2
    positions, weights, cpu = 2 * spec.batch_size * spec.max_length, shape.weights, device.kind == "cpu"
    layer = positions * encoder_layer(shape, compute, spec.max_length, cpu=cpu)
    embedded = positions * shape.width * 4 * 2  # the sum that the first norm reads, and dropout's result
    kept = [item("activations", shape.layers * layer + embedded, f"{positions:,} tokens in {shape.layers} layers")]
    if compute < 4:
        kept.append(item("rounded weights", compute * shape.linear_weights, "autocast's copies"))
    gradients = item("gradients", 4 * weights, "float32, of all weights")
    moving = item("backward", positions * (2 * compute * shape.middle + 8 * shape.width), "gradients under way")
    moments = (
        Moment("backward pass", (*kept, moving)),
        Moment("end of the backward pass", (gradients, *kept[1:], item("last layer", layer + moving.size))),
        Moment("optimiser step", (gradients, *step_scratch(device, "adamw_torch", weights))),
    )
    held = (item("reward model", 4 * weights, f"{weights / 1e6:,.0f} M weights in float32"),
            optimiser_states("adamw_torch", weights))  # fmt: skip
    return Ledger("reward", held, moments, reserve(device, max(moment.size for moment in moments)))


def _rank(recipe: Recipe, weights: int) -> str:
    return f"{weights / 1e6:,.1f} M weights of rank {recipe.lora.r} in float32"
