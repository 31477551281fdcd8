"""How long a stage takes, from its floating-point operations and the bytes it reads: an estimate, no measurement.

A product with a weight is two operations forward; a frozen weight costs two more in the backward pass (the gradient
goes on, none is made of the weight), a trained one four; checkpointing makes the forward pass again.
"""

from dataclasses import dataclass

from sawyer.plan.configs import reward_shape
from sawyer.plan.device import Device
from sawyer.plan.setting import NF4, Setting
from sawyer.recipe import DataSource, PpoSpec, Recipe

USE, BANDWIDTH_USE = 0.35, 0.6
"""Shares of the data sheet's figures that such code reaches: the assumption behind every estimate."""
UNPACKING = 0.7  # of that, where NF4 weights are unpacked before each product (QLoRA's own report: a third slower)
ROWS_OF = {
    "timdettmers/openassistant-guanaco": 9846,
    "databricks/databricks-dolly-15k": 15011,
    "anthropic/hh-rlhf": 160_800,
    "trl-lib/ultrafeedback_binarized": 62_135,
}
"""Records in the train split of public sets, from their pages on the hub."""


@dataclass(frozen=True)
class Duration:
    """``rate`` of ``unit`` a second; ``hours`` of the whole stage, None where the number of records is not known."""

    rate: float
    unit: str
    hours: float | None


def speed(setting: Setting) -> float:
    """Operations a second that the passes are taken to reach."""
    slow = UNPACKING if setting.nf4 else 1.0
    whole = 4.0 if setting.compute == 4 and not setting.cpu else 1.0  # float32 has no tensor cores to speak of
    return setting.device.flops * USE * slow / whole


def forward(setting: Setting, length: int) -> float:
    """Operations of a token in rows of ``length``: products with weights, and attention's two with each other."""
    shape = setting.shape
    layers = shape.layers + shape.decoder_layers
    return 2 * (shape.linear_weights + shape.embedding) + 2 * 2 * layers * shape.inner * length / 2


def records(sources: list[DataSource]) -> int | None:
    """How many records the sources give; None where one of them is not known."""
    total = 0
    for source in sources:
        known = ROWS_OF.get(source.name.lower())
        count = source.limit if known is None else min(source.limit or known, known)
        if count is None:
            return None
        total += round(count * max(1.0, source.weight))
    return total


def sft_duration(recipe: Recipe, setting: Setting) -> Duration:
    """Tokens a second; hours as if every conversation had ``max_length`` tokens."""
    spec = recipe.sft
    assert spec is not None
    passes = 3 if spec.gradient_checkpointing else 2
    rate = speed(setting) / (passes * forward(setting, spec.max_length))
    rows = records(spec.sources)
    hours = None if rows is None else rows * spec.epochs * spec.max_length / rate / 3600
    return Duration(rate, "tokens", hours)


def reward_duration(recipe: Recipe, device: Device) -> Duration | None:
    """Pairs a second; hours as if every reply had ``max_length`` tokens."""
    spec, shape = recipe.reward, reward_shape(recipe)
    if spec is None or shape is None:
        return None
    operations = 6 * shape.linear_weights * 2 * spec.max_length
    rate = device.flops * USE / operations
    rows = records(spec.sources)
    return Duration(rate, "pairs", None if rows is None else rows * spec.epochs / rate / 3600)


def step_seconds(setting: Setting, rows: int) -> float:
    """One token for each of ``rows`` rows: the weights are read, or multiplied, whichever takes longer."""
    shape = setting.shape
    # Unpacked NF4 is written and read again.
    each = NF4 + 2 * setting.compute if setting.nf4 else setting.weight
    reading = each * (shape.linear_weights + shape.embedding) / (setting.device.bandwidth * BANDWIDTH_USE)
    return max(reading, rows * forward(setting, 1) / speed(setting))


def ppo_duration(spec: PpoSpec, setting: Setting) -> Duration:
    """Episodes a second, with replies as long as they may be; the reward's own time is left out."""
    length = spec.max_prompt + spec.max_new_tokens
    tokens, passes = spec.batch_size * length, 3 if spec.gradient_checkpointing else 2
    rollout = spec.max_new_tokens * step_seconds(setting, spec.batch_size)
    prompts = spec.batch_size * spec.max_prompt * forward(setting, spec.max_prompt) / speed(setting)
    measured = 2 * tokens * forward(setting, length) / speed(setting)
    update = spec.epochs * passes * tokens * forward(setting, length) / speed(setting)
    seconds = rollout + prompts + measured + update
    return Duration(spec.batch_size / seconds, "episodes", spec.steps * seconds / 3600)


def serve_duration(setting: Setting, rows: int) -> Duration:
    """Tokens a second of all rows together."""
    return Duration(rows / step_seconds(setting, rows), "tokens", None)
