"""What to change in a recipe that does not fit, cheapest first, and a recipe that does."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from sawyer.errors import ModelError
from sawyer.plan.device import Device
from sawyer.plan.plan import Plan, make_plan
from sawyer.recipe import METHODS, Recipe


@dataclass(frozen=True)
class Change:
    """One key set to another value; ``saves`` bytes of the stage's peak at the price of ``cost``."""

    key: str
    value: Any
    cost: str
    saves: int
    enough: bool


NOTHING = "nothing that shows"
SLOWER = "the same learning, a little slower"
THIRD = "about a third more time"
PACKED = "a third slower, weights of four bits"
SHORTER = "longer texts are cut or left out"
SMALLER = "a smaller adapter learns less"
NOISIER = "fewer at a time: noisier steps"


def changes(plan: Plan, stage: str) -> list[Change]:
    """What would make a stage smaller, in order of cost; changes that save nothing are left out."""
    before = peak_of(plan, stage)
    found = []
    for key, value, cost in _candidates(plan.recipe, plan.device, stage):
        changed = with_key(plan.recipe, key, value)
        if changed is None:
            continue
        after = peak_of(make_plan(changed, plan.device), stage)
        if after < before:
            found.append(Change(key, value, cost, before - after, after <= plan.device.memory))
    return found


def fit(recipe: Recipe, device: Device) -> tuple[Recipe, list[Change]]:
    """A recipe that fits, and what was changed: the cheapest change that is enough, else the cheapest and so on.

    Raises:
        ModelError: nothing that a recipe can say makes it fit.
    """
    made: list[Change] = []
    if recipe.model.dtype == "bfloat16" and not device.bf16 and device.kind == "cuda":
        recipe = with_key(recipe, "model.dtype", "float16") or recipe
        made.append(Change("model.dtype", "float16", "the card has no bfloat16", 0, False))
    plan = make_plan(recipe, device)
    while not plan.fitting:
        stage = next(one.stage for one in plan.stages if not plan.fits(one))
        possible = changes(plan, stage)
        if not possible:
            missing = peak_of(plan, stage) - device.memory
            raise ModelError(
                f"Nothing in the recipe makes {stage} fit into {device.name}: {missing / 1e9:.1f} GB are missing with "
                "everything lowered. Take a smaller model.backbone or a card with more memory."
            )
        change = next((one for one in possible if one.enough), possible[0])
        recipe = with_key(recipe, change.key, change.value) or recipe
        made.append(change)
        plan = make_plan(recipe, device)
    return recipe, made


def peak_of(plan: Plan, stage: str) -> int:
    """Bytes at a stage's peak."""
    return next(one.ledger.peak for one in plan.stages if one.stage == stage)


def with_key(recipe: Recipe, key: str, value: Any) -> Recipe | None:
    """The recipe with one key changed, defaults left unsaid; None where that is no recipe."""
    data = recipe.model_dump(mode="json", exclude_unset=True)
    *sections, last = key.split(".")
    place = data
    for section in sections:
        place = place.setdefault(section, {})
    place[last] = value
    try:
        return Recipe.model_validate(data)
    except ValidationError:
        return None


def _candidates(recipe: Recipe, device: Device, stage: str) -> Iterator[tuple[str, Any, str]]:
    """Keys, values and costs, cheapest first. Halved sizes come once; ``fit`` asks again."""
    if stage == "reward":
        yield from _halved(recipe, "reward.batch_size", NOISIER)
        yield from _halved(recipe, "reward.max_length", SHORTER, least=64)
        return
    cuda = device.kind == "cuda"
    section = "ppo" if stage in METHODS else stage
    if cuda and recipe.model.dtype == "float32":
        yield "model.dtype", "bfloat16" if device.bf16 else "float16", "rounded weights; faster"
    if stage != "serve":
        if cuda and "8bit" not in getattr(recipe, section).optimizer:
            yield f"{section}.optimizer", "paged_adamw_8bit" if section == "sft" else "adamw_8bit", NOTHING
        yield from _halved(recipe, f"{section}.micro_batch", SLOWER)
        if not getattr(recipe, section).gradient_checkpointing:
            yield f"{section}.gradient_checkpointing", True, THIRD
    if cuda and recipe.model.quantization == "none":
        yield "model.quantization", "nf4", PACKED
    if section == "ppo":
        yield from _halved(recipe, "ppo.batch_size", NOISIER)
        yield from _halved(recipe, "ppo.max_new_tokens", SHORTER, least=16)
    if section == "sft":
        yield from _halved(recipe, "sft.max_length", SHORTER, least=64)
    if stage == "serve":
        yield from _halved(recipe, "serve.max_rows", "fewer replies at a time; others wait", least=3)
        yield from _halved(recipe, "model.context", "shorter conversations", least=128)
    yield from _halved(recipe, "lora.r", SMALLER, least=4)


def _halved(recipe: Recipe, key: str, cost: str, least: int = 1) -> Iterator[tuple[str, int, str]]:
    section, name = key.split(".")
    value = getattr(getattr(recipe, section), name)
    if value // 2 >= least:
        yield key, value // 2, cost
