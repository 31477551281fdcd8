"""Every step a recipe names, in order, each in a run folder of its own; new versions are promoted all at once.

A step takes explicit folders and returns one: from the pipeline these are the earlier steps' outputs, from a single
``sawyer train`` the current versions of the registry.
"""

import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sawyer.errors import CheckpointError, UsageError
from sawyer.home import Home
from sawyer.recipe import METHODS, PREFERENCE_METHODS, Recipe, judge_recipe, plan_of, preference_plan
from sawyer.registry import Registry
from sawyer.runs import MANIFEST, Run, hash_file, write_json
from sawyer.stage_version import holds

STEPS = ("base", "sft", "reward", "judge", "classifiers", "ppo")
TEXT_ONLY = ("reward", "judge", "classifiers")  # they read text: they fit every backbone
SCORED = ("ppo", *METHODS)  # learn from a reward; PREFERENCE_METHODS learn from given replies
RLF = (*SCORED, *PREFERENCE_METHODS)
STAGE_OF = {step: step for step in STEPS if step != "ppo"} | dict.fromkeys(RLF, "rlf")
OUTPUT_OF = dict.fromkeys(("base", *TEXT_ONLY), "model") | dict.fromkeys(("sft", *RLF), "adapter")
TRAINABLE = (*STEPS, *METHODS, *PREFERENCE_METHODS)  # all but PPO train rlf in its place: no steps of the pipeline


@dataclass(frozen=True)
class Parts:
    """What steps build on: the backbone (hub id or folder), the SFT adapter, the reward model, the classifiers."""

    backbone: str | Path | None = None
    sft: Path | None = None
    reward: Path | None = None
    classifiers: Path | None = None


def steps_of(recipe: Recipe) -> list[str]:
    """The steps for which the recipe has a section, in order."""
    return [step for step in STEPS if section_of(recipe, step) is not None]


def section_of(recipe: Recipe, step: str) -> Any:
    """The recipe's section for a step, or None: a T5 from nothing takes base's place, and GRPO and RLOO need ppo's.

    The methods that learn from given replies need no section: they have defaults, and their data are others'.
    """
    if step in METHODS:
        return recipe.ppo
    if step in PREFERENCE_METHODS:
        return preference_plan(step, recipe).spec
    return recipe.t5 if step == "base" and recipe.t5 is not None else getattr(recipe, step)


def needs_trained(recipe: Recipe) -> bool:
    """Whether PPO asks the recipe's own reward model."""
    return recipe.ppo is not None and any(part.trained for part in recipe.ppo.parts)


def current_parts(recipe: Recipe, home: Home) -> Parts:
    """The registry's current versions; the recipe's own backbone where none was trained."""
    registry = Registry.of(recipe, home)
    found = {stage: registry.current(stage) for stage in ("base", "sft", "reward", "classifiers")}
    return Parts(
        backbone=recipe.model.backbone or (found["base"].path if found["base"] else None),
        sft=found["sft"].path if found["sft"] else None,
        reward=found["reward"].path if found["reward"] else None,
        classifiers=found["classifiers"].path if found["classifiers"] else None,
    )


def run_step(
    step: str, recipe: Recipe, home: Home, parts: Parts, *, resume: bool = False, folder: Path | None = None
) -> Path:
    """Run one step and return its output folder; with ``resume``, a finished one is left as it is.

    The run's own folder is ``folder``, by default the step's under ``runs/<recipe>`` of the home.

    Raises:
        UsageError: the recipe has no such section, or an earlier stage is missing.
        SawyerError: the work failed; the last checkpoint is intact.
    """
    check_step(step, recipe, parts)
    folder = folder or home.runs / recipe.name / step
    _keep_unfinished(folder, resume)
    with Run(folder, step=step, recipe=recipe, resume=resume) as run:
        if resume and run.finished:
            return run.folder / OUTPUT_OF[step]
        return train_into(step, recipe, run, parts)


