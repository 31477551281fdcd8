"""Simulated people, for tests and benchmarks: they read a question and some answers, and vote by a hidden utility.

Nothing that trains may look at the utility; that it rises from round to round is what proves the loop. People differ:
honest ones are noisy and like the first place a little, spammers vote for one place without reading, poisoners vote for
the worst answer. They vote through the store, on answers that the current stages really gave.
"""

import math
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from sawyer.data import Message
from sawyer.evaluation.text_metrics import repetition, words
from sawyer.home import Home
from sawyer.recipe import Recipe
from sawyer.registry import Registry
from sawyer.store import FeedbackStore
from sawyer.types.common import BLIND_PANES

if TYPE_CHECKING:  # torch takes seconds to import
    from sawyer.models import Policy

Temper = Literal["honest", "spammer", "poisoner"]

STAGES = ("base", "sft", "rlf")
BATCH = 48

TO_THEM = frozenset({"you", "your", "yours", "yourself"})
OF_ITSELF = frozenset({"i", "me", "my", "mine", "myself"})
MOST = 2  # words of either kind that count: more of them please nobody more
POOR = -1.0  # where even the best answer is worse, people call them all bad


def utility(question: str, answer: str) -> float:
    """What people secretly like: replies that speak to them and not of the machine, and that do not go in circles.

    In [-2, 2], less for circles; an empty answer is the worst. Anybody could tell it from the words of the two texts,
    and so can a small reward model from some hundred votes; nothing in a recipe asks for it.
    """
    said = words(answer)
    if not said:
        return -2.0
    to_them = sum(word.partition("'")[0] in TO_THEM for word in said)
    of_itself = sum(word.partition("'")[0] in OF_ITSELF for word in said)
    return min(to_them, MOST) - min(of_itself, MOST) - 4.0 * repetition(answer, 2)


@dataclass(frozen=True)
class Person:
    """One voter. ``noise`` is the spread of their judgement in units of utility, ``bias`` what the first place adds."""

    name: str
    temper: Temper = "honest"
    noise: float = 0.3
    bias: float = 0.2

    def choose(self, question: str, answers: Sequence[str], draw: random.Random) -> int | Literal["tie", "bad"]:
        """The place of the answer they vote for, in showing order; a tie or all bad where they see it so."""
        if self.temper == "spammer":
            return 0
        felt = [utility(question, answer) + draw.gauss(0, self.noise) for answer in answers]
        if self.temper == "poisoner":
            return felt.index(min(felt))
        if max(felt) < POOR:
            return "bad"
        felt[0] += self.bias
        ordered = sorted(felt, reverse=True)
        if len(ordered) > 1 and ordered[0] - ordered[1] < 0.05:
            return "tie"
        return felt.index(ordered[0])


def crowd(count: int, *, spammers: float = 0.0, poisoners: float = 0.0, noise: float = 0.3) -> list[Person]:
    """So many people, of whom these shares spam and poison."""
    bad, worse = math.floor(count * spammers), math.floor(count * poisoners)
    counts: list[tuple[Temper, int]] = [("spammer", bad), ("poisoner", worse), ("honest", count - bad - worse)]
    tempers = [temper for temper, so_many in counts for _ in range(so_many)]
    return [Person(f"simulated-{place}", temper, noise) for place, temper in enumerate(tempers)]


def load_current(recipe: Recipe, home: Home) -> "Policy":
    """The backbone with the current sft and rlf, as a server would ask them."""
    from sawyer.models import Policy

    registry = Registry.of(recipe, home)
    current = {stage: version for stage in STAGES if (version := registry.current(stage)) is not None}
    backbone = recipe.model.backbone or current["base"].path
    adapters = {stage: version.path for stage, version in current.items() if stage != "base"}
    return Policy.load(backbone, adapters, spec=recipe.model)


def answers_of(
    policy: "Policy",
    recipe: Recipe,
    stage: str,
    prompts: Sequence[Sequence[Message]],
    seed: int,
    *,
    as_served: bool = False,
) -> list[str]:
    """One answer of a stage to each prompt, sampled as the recipe's evaluation samples, or as its server does."""
    from sawyer.generation import generate

    spec, made = recipe.evaluate, list[str]()
    temperature, top_p = (recipe.serve.temperature, recipe.serve.top_p) if as_served else (spec.temperature, 1.0)
    for start in range(0, len(prompts), BATCH):
        part = [policy.chat.encode_prompt(list(prompt), stage) for prompt in prompts[start : start + BATCH]]
        replies = generate(
            policy,
            part,
            stage=stage,
            max_tokens=spec.max_new_tokens,
            temperature=temperature,
            top_p=top_p,
            seed=seed + start,
            stop=policy.chat.stop_strings(stage),
        )
        made += [reply.text for reply in replies]
    return made


def hold_votes(
    store: FeedbackStore,
    recipe: Recipe,
    home: Home,
    people: Sequence[Person],
    prompts: Sequence[list[Message]],
    *,
    seed: int,
) -> int:
    """Ask the current stages every prompt that fits, show the answers in random order, let people vote in turn.

    Turns are blind. Honest people and poisoners take as long as reading takes, spammers no time at all; votes carry the
    time at which they would have been cast.

    Returns:
        How many votes were cast.
    """
    policy = load_current(recipe, home)
    stages = [stage for stage in STAGES if stage in policy.stages]
    prompts = [prompt for prompt in prompts if _fits(policy, recipe, prompt)]
    told = {stage: answers_of(policy, recipe, stage, prompts, seed) for stage in stages}
    registry, draw = Registry.of(recipe, home), random.Random(f"{seed}:votes")
    refs = {stage: version.ref if (version := registry.current(stage)) else None for stage in stages}
    for place, prompt in enumerate(prompts):
        person = people[place % len(people)]
        shown = draw.sample(stages, len(stages))
        reading = 0.1 if person.temper == "spammer" else 2 + sum(len(words(told[stage][place])) for stage in stages) / 4
        turn = store.add_turn(store.add_conversation(recipe=recipe.name), prompt)
        for pane, stage in zip(BLIND_PANES, shown, strict=False):
            text = told[stage][place]
            store.add_completion(
                turn,
                stage,
                prompt_text=prompt[-1]["content"],
                text=text,
                tokens=len(words(text)),
                adapter_version=refs[stage],
                sampling={"pane": pane},
                finish_reason="stop",
            )
        choice = person.choose(prompt[-1]["content"], [told[stage][place] for stage in shown], draw)
        picked, position = (choice, None) if isinstance(choice, str) else (BLIND_PANES[choice], choice)
        store.add_vote(turn, picked, voter=person.name, position=position, created=time.time() + reading)
    return len(prompts)


def _fits(policy: "Policy", recipe: Recipe, prompt: list[Message]) -> bool:
    room = policy.context - recipe.evaluate.max_new_tokens
    return all(len(policy.chat.encode_prompt(prompt, stage)) <= room for stage in policy.stages)
