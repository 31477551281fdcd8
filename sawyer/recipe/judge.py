"""The judge: a second reward model that nothing is ever optimised against."""

from typing import TYPE_CHECKING

from pydantic import Field

from sawyer.recipe.section import Positive, Spec
from sawyer.recipe.source import DataSource

if TYPE_CHECKING:
    from sawyer.recipe.spec import Recipe


class JudgeSpec(Spec):
    """A second reward model: the reward section with another seed and another held-out share. `{}` is enough.

    What the first one holds out, the judge does not learn from either: on those conversations both are strangers.
    """

    seed: Positive = Field(1, description="added to the recipe's seed")
    fold: Positive = Field(1, description="the share it holds out for itself, beside the reward's own (0)")
    model: str | None = Field(None, description="what it starts from; default: what the reward model starts from")
    sources: list[DataSource] | None = Field(None, description="pairs it learns from; default: reward.sources")
    text_steps: int | None = Field(None, ge=0, description="steps of masked pretraining; default: reward.text_steps")
    own_samples: int | None = Field(None, ge=0, description="default: reward.own_samples")


def judge_recipe(recipe: "Recipe", judge: JudgeSpec) -> "Recipe":
    """The recipe whose reward section trains the judge; the recipe must have a reward section."""
    assert recipe.reward is not None
    changes = {
        key: value for key in ("sources", "text_steps", "own_samples") if (value := getattr(judge, key)) is not None
    }
    if judge.model is not None:
        changes |= {"model": judge.model, "revision": None, "scratch": None, "text_sources": [], "text_steps": 0}
    spec = recipe.reward.model_copy(update={"fold": judge.fold, "unseen": [recipe.reward.fold], **changes})
    return recipe.model_copy(update={"seed": recipe.seed + judge.seed, "reward": spec})
