"""The plan of a recipe on a device: a ledger and a duration for each of its stages."""

from dataclasses import dataclass
from typing import Any

from sawyer.plan.configs import backbone_shape, reward_shape
from sawyer.plan.device import Device
from sawyer.plan.duration import Duration, ppo_duration, reward_duration, serve_duration, sft_duration
from sawyer.plan.ledger import Ledger
from sawyer.plan.ppo import ppo_ledger
from sawyer.plan.serving import serve_ledger
from sawyer.plan.setting import Setting
from sawyer.plan.training import reward_ledger, sft_ledger
from sawyer.recipe import METHODS, PREFERENCE_METHODS, Recipe, plan_of

NOT_PLANNED = ("base", "t5", "classifiers", *PREFERENCE_METHODS)


@dataclass(frozen=True)
class StagePlan:
    """A stage's memory and time."""

    ledger: Ledger
    duration: Duration | None

    @property
    def stage(self) -> str:
        """Its name, as ``sawyer train`` takes it; ``serve`` is the server."""
        return self.ledger.stage


@dataclass(frozen=True)
class Plan:
    """All stages of a recipe on one device."""

    recipe: Recipe
    device: Device
    stages: tuple[StagePlan, ...]
    notes: tuple[str, ...]

    def fits(self, stage: StagePlan) -> bool:
        """Whether the device's memory is enough for a stage."""
        return stage.ledger.peak <= self.device.memory

    @property
    def fitting(self) -> bool:
        """Whether it is enough for each of them; they run one after the other."""
        return all(self.fits(stage) for stage in self.stages)


def make_plan(recipe: Recipe, device: Device) -> Plan:
    """Plan every stage that the recipe names, and serving.

    Raises:
        ModelError: the shape of a model is not to be had. RecipeError: sections that do not fit each other.
    """
    setting = Setting.of(recipe, backbone_shape(recipe), device)
    stages = [StagePlan(ledger, duration) for ledger, duration in _stages(recipe, setting)]
    return Plan(recipe, device, tuple(stages), tuple(_notes(recipe, setting)))


def _stages(recipe: Recipe, setting: Setting) -> list[tuple[Ledger, Duration | None]]:
    made: list[tuple[Ledger, Duration | None]] = []
    if recipe.sft is not None:
        made.append((sft_ledger(recipe, setting), sft_duration(recipe, setting)))
    shape = reward_shape(recipe)
    if shape is not None:
        made.append((reward_ledger(recipe, shape, setting.device), reward_duration(recipe, setting.device)))
    if recipe.ppo is not None:
        made.append((ppo_ledger(recipe, setting), ppo_duration(recipe.ppo, setting)))
    for method in METHODS:  # the same passes on the same rollouts, with batches of their own
        if getattr(recipe, method) is not None:
            spec = plan_of(method, recipe).ppo
            ledger = ppo_ledger(recipe.model_copy(update={"ppo": spec}), setting)
            made.append((Ledger(method, ledger.held, ledger.moments, ledger.reserve), ppo_duration(spec, setting)))
    made.append((serve_ledger(recipe, setting), serve_duration(setting, recipe.serve.max_rows)))
    return made


def _notes(recipe: Recipe, setting: Setting) -> list[str]:
    """What a reader must know beside the figures."""
    notes, device = [], setting.device
    if recipe.model.dtype == "bfloat16" and not device.bf16:
        half = "float16" if device.kind == "cuda" else "float32"
        notes.append(f"{device.name} has no bfloat16 arithmetic: set model.dtype to {half}.")
    if recipe.model.quantization == "nf4" and device.kind == "cpu":
        notes.append("NF4 on a CPU is for trying things out: bitsandbytes unpacks every weight for every product.")
    if recipe.lora.whole:
        notes.append("The modules of lora.whole are not counted: they are taken to be norms.")
    beside = [name for name in NOT_PLANNED if getattr(recipe, name) is not None]
    if beside:
        notes.append(f"Not planned: {', '.join(beside)}.")
    return notes


def as_json(plan: Plan) -> dict[str, Any]:
    """The plan as one JSON object, sizes in bytes."""
    return {
        "recipe": plan.recipe.name,
        "device": {"name": plan.device.name, "memory": plan.device.memory, "bf16": plan.device.bf16},
        "fits": plan.fitting,
        "stages": {stage.stage: _stage_json(plan, stage) for stage in plan.stages},
        "notes": list(plan.notes),
    }


def _stage_json(plan: Plan, stage: StagePlan) -> dict[str, Any]:
    ledger = stage.ledger
    return {
        "fits": plan.fits(stage),
        "peak": ledger.peak,
        "peak_moment": ledger.worst.name,
        "items": {item.name: item.size for item in ledger.items},
        "moments": {moment.name: moment.size for moment in ledger.moments},
        "estimate": None if stage.duration is None else vars(stage.duration),
    }
