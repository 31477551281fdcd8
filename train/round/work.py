"""What the steps of a round share: the recipe, the versions it builds on, and each step's folder with its manifest."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sawyer.errors import CheckpointError
from sawyer.home import Home
from sawyer.recipe import PREFERENCE_METHODS, DataSource, Recipe
from sawyer.registry import Registry
from sawyer.rounds import Diary
from sawyer.runs import MANIFEST, check_sealed, seal
from train.pipeline import Parts

PAIRS, EARLIER, PROMPTS, HELD_OUT = "pairs.jsonl", "earlier.jsonl", "prompts.jsonl", "held_out.jsonl"


@dataclass
class RoundWork:
    """One round while it is worked on. ``results`` are what the finished steps found, by step (JSON)."""

    recipe: Recipe
    home: Home
    diary: Diary
    registry: Registry
    results: dict[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def method(self) -> str:
        """How rlf is trained."""
        return self.diary.record.method

    def folder(self, step: str) -> Path:
        """Where a step writes."""
        return self.diary.folder / step

    def do(self, step: str, work: Callable[["RoundWork"], dict[str, Any]]) -> None:
        """Do a step unless its manifest proves it done; the manifest is its last act."""
        before = self._done(step)
        if before is not None:
            self.results[step] = before
            self.diary.done_before(step)
            return
        folder = self.folder(step)
        with self.diary.step(step):
            folder.mkdir(parents=True, exist_ok=True)
            self.results[step] = work(self)
            for needless in [*folder.rglob("checkpoints"), *folder.glob("*/start-*")]:
                shutil.rmtree(needless)  # the step is done: gigabytes that nobody will go on from
            seal(folder, step=step, result=self.results[step])

    def _done(self, step: str) -> dict[str, Any] | None:
        if not (self.folder(step) / MANIFEST).exists():
            return None
        try:
            return check_sealed(self.folder(step))["result"]
        except (CheckpointError, KeyError) as error:
            self.diary.say(f"{step} is done again: {error}")
            shutil.rmtree(self.folder(step))
            return None

    # What the steps build on

    def version(self, stage: str) -> Path | None:
        """Folder of the version that was current when the round began."""
        ref = self.results["snapshot"]["refs"].get(stage)
        return None if ref is None else self.registry.get(ref).path

    @property
    def parts(self) -> Parts:
        """The versions the round builds on, and its own reward model once that is trained."""
        own = self.folder("reward") / "reward" / "model"
        return Parts(
            backbone=self.recipe.model.backbone or self.version("base"),
            sft=self.version("sft"),
            reward=own if "reward" in self.results else self.version("reward"),
            classifiers=self.version("classifiers"),
        )

    def data(self, name: str) -> DataSource:
        """A file of the snapshot as a source."""
        return DataSource(name=str(self.folder("snapshot") / name))

    @property
    def pair_sources(self) -> list[DataSource]:
        """The snapshot's pairs: people's, and earlier ones where there are any."""
        names = [name for name in (PAIRS, EARLIER) if (self.folder("snapshot") / name).exists()]
        return [self.data(name) for name in names]

    @property
    def tuned(self) -> Recipe:
        """The recipe with the snapshot for data, and the round's share held out everywhere."""
        recipe, spec = self.recipe, self.recipe.round
        assert recipe.reward is not None and recipe.ppo is not None
        reward = {"sources": self.pair_sources, "held_out": spec.held_out, "own_samples": spec.own_samples}
        ppo = {"prompts": [self.data(PROMPTS)], "held_out": spec.held_out, "steps": spec.steps or recipe.ppo.steps}
        evaluate = {"prompts": [self.data(HELD_OUT)], "limit": spec.prompts}
        # Methods that name data of their own learn from the votes as well; spin learns from conversations.
        voted = {name: getattr(recipe, name) for name in PREFERENCE_METHODS if name != "spin"}
        clear = {"sources": None, "held_out": None}
        return recipe.model_copy(
            update={
                **{name: section.model_copy(update=clear) for name, section in voted.items() if section},
                "reward": recipe.reward.model_copy(update=reward),
                "ppo": recipe.ppo.model_copy(update=ppo),
                "evaluate": recipe.evaluate.model_copy(update=evaluate),
            }
        )
