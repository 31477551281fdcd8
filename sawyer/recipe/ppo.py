"""The section of PPO and of its reward.

Sources of the defaults: "The N Implementation Details of RLHF with PPO" and TRL 1.12's ``PPOConfig``.
"""

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, model_validator

from sawyer.recipe.reward_parts import RewardPartSpec, one_part
from sawyer.recipe.section import Fraction, LearningRate, Positive, Spec
from sawyer.recipe.source import DataSource


class KlSpec(Spec):
    """The leash to the reference: a fixed coefficient, or one adapted towards a target."""

    beta: float | None = Field(None, ge=0, description="fixed coefficient; default 0.05, where no target is given")
    target: float | None = Field(None, gt=0, description="nats a response, towards which the coefficient is adapted")
    start: float = Field(0.05, ge=0, description="coefficient at the start, where a target is given")
    horizon: Positive = Field(10_000, description="episodes over which the coefficient adapts")

    @property
    def first(self) -> float:
        """The coefficient of the first step."""
        return self.start if self.target is not None or self.beta is None else self.beta

    @model_validator(mode="after")
    def _fixed_or_adapted(self) -> "KlSpec":
        if self.beta is not None and self.target is not None:
            raise ValueError(
                f"beta {self.beta:g} is a fixed coefficient and target {self.target:g} adapts it: give one of them "
                "(start is where an adapted one begins)"
            )
        return self


class PpoSpec(Spec):
    """Reinforcement learning from feedback by PPO."""

    prompts: list[DataSource] = Field(min_length=1)
    reward: Annotated[list[RewardPartSpec] | None, BeforeValidator(one_part)] = Field(
        None, description="the parts, or the name of one classifier; default: the recipe's own reward model"
    )
    guard: RewardPartSpec | None = Field(
        None, description="a second reward, asked about held-out replies only: falls when the first is exploited"
    )
    steps: Positive = Field(100, description="rollout-and-update rounds")
    batch_size: Positive = Field(64, description="episodes a step")
    group_size: Positive = Field(
        1, description="replies to each prompt of a step; from 2 on the mean score of the others is a reply's baseline"
    )
    minibatch_size: Positive = Field(32, description="episodes an optimiser step")
    micro_batch: Positive = Field(16, description="episodes a forward pass")
    epochs: Positive = Field(4, description="passes over a rollout")
    max_prompt: Positive = Field(128, description="longest prompt, in tokens; longer ones are left out")
    max_new_tokens: Positive = 64
    temperature: float = Field(1.0, gt=0)
    lr: LearningRate = 1e-5
    value_lr: LearningRate | None = Field(None, description="rate of the value head; default: lr")
    optimizer: Literal["adamw", "adamw_8bit"] = Field(
        "adamw", description="adamw_8bit keeps its moments in 8 bits (bitsandbytes)"
    )
    gradient_checkpointing: bool = Field(
        False, description="make activations again in the backward pass: less memory, about a third more time"
    )
    grad_norm: float = Field(1.0, gt=0)
    clip: float = Field(0.2, gt=0)
    value_clip: float = Field(0.2, gt=0)
    value_coefficient: float = Field(0.1, ge=0)
    gamma: Fraction = 1.0
    lam: Fraction = 0.95
    kl: KlSpec = KlSpec()
    missing_eos_penalty: float = Field(1.0, ge=0)
    empty_score: float = Field(-5.0, description="normalised score of an empty response")
    score_clip: float = Field(5.0, gt=0)
    normalize_samples: Positive = Field(128, description="SFT replies scored to freeze the reward's mean and deviation")
    target_kl: float | None = Field(0.1, gt=0, description="approximate KL that ends an epoch early, nats a token")
    held_out: Fraction = 0.1
    save_every: Positive = 10
    sample_every: Positive = 20
    watch: bool = Field(True, description="stop a run that collapses")
    kl_budget: float = Field(15.0, gt=0, description="nats a response above which no policy is kept as the best")

    @property
    def parts(self) -> list[RewardPartSpec]:
        """The parts of the reward; the recipe's own reward model where none are named."""
        return self.reward or [RewardPartSpec(name="classifier", trained=True)]

    @property
    def asked(self) -> list[RewardPartSpec]:
        """Everything that scores replies: the parts of the reward and the guard."""
        return [*self.parts, *([self.guard] if self.guard else [])]

    @model_validator(mode="after")
    def _parts_differ(self) -> "PpoSpec":
        names = [part.title for part in self.parts]
        if self.reward == [] or len(set(names)) < len(names):
            raise ValueError(f"reward needs at least one part and distinct names; given: {', '.join(names) or 'none'}")
        return self

    @model_validator(mode="after")
    def _batches_divide(self) -> "PpoSpec":
        if self.batch_size % self.group_size:
            raise ValueError(f"batch_size {self.batch_size} must be a multiple of group_size {self.group_size}")
        if self.batch_size % self.minibatch_size:
            raise ValueError(f"batch_size {self.batch_size} must be a multiple of minibatch_size {self.minibatch_size}")
        if self.minibatch_size % self.micro_batch:
            raise ValueError(
                f"minibatch_size {self.minibatch_size} must be a multiple of micro_batch {self.micro_batch}"
            )
        return self
