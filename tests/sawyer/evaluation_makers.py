"""A recipe, prompts, a scorer and a filled registry for the evaluation tests."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sawyer.home import Home
from sawyer.recipe import Recipe
from sawyer.registry import Registry

TOPICS = ("tea", "rain", "bread", "stone", "music", "paper", "wind", "lamp")


class FakeScorer:
    """Scores a reply by what it is told to look for; records what it was asked."""

    def __init__(self, needle: str = "e") -> None:
        self.needle = needle
        self.calls: list[tuple[list[Any], list[str]]] = []

    def score(self, prompts: Sequence[Any], responses: Sequence[str]) -> np.ndarray:
        self.calls.append((list(prompts), list(responses)))
        return np.array([text.count(self.needle) - 0.01 * len(text) for text in responses], np.float32)


def write_prompts(path: Path, count: int) -> str:
    """Prompts that all differ, as JSON lines; returns the source's name."""
    lines = [{"prompt": f"Tell me about {TOPICS[n % 8]} number {n}."} for n in range(count)]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return str(path)


def make_recipe(backbone: Path, prompts: str, **sections: Any) -> Recipe:
    """A recipe whose evaluation asks ``prompts`` (named by evaluate alone, so all of them are held out)."""
    evaluate = {"prompts": [{"name": prompts}], "limit": 12, "max_new_tokens": 12, "batch_size": 4, "samples": 6}
    return Recipe.model_validate(
        {
            "name": "trial",
            "seed": 5,
            "threads": 1,
            "model": {"backbone": str(backbone), "context": 256, "dtype": "float32"},
            "sft": {"sources": [{"name": "elsewhere"}], "max_length": 64},
            "evaluate": evaluate | sections.pop("evaluate", {}),
            **sections,
        }
    )


def fill_registry(recipe: Recipe, home: Home, adapters: dict[str, Path], classifier: Path, backbone: str) -> Registry:
    """Register and promote the adapters (made for ``backbone``, a fingerprint) and the reward model."""
    registry = Registry.of(recipe, home.ensure())
    made = [registry.register(stage, folder, info={"backbone": backbone}) for stage, folder in adapters.items()]
    made.append(registry.register("reward", classifier, info={}))
    registry.promote(*(version.ref for version in made))
    return registry
