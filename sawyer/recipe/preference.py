"""DPO, IPO, KTO, ORPO and SPIN: methods that learn from given replies instead of scores.

Pairs and split come from ``reward`` (conversations from ``sft`` for SPIN) unless a section names its own, so that all
methods, PPO's reward model among them, learn from the same data. Rates are for LoRA, ten times those of the papers,
which train whole models. Sources of the defaults: Rafailov et al. 2023 (DPO), Azar et al. 2023 (IPO), Ethayarajh et
al. 2024 (KTO), Hong et al. 2024 (ORPO), Chen et al. 2024 (SPIN), and TRL 1.16's configurations.
"""

from typing import Literal

from pydantic import Field

from sawyer.recipe.section import Fraction, LearningRate, Positive, Spec
from sawyer.recipe.source import DataSource

PREFERENCE_METHODS = ("dpo", "ipo", "kto", "orpo", "spin")


class PreferenceSpec(Spec):
    """What the methods that learn from given replies have in common."""

    sources: list[DataSource] | None = Field(
        None, min_length=1, description="pairs; default: reward.sources, so that all methods learn from the same"
    )
    limit: Positive | None = Field(None, description="train on at most this many pairs, spread evenly over the sources")
    held_out: Fraction | None = Field(None, description="share of prompts kept for evaluation; default: reward's")
    epochs: float = Field(1.0, gt=0)
    batch_size: Positive = Field(16, description="pairs an optimiser step")
    micro_batch: Positive = Field(8, description="pairs in one forward pass; gradients are accumulated")
    max_length: Positive | None = Field(
        None, description="tokens of prompt and reply; pairs with a longer one are left out; default: model.context"
    )
    warmup: Fraction = 0.1
    weight_decay: Fraction = 0.0
    optimizer: str = Field("adamw_torch", description="a transformers optimiser name, e.g. paged_adamw_8bit")
    gradient_checkpointing: bool = False
    save_every: Positive = 50
    log_every: Positive = 5
    sample_every: Positive = 100


class DpoSpec(PreferenceSpec):
    """Direct preference optimisation: the log-ratios of policy and reference are the reward, learnt from pairs."""

    beta: float = Field(0.1, gt=0, description="how strongly the policy is held to the reference")
    lr: LearningRate = 1e-5


class IpoSpec(PreferenceSpec):
    """DPO with a squared loss (IPO), which does not grow confident without bound on pairs that never contradict."""

    beta: float = Field(
        0.1,
        gt=0,
        description="the paper's tau: the margin aimed at is 1/(2 beta) nats a token (TRL's mean over tokens)",
    )
    lr: LearningRate = 1e-5


class KtoSpec(PreferenceSpec):
    """KTO: each reply is good or bad by itself; a pair is one of each, and rows with a label need no partner."""

    batch_size: Positive = Field(16, description="replies an optimiser step")
    micro_batch: int = Field(8, ge=2, description="replies in one forward pass; mismatched ones among them give the KL")
    beta: float = Field(0.1, gt=0, description="how strongly the policy is held to the reference")
    desirable_weight: float = Field(1.0, gt=0, description="of good replies; to balance unequal numbers")
    undesirable_weight: float = Field(1.0, gt=0, description="of bad replies")
    lr: LearningRate = 1e-5


class OrpoSpec(PreferenceSpec):
    """ORPO: likelihood of the better reply plus the odds ratio of the two, without any reference."""

    beta: float = Field(0.1, gt=0, description="weight of the odds ratio (the paper's lambda)")
    lr: LearningRate = 8e-5
    start: Literal["sft", "base"] = Field(
        "sft", description="where rlf starts: sft, as with every other method, or base with a fresh adapter (the paper)"
    )


class SpinSpec(PreferenceSpec):
    """SPIN: the policy plays against its previous iterate, whose replies are the worse ones of DPO's pairs."""

    sources: list[DataSource] | None = Field(
        None, min_length=1, description="conversations whose last reply is the better one; default: sft.sources"
    )
    held_out: Fraction | None = Field(None, description="share of conversations kept for evaluation; default: sft's")
    iterations: Positive = 3
    max_new_tokens: Positive = Field(64, description="longest reply of an opponent")
    temperature: float = Field(1.0, gt=0, description="of the opponents' sampling")
    decode_batch: Positive = Field(32, description="opponents' replies made at a time")
    beta: float = Field(0.1, gt=0, description="how strongly an iterate is held to the one before")
    lr: LearningRate = 5e-6
