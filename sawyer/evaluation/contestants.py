"""Who is evaluated: stage names resolved to versions, loaded as adapters of one backbone, and the reward model."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sawyer.current_reward import current_guard, current_judge, current_scorer, parts_of
from sawyer.errors import UsageError
from sawyer.home import Home
from sawyer.models import Policy
from sawyer.recipe import Recipe
from sawyer.registry import Registry
from sawyer.scoring import TextScorer, TotalScorer
from sawyer.stage_version import Version, parse_reference

ORDER = ("base", "sft", "rlf")
TRAINED_BY = {"base": "base", "sft": "sft", "rlf": "ppo"}


@dataclass(frozen=True)
class Models:
    """What an evaluation asks: a policy whose stages include those asked, a scorer, and a guard where there is one.

    ``versions`` says for each stage what answers under its name; a stage that is missing there is its own name.
    ``judge`` is a second reward model that nothing was optimised against; ``judge_note`` says why there is none.
    """

    policy: Policy
    scorer: TextScorer
    reward_name: str
    versions: dict[str, str] = field(default_factory=dict)
    guard: TextScorer | None = None
    judge: TextScorer | None = None
    judge_name: str | None = None
    judge_note: str | None = None


def kind_of(stage: str) -> str:
    """``rlf`` of ``rlf@3``."""
    return stage.split("@")[0]


def check_names(stages: Sequence[str]) -> None:
    """Refuse unknown stages, rewards, and stages named twice. Raises UsageError."""
    if not stages:
        raise UsageError(f"Name at least one stage; allowed: {', '.join(ORDER)}, or a version such as rlf@3.")
    for stage in stages:
        if parse_reference(stage)[0] not in ORDER:
            raise UsageError(f"{stage!r} cannot be evaluated; allowed: {', '.join(ORDER)}, or a version such as rlf@3.")
    twice = sorted({stage for stage in stages if list(stages).count(stage) > 1})
    if twice:
        raise UsageError(f"Name each stage once; given twice: {', '.join(twice)}.")
    bases = [stage for stage in stages if kind_of(stage) == "base"]
    if len(bases) > 1:
        raise UsageError(f"One backbone can be evaluated at a time; given: {', '.join(bases)}.")


def load_models(recipe: Recipe, home: Home, stages: Sequence[str] | None) -> tuple[Models, tuple[str, ...]]:
    """Load the stages (by default ``base`` and every trained one) and the reward model.

    Raises:
        UsageError: an unknown stage, one without an adapter, one of another backbone, or no reward model.
        CheckpointError, ModelError: a version is damaged or cannot be loaded.
    """
    registry = Registry.of(recipe, home)
    if stages is None:
        stages = [stage for stage in ORDER if stage == "base" or registry.current(stage) is not None]
    check_names(stages)
    versions = {stage: _version(registry, recipe, stage) for stage in stages if kind_of(stage) != "base"}
    backbone, backbone_name = _backbone(registry, recipe, stages)
    policy = Policy.load(backbone, spec=recipe.model)
    for stage, version in versions.items():
        made_for = version.info.get("backbone")
        if made_for is not None and made_for != policy.fingerprint:
            raise UsageError(
                f"{version.ref} was trained on another backbone than {backbone_name} (fingerprints {made_for} and "
                f"{policy.fingerprint}). Name the base it belongs to, such as --stages base@1,{stage}, or leave it out."
            )
        policy.load_adapter(stage, version.path)
    names = {stage: version.ref for stage, version in versions.items()}
    names |= {stage: backbone_name for stage in stages if kind_of(stage) == "base"}
    scorer, reward_name = _scorer(registry, recipe, policy)
    guard = current_guard(recipe, registry, policy.device)
    judge = current_judge(recipe, registry, policy.device)
    name = None if judge is None else registry.get("judge").ref
    return Models(policy, scorer, reward_name, names, guard, judge, name, _judge_note(recipe, judge)), tuple(stages)


def _judge_note(recipe: Recipe, judge: TextScorer | None) -> str | None:
    if judge is not None:
        return None
    if recipe.reward is None:
        return "No second reward model: the recipe has no reward section to vary."
    first = "" if recipe.judge else "add `judge: {}` to the recipe and "
    return f"No second reward model scored these replies: {first}run `sawyer train judge {recipe.name}`, then evaluate."


def _version(registry: Registry, recipe: Recipe, stage: str) -> Version:
    if "@" in stage:
        return registry.get(stage)
    version = registry.current(stage)
    if version is None:
        raise UsageError(
            f"Stage {stage} of recipe {recipe.name} has no adapter yet. Train it with "
            f"`sawyer train {TRAINED_BY[stage]} {recipe.name}`, or leave it out with --stages."
        )
    return version


def _backbone(registry: Registry, recipe: Recipe, stages: Sequence[str]) -> tuple[str | Path, str]:
    named = next((stage for stage in stages if kind_of(stage) == "base"), "base")
    if "@" in named:
        version = registry.get(named)
        return version.path, version.ref
    if recipe.model.backbone is not None:
        return recipe.model.backbone, Path(recipe.model.backbone).name or recipe.model.backbone
    current = registry.current("base")
    if current is None:
        raise UsageError(
            f"The recipe {recipe.name} has no backbone yet: run `sawyer train base {recipe.name}` or "
            f"`sawyer pipeline {recipe.name}` first, or name one in model.backbone."
        )
    return current.path, current.ref


def _scorer(registry: Registry, recipe: Recipe, policy: Policy) -> tuple[TextScorer, str]:
    """What PPO is rewarded by, and its name: ``ppo.reward``, else the registry's reward model."""
    parts, version = parts_of(recipe), registry.current("reward")
    if version is None and any(part.trained for part in parts):
        raise UsageError(
            f"The recipe {recipe.name} has no reward model to score replies with: run "
            f"`sawyer train reward {recipe.name}` first, or name a classifier in ppo.reward."
        )
    scorer = current_scorer(recipe, registry, policy.device)
    if isinstance(scorer, TotalScorer):
        return scorer, scorer.reward.formula
    return scorer, version.ref if version is not None and parts[0].trained else parts[0].classifier or parts[0].title
