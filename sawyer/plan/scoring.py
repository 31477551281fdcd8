"""What the classifiers of a reward take: their weights, and a pass over a batch of texts."""

from collections.abc import Sequence

from sawyer.plan.configs import part_shape
from sawyer.plan.ledger import Item, item
from sawyer.plan.setting import BYTES
from sawyer.recipe import PpoSpec, Recipe, RewardPartSpec


def reward_models(recipe: Recipe, parts: Sequence[RewardPartSpec], where: str = "cuda") -> tuple[Item, ...]:
    """The classifiers among ``parts`` that lie ``where`` unless they name another device, in their own precision."""
    found = []
    for part in parts:
        shape = part_shape(recipe, part)
        if shape is not None and part.device in (None, where):
            size = BYTES[part.dtype] * shape.weights
            note = f"{shape.weights / 1e6:,.0f} M weights, {part.dtype}"
            found.append(item(f"reward model {part.title}", size, note))
    return tuple(found)


def scoring(recipe: Recipe, spec: PpoSpec) -> Item:
    """The widest pass of a classifier over a batch of its texts, each as long as prompt and reply may be."""
    sizes = [0]
    for part in spec.asked:
        shape = part_shape(recipe, part)
        if shape is not None:
            longest = min(part.max_length or 10**6, max(shape.positions - 2, 1), spec.max_prompt + spec.max_new_tokens)
            positions = min(part.batch_size, spec.batch_size) * longest
            sizes.append(positions * BYTES[part.dtype] * (6 * shape.width + 2 * shape.middle))
    return item("scoring", max(sizes), "one batch of texts in the widest layer")
