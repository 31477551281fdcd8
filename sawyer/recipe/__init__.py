"""Recipes: one YAML file that says everything a training run and its evaluation need."""

from sawyer.recipe.alternatives import METHODS, GrpoSpec, Plan, RlooSpec, make_plan
from sawyer.recipe.classifiers import ClassifierSpec
from sawyer.recipe.judge import JudgeSpec, judge_recipe
from sawyer.recipe.load import load_recipe, parse_overrides, save_resolved
from sawyer.recipe.plans import PreferencePlan, plan_of, preference_plan
from sawyer.recipe.ppo import PpoSpec
from sawyer.recipe.preference import (
    PREFERENCE_METHODS,
    DpoSpec,
    IpoSpec,
    KtoSpec,
    OrpoSpec,
    SpinSpec,
)
from sawyer.recipe.pretraining import BaseSpec, T5Spec
from sawyer.recipe.reward_parts import RewardPartSpec
from sawyer.recipe.source import DataSource
from sawyer.recipe.spec import (
    ChatSpec,
    EvaluateSpec,
    LoraSpec,
    ModelSpec,
    Recipe,
    RewardSpec,
    ServeSpec,
    SftSpec,
)

__all__ = [
    "METHODS",
    "PREFERENCE_METHODS",
    "BaseSpec",
    "ChatSpec",
    "ClassifierSpec",
    "DataSource",
    "DpoSpec",
    "EvaluateSpec",
    "GrpoSpec",
    "IpoSpec",
    "JudgeSpec",
    "KtoSpec",
    "LoraSpec",
    "ModelSpec",
    "OrpoSpec",
    "Plan",
    "PpoSpec",
    "PreferencePlan",
    "Recipe",
    "RewardPartSpec",
    "RewardSpec",
    "RlooSpec",
    "ServeSpec",
    "SftSpec",
    "SpinSpec",
    "T5Spec",
    "judge_recipe",
    "load_recipe",
    "make_plan",
    "parse_overrides",
    "plan_of",
    "preference_plan",
    "save_resolved",
]
