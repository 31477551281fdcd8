"""The prompts of an evaluation: held out from every step of the recipe, chosen evenly over the sources."""

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sawyer.chat import ChatFormat
from sawyer.data import Prompt, find_local, is_held_out, load_prompts
from sawyer.errors import DataError, UsageError
from sawyer.evaluation.report import PromptSet
from sawyer.evaluation.stats import FEWEST_PAIRS
from sawyer.recipe import PREFERENCE_METHODS, DataSource, Recipe
from sawyer.runs import hash_file


@dataclass(frozen=True)
class Chosen:
    """The prompts to ask, in order, and how they came to be."""

    prompts: list[Prompt]
    found: int
    left_out: int

    def describe(self) -> PromptSet:
        """What the report says about them."""
        return PromptSet(
            count=len(self.prompts),
            found=self.found,
            left_out=self.left_out,
            sources=dict(Counter(prompt.source for prompt in self.prompts)),
            sha256=hashlib.sha256(json.dumps([p.messages for p in self.prompts]).encode()).hexdigest(),
        )


def choose_prompts(recipe: Recipe, chat: ChatFormat, stages: Sequence[str], context: int) -> Chosen:
    """Read the recipe's held-out prompts that leave room for a reply, and take ``evaluate.limit`` of them.

    Raises:
        UsageError: the recipe names no prompts.
        DataError: a source is unusable, or fewer are left than the comparison of stages needs.
    """
    read = held_out_prompts(recipe)
    room = context - recipe.evaluate.max_new_tokens
    fitting = [p for p in read if all(0 < len(chat.encode_prompt(p.messages, stage)) <= room for stage in stages)]
    chosen = spread(fitting, recipe.evaluate.limit)
    needed = FEWEST_PAIRS if len(stages) > 1 else 1
    if len(chosen) < needed:
        raise DataError(_too_few(recipe, len(chosen), len(read), len(fitting), needed, room))
    return Chosen(chosen, len(fitting), len(read) - len(fitting))


def held_out_prompts(recipe: Recipe) -> list[Prompt]:
    """``evaluate.prompts``, else ``ppo.prompts``; of every source that training reads, only the held-out part.

    What is held out depends on the first user turn alone, and a larger share only adds. The smallest share of the
    sft, reward and ppo sections is therefore held out from all of them.
    """
    named = recipe.evaluate.prompts or (recipe.ppo.prompts if recipe.ppo else [])
    if not named:
        raise UsageError(
            f"The recipe {recipe.name} names no prompts to evaluate with: add evaluate.prompts, or a ppo section, "
            "whose held-out prompts are used then."
        )
    share, trained = held_out_share(recipe), training_sources(recipe)
    return [
        prompt
        for prompt in load_prompts(named, recipe.seed)
        if prompt.source not in trained or is_held_out(prompt.messages, share)
    ]


def held_out_share(recipe: Recipe) -> float:
    """The share of conversations that no section of the recipe learns from."""
    sections = (recipe.t5, recipe.sft, recipe.reward, recipe.ppo, *_own_data(recipe))
    return min([part.held_out for part in sections if part is not None and part.held_out is not None], default=0.0)


def training_sources(recipe: Recipe) -> set[str]:
    """Names of all data sources that a section of the recipe learns from."""
    return {source.name for source in _learnt_from(recipe)}


def data_hashes(recipe: Recipe) -> dict[str, str]:
    """SHA-256 of every local file that the recipe learns from or asks prompts of, by the source's name."""
    found = {source.name: find_local(source) for source in [*_learnt_from(recipe), *recipe.evaluate.prompts]}
    return {name: hash_file(file) for name, file in found.items() if file is not None}


def _learnt_from(recipe: Recipe) -> list[DataSource]:
    return [
        *(recipe.base.sources if recipe.base else []),
        *([*recipe.t5.sources, *recipe.t5.tasks] if recipe.t5 else []),
        *(recipe.sft.sources if recipe.sft else []),
        *([*recipe.reward.sources, *recipe.reward.text_sources] if recipe.reward else []),
        *(recipe.ppo.prompts if recipe.ppo else []),
        *(source for section in _own_data(recipe) for source in section.sources or []),
    ]


def _own_data(recipe: Recipe) -> list[Any]:
    """The sections of methods that may name data or a share of their own."""
    return [section for method in PREFERENCE_METHODS if (section := getattr(recipe, method)) is not None]


def spread(prompts: Sequence[Prompt], count: int) -> list[Prompt]:
    """At most ``count`` prompts, evenly over the list, so that each source keeps its share."""
    if len(prompts) <= count:
        return list(prompts)
    return [prompts[index * len(prompts) // count] for index in range(count)]


def _too_few(recipe: Recipe, chosen: int, read: int, fitting: int, needed: int, room: int) -> str:
    where = "evaluate.prompts" if recipe.evaluate.prompts else "ppo.prompts"
    why = f"{read} held-out prompts were found in {where}"
    if fitting < read:
        why += f", {read - fitting} of them longer than the {room} tokens that evaluate.max_new_tokens leaves"
    if recipe.evaluate.limit < fitting:
        why += f", and evaluate.limit is {recipe.evaluate.limit}"
    purpose = "a paired test between stages" if needed > 1 else "an evaluation"
    return (
        f"There are too few prompts: {purpose} needs at least {needed}, and there {'is' if chosen == 1 else 'are'} "
        f"{chosen} ({why}). Raise evaluate.limit, name more under evaluate.prompts, or raise held_out of the sft, "
        f"reward and ppo sections (their smallest, {held_out_share(recipe):g}, counts) and train again."
    )