def train_one(step: str, recipe: Recipe, home: Home, *, resume: bool = False) -> str:
    """Run one step on the registry's current versions, register and promote its result; returns its reference.

    A resumed run that was finished, registered and promoted before is that version: nothing is changed, whatever was
    trained or promoted since.
    """
    output = run_step(step, recipe, home, current_parts(recipe, home), resume=resume)
    registry = Registry.of(recipe, home)
    known = _promoted_before(registry, STAGE_OF[step], output) if resume else None
    if known is not None:
        return known
    reference = register_output(step, output, recipe, home, registry, current_parts(recipe, home), {})
    registry.promote(reference)
    return reference


def run_pipeline(recipe: Recipe, home: Home, *, resume: bool = False) -> dict[str, str]:
    """Run every step of the recipe, then register and promote their results at once.

    Returns:
        The new reference of every stage, such as ``{"sft": "sft@2"}``.
    """
    steps = steps_of(recipe)
    if not steps:
        raise UsageError(f"The recipe {recipe.name} has no step: add a base, sft, reward or ppo section.")
    parts = current_parts(recipe, home)
    outputs: dict[str, Path] = {}
    for step in steps:
        outputs[step] = run_step(step, recipe, home, parts, resume=resume)
        parts = _with_output(parts, step, outputs[step], recipe)
    return _publish(recipe, home, outputs, parts)


def train_into(step: str, recipe: Recipe, run: Run, parts: Parts) -> Path:
    """Train one step in a run that is open, and return its output folder."""
    # Imported here: each step brings the libraries of its own, some of which take seconds.
    if step == "base" and recipe.t5 is not None:
        from train.t5 import train_t5

        return train_t5(recipe, run)
    if step == "base":
        from train.base import train_base

        return train_base(recipe, run)
    if step == "classifiers":
        from train.classifiers import train_classifiers

        return train_classifiers(recipe, run)
    assert parts.backbone is not None
    if step == "sft":
        from train.sft import train_sft

        return train_sft(recipe, run, parts.backbone)
    if step == "reward":
        from train.reward_model import train_reward

        return train_reward(recipe, run, parts.backbone, parts.sft)
    if step == "judge":
        from train.reward_model import train_reward

        assert recipe.judge is not None
        return train_reward(judge_recipe(recipe, recipe.judge), run, parts.backbone, parts.sft)
    if step in METHODS:
        from train.alternatives import train_alternative

        return train_alternative(step, recipe, run, parts.backbone, parts.sft, parts.reward, parts.classifiers)
    if step == "spin":
        from train.spin import train_spin

        return train_spin(recipe, run, parts.backbone, parts.sft)
    if step in PREFERENCE_METHODS:
        from train.preference import train_preference

        return train_preference(step, recipe, run, parts.backbone, parts.sft)
    from train.ppo import train_ppo

    return train_ppo(recipe, run, parts.backbone, parts.sft, parts.reward, parts.classifiers)


def check_step(step: str, recipe: Recipe, parts: Parts) -> None:
    """Raise UsageError unless the recipe and what was trained before let the step run."""
    if step not in TRAINABLE:
        raise UsageError(f"There is no step {step!r}; there are: {', '.join(TRAINABLE)}.")
    if step in METHODS:
        plan_of(step, recipe)
    if section_of(recipe, step) is None:
        named = ", ".join(steps_of(recipe)) or "none"
        raise UsageError(
            f"The recipe {recipe.name} has no section {step!r}; it has: {named}. Add one or choose another."
        )
    if step not in ("base", "classifiers") and parts.backbone is None:
        raise UsageError(
            f"The recipe {recipe.name} has no backbone yet: run `sawyer train base {recipe.name}` first, "
            "or name one in model.backbone."
        )
    if step in RLF:
        _check_rlf(step, recipe, parts)


