"""What a method is run with: its own section of a recipe, filled in from the sections it shares with others."""

from dataclasses import dataclass
from typing import Any

from sawyer.errors import RecipeError
from sawyer.recipe.alternatives import Plan, make_plan
from sawyer.recipe.preference import DpoSpec, IpoSpec, KtoSpec, OrpoSpec, SpinSpec
from sawyer.recipe.source import DataSource
from sawyer.recipe.spec import Recipe


def plan_of(method: str, recipe: Recipe) -> Plan:
    """The settings of ``method`` for a recipe, whether or not it has a section for it.

    Raises:
        RecipeError: there is no ``ppo`` section, or batches do not divide; the keys are named.
    """
    try:
        return make_plan(method, getattr(recipe, method), recipe.ppo)
    except ValueError as error:
        raise RecipeError(f"The recipe {recipe.name} cannot be trained by {method}: {error}.") from error


@dataclass(frozen=True)
class PreferencePlan:
    """A run of ``method`` with everything filled in."""

    method: str
    spec: DpoSpec | IpoSpec | KtoSpec | OrpoSpec | SpinSpec
    sources: list[DataSource]
    held_out: float


def preference_plan(method: str, recipe: Recipe) -> PreferencePlan:
    """The settings of ``method`` for a recipe, whether or not it has a section for it.

    Raises:
        RecipeError: no section names data; the keys are named.
    """
    kinds: dict[str, Any] = {"dpo": DpoSpec, "ipo": IpoSpec, "kto": KtoSpec, "orpo": OrpoSpec, "spin": SpinSpec}
    spec = getattr(recipe, method) or kinds[method]()
    name = "sft" if method == "spin" else "reward"
    shared = getattr(recipe, name)
    sources = spec.sources or (shared.sources if shared else None)
    if sources is None:
        raise RecipeError(
            f"The recipe {recipe.name} has no data for {method}: add {name}.sources, which it learns from by default, "
            f"or {method}.sources."
        )
    held_out = spec.held_out if spec.held_out is not None else shared.held_out if shared else 0.1
    return PreferencePlan(method, spec, sources, held_out)
