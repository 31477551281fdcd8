"""The ledger of PPO: rollout, scoring, measuring and update share one backbone; the largest of them is the peak."""

from sawyer.plan.activations import backward, decoder_layer, fused_layer, logits_of_replies, t5_cross, t5_layer
from sawyer.plan.generation import grown, kv_bytes, packed_copy, reading, sampling, slots
from sawyer.plan.ledger import Item, Ledger, Moment, item
from sawyer.plan.scoring import reward_models, scoring
from sawyer.plan.setting import Setting, adapter_weights, reserve
from sawyer.plan.training import kept_activations, optimiser_states, step_scratch
from sawyer.recipe import PpoSpec, Recipe

PIECE = 4096  # of sawyer.ragged.merged


def ppo_ledger(recipe: Recipe, setting: Setting) -> Ledger:
    """One step of ``train.ppo``: prompts of ``max_prompt`` tokens, replies of ``max_new_tokens``."""
    spec, shape = recipe.ppo, setting.shape
    assert spec is not None
    adapter = adapter_weights(recipe, shape)
    trained = adapter + shape.width + 1
    gradients = item("gradients", 4 * trained, "float32, of adapter and value head")
    copies = 2 if recipe.sft is not None else 1
    note = "rlf and its reference, sft" if copies == 2 else "rlf; the reference is the backbone itself"
    later = (
        item("adapters", 4 * adapter * copies, f"{note}: {adapter / 1e6:,.1f} M weights each, float32"),
        item("value head", 4 * (shape.width + 1), "a float32 linear layer"),
        optimiser_states(spec.optimizer, trained),
        *reward_models(recipe, spec.asked, setting.device.kind),
    )
    held = (*setting.backbone(setting.compute if setting.fused else None), *later)
    moments = (
        *_loading(setting, sum(one.size for one in later)),
        Moment("rollout", _rollout(setting, spec)),
        Moment("scoring", (scoring(recipe, spec),)),
        Moment("measuring", _measuring(setting, spec)),
        *_update(recipe, spec, setting, gradients),
        Moment("optimiser step", (gradients, *step_scratch(setting.device, spec.optimizer, trained))),
    )
    return Ledger("ppo", held, moments, reserve(setting.device, max(moment.size for moment in moments)))


def _loading(setting: Setting, later: int) -> tuple[Moment, ...]:
    """A fused policy is rounded while its float32 file is still mapped, before there is what ``later`` counts."""
    if not setting.fused or setting.weight == setting.compute:
        return ()
    # A mapped file stays until its last tensor has been rounded; other weights go one by one.
    wide = setting.weight if setting.mapped else setting.weight - setting.compute
    more = max(0, wide * setting.shape.weights - later)
    return (Moment("loading", (item("weights as loaded", more, "float32, beyond what is made afterwards"),)),)


def _rollout(setting: Setting, spec: PpoSpec) -> tuple[Item, ...]:
    """Replies to a step's prompts (``Actor.reply``): all rows at once."""
    rows, longest, shape = spec.batch_size, spec.max_prompt + spec.max_new_tokens, setting.shape
    draw = sampling(setting, rows)
    if setting.fused:
        width = setting.compute
        cache = slots(setting, rows, longest, longest, width)
        piece = min(PIECE, rows * spec.max_prompt)
        return (*packed_copy(setting, width), cache, reading(setting, piece, width), draw)
    width, positions = setting.weight if not setting.nf4 else setting.compute, rows * spec.max_prompt
    if shape.kind == "t5":
        own, encoded = grown(1, spec.max_new_tokens), spec.max_prompt
        scores = item(
            "encoder's attention", rows * shape.heads * spec.max_prompt**2 * width, "one layer's mask and bias"
        )
        cache = item("KV cache", rows * (own + encoded) * kv_bytes(setting, width), f"{rows} rows, both attentions")
        return (cache, reading(setting, positions, width), scores, draw)
    room = grown(spec.max_prompt, spec.max_new_tokens)
    cache = item("KV cache", rows * room * kv_bytes(setting, width), f"{rows} rows with room for {room} tokens")
    return (cache, reading(setting, positions, width), draw)


def _measuring(setting: Setting, spec: PpoSpec) -> tuple[Item, ...]:
    """Old log-probabilities, values and entropies, without gradients."""
    replies = spec.micro_batch * spec.max_new_tokens
    positions = spec.micro_batch * (spec.max_prompt + spec.max_new_tokens)
    each = setting.compute + 8
    logits = item("logits", replies * setting.shape.vocab * each, f"{replies:,} tokens, {each} bytes a word")
    return (reading(setting, positions, setting.compute), logits)


def _update(recipe: Recipe, spec: PpoSpec, setting: Setting, gradients: Item) -> tuple[Moment, ...]:
    """One micro-batch's forward and backward pass; a minibatch of several keeps their gradients in between."""
    shape, micro, rank = setting.shape, spec.micro_batch, recipe.lora.r
    replies, length = micro * spec.max_new_tokens, spec.max_prompt + spec.max_new_tokens
    each = logits_of_replies(setting, spec.temperature)
    logits = item("logits", replies * shape.vocab * each, f"{replies:,} tokens of replies, {each:g} bytes a word")
    accumulating = (gradients,) if micro < spec.minibatch_size else ()
    if shape.kind == "t5":
        kept, again = _t5_kept(recipe, spec, setting)
        positions = micro * spec.max_prompt
    else:
        positions = micro * length
        make = fused_layer if setting.fused else decoder_layer
        layer = positions * make(setting, rank, length)
        if setting.fused:  # A and B rounded, and B scaled, for the passes
            layer += setting.compute * adapter_weights(recipe, shape) / shape.layers
        kept, again = kept_activations(setting, layer, positions, checkpointing=spec.gradient_checkpointing)
        if setting.fused:
            kept = kept[:1]  # the weights themselves have the precision of the passes
    late = (gradients,) if spec.gradient_checkpointing else accumulating
    moving = item("backward", positions * backward(setting) + again + setting.unpacked(), "gradients under way")
    return (Moment("update's loss", (*kept, logits, *accumulating)),
            Moment("update's backward pass", (*kept, moving, *late)))  # fmt: skip


def _t5_kept(recipe: Recipe, spec: PpoSpec, setting: Setting) -> tuple[tuple[Item, ...], float]:
    shape, rank = setting.shape, recipe.lora.r
    prompt, reply = spec.micro_batch * spec.max_prompt, spec.micro_batch * spec.max_new_tokens
    encoder = prompt * t5_layer(setting, rank, spec.max_prompt, spec.max_prompt)
    decoder = reply * (t5_layer(setting, rank, spec.max_new_tokens, spec.max_new_tokens)
                       + t5_cross(setting, rank, spec.max_prompt))  # fmt: skip
    # The decoder's keys and values of the encoder's positions, and the rounded input of their adapters.
    decoder += prompt * setting.compute * (2 * shape.inner + 2 * shape.width)
    note = f"{prompt:,} tokens of prompts, {reply:,} of replies"
    if spec.gradient_checkpointing:
        inputs = (shape.layers * prompt + shape.decoder_layers * (reply + prompt)) * shape.width * setting.weight
        return (item("activations", inputs, f"{note}: the layers' inputs"),), max(encoder, decoder)
    kept = [item("activations", shape.layers * encoder + shape.decoder_layers * decoder, note)]
    rounded = setting.rounded_weights()
    return (*kept, *((item("rounded weights", rounded, "autocast's copies"),) if rounded else ())), 0