def _check_rlf(step: str, recipe: Recipe, parts: Parts) -> None:
    method = step.upper()
    if parts.sft is None and recipe.sft is not None:
        raise UsageError(f"{method} starts from the SFT adapter: run `sawyer train sft {recipe.name}` first.")
    if step not in SCORED:
        return
    if parts.reward is None and needs_trained(recipe):
        raise UsageError(f"{method} needs a reward: run `sawyer train reward {recipe.name}` first, or set ppo.reward.")
    if parts.classifiers is None and recipe.ppo and any(part.own for part in recipe.ppo.asked):
        raise UsageError(
            f"{method} asks for the recipe's own classifiers: run `sawyer train classifiers {recipe.name}` first."
        )


def _keep_unfinished(folder: Path, resume: bool) -> None:
    """An earlier run is moved aside, never deleted, when a new one takes its folder."""
    if resume or not folder.exists():
        return
    before = folder.with_name(f"{folder.name}.before")
    shutil.rmtree(before, ignore_errors=True)
    folder.rename(before)


def _with_output(parts: Parts, step: str, output: Path, recipe: Recipe) -> Parts:
    if step == "base":
        # Adapters of the earlier backbone do not fit the new one.
        return replace(parts, backbone=output, sft=None)
    if step == "sft":
        return replace(parts, sft=output)
    if step == "reward":
        return replace(parts, reward=output)
    if step == "classifiers":
        return replace(parts, classifiers=output)
    return parts


def _publish(recipe: Recipe, home: Home, outputs: dict[str, Path], parts: Parts) -> dict[str, str]:
    """Register and promote; done once for the same outputs, however often the pipeline is resumed."""
    digest = {step: _digest(output) for step, output in outputs.items()}
    record = home.runs / recipe.name / "pipeline.json"
    before = _read(record)
    if before.get("outputs") == digest:
        return before["versions"]
    registry = Registry.of(recipe, home)
    made: dict[str, str] = {}
    for step, output in outputs.items():
        made[STAGE_OF[step]] = register_output(step, output, recipe, home, registry, parts, made)
    registry.promote(*made.values())
    write_json(record, {"outputs": digest, "versions": made})
    return made


def _promoted_before(registry: Registry, stage: str, output: Path) -> str | None:
    """The newest version that has exactly the files of ``output`` and was current at some time."""
    promoted = {reference for entry in registry.promotions.history() for reference in entry["versions"]}
    same = (version.ref for version in reversed(registry.versions(stage)) if holds(version, output))
    return next((reference for reference in same if reference in promoted), None)


def register_output(
    step: str, output: Path, recipe: Recipe, home: Home, registry: Registry, parts: Parts, made: dict[str, str]
) -> str:
    """Register a step's output with what it was built on: the backbone's fingerprint, and for rlf its parents.

    ``made`` holds the references of the stages registered just before, in the same pipeline.
    """
    from sawyer.loading import load_config
    from sawyer.models import fingerprint

    def parent(stage: str) -> str | None:
        current = registry.current(stage)
        return made.get(stage) or (current.ref if current else None)

    info: dict[str, Any] = {"recipe": recipe.name, "run": str(output.parent.relative_to(home.root))}
    backbone = output if step == "base" else parts.backbone
    if step not in TEXT_ONLY:
        assert backbone is not None
        mark = fingerprint(backbone, load_config(backbone, recipe.model))
        info["fingerprint" if step == "base" else "backbone"] = mark
    if step in RLF:
        info["method"] = step
        info["sft"] = parent("sft") if parts.sft is not None else None
    if step in SCORED:
        assert recipe.ppo is not None
        info["reward"] = parent("reward") if needs_trained(recipe) else None
        info["classifiers"] = parent("classifiers") if any(part.own for part in recipe.ppo.asked) else None
        info["statistics"] = _read(output.parent / MANIFEST).get("reward")
    return registry.register(STAGE_OF[step], output, info=info).ref


def _digest(folder: Path) -> str:
    return ",".join(f"{file.name}:{hash_file(file)}" for file in sorted(folder.glob("*.safetensors")))


def _read(record: Path) -> dict[str, Any]:
    import json

    if not record.exists():
        return {}
    try:
        return json.loads(record.read_text(encoding="utf-8"))
    except ValueError as error:
        raise CheckpointError(f"The file {record} is torn: remove it and run the pipeline with --resume.") from error
