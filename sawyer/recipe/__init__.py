"""Recipes: one YAML file that says everything a training run and its evaluation need."""

from sawyer.recipe.load import load_recipe, parse_overrides, save_resolved
from sawyer.recipe.pretraining import BaseSpec
from sawyer.recipe.reward_parts import RewardPartSpec
from sawyer.recipe.source import DataSource
from sawyer.recipe.spec import (
    ChatSpec,
    EvaluateSpec,
    LoraSpec,
    ModelSpec,
    PpoSpec,
    Recipe,
    RewardSpec,
    ServeSpec,
    SftSpec,
)

__all__ = [
    "BaseSpec",
    "ChatSpec",
    "DataSource",
    "EvaluateSpec",
    "LoraSpec",
    "ModelSpec",
    "PpoSpec",
    "Recipe",
    "RewardPartSpec",
    "RewardSpec",
    "ServeSpec",
    "SftSpec",
    "load_recipe",
    "parse_overrides",
    "save_resolved",
]
