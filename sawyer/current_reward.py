"""The reward people read: what PPO was rewarded by, with the registry's current models. For evaluation and the demo."""

from typing import TYPE_CHECKING, Any

from sawyer.recipe import Recipe, RewardPartSpec
from sawyer.registry import Registry

if TYPE_CHECKING:
    import torch

    from sawyer.scoring import TextScorer


def parts_of(recipe: Recipe) -> list[RewardPartSpec]:
    """The parts of ``ppo.reward``; the recipe's own reward model where there is no ppo section."""
    return recipe.ppo.parts if recipe.ppo else [RewardPartSpec(trained=True)]


def current_scorer(recipe: Recipe, registry: Registry, device: "torch.device | str" = "cpu") -> "TextScorer":
    """One part in its own units; of several the weighted sum, normalised by what the current rlf's PPO froze.

    Slow; imports torch.

    Raises:
        ModelError: a classifier is absent or broken. UsageError: the recipe's own has not been trained yet.
    """
    from sawyer.scoring import display_scorer

    tuned = registry.current("rlf")
    return display_scorer(
        [_resolved(part, registry) for part in parts_of(recipe)],
        trained=_folder(registry, "reward"),
        statistics=tuned.info.get("statistics") if tuned else None,
        device=device,
    )


def current_guard(recipe: Recipe, registry: Registry, device: "torch.device | str" = "cpu") -> "TextScorer | None":
    """The scorer of ``ppo.guard``, in its own units; None where the recipe names none. Errors as above."""
    from sawyer.scoring import build_scorer

    if recipe.ppo is None or recipe.ppo.guard is None:
        return None
    return build_scorer(_resolved(recipe.ppo.guard, registry), _folder(registry, "reward"), device)


def current_judge(recipe: Recipe, registry: Registry, device: "torch.device | str" = "cpu") -> "TextScorer | None":
    """The second reward model, in its own units; None until one was trained. ModelError: it is broken."""
    from sawyer.scoring import ClassifierScorer

    version = registry.current("judge")
    if version is None:
        return None
    longest = recipe.reward.max_length if recipe.reward else None
    return ClassifierScorer(version.path, max_length=longest, device=device)


def _resolved(part: RewardPartSpec, registry: Registry) -> RewardPartSpec:
    from sawyer.scoring import with_own

    return with_own(part, _folder(registry, "classifiers") if part.own else None)


def _folder(registry: Registry, stage: str) -> Any:
    version = registry.current(stage)
    return version.path if version else None
