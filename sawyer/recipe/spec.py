"""The sections of a recipe as pydantic models: unknown keys are refused, values are checked, nothing is mutable.

Field descriptions double as documentation (``docs/recipes.md`` is generated from them).
"""

from typing import Literal

from pydantic import Field, model_validator

from sawyer.recipe.alternatives import METHODS, GrpoSpec, RlooSpec, make_plan
from sawyer.recipe.classifiers import ClassifierSpec, RobertaSpec
from sawyer.recipe.judge import JudgeSpec
from sawyer.recipe.ppo import PpoSpec
from sawyer.recipe.preference import PREFERENCE_METHODS, DpoSpec, IpoSpec, KtoSpec, OrpoSpec, SpinSpec
from sawyer.recipe.pretraining import BaseSpec, T5Spec
from sawyer.recipe.rounds import RoundSpec
from sawyer.recipe.section import Fraction, LearningRate, Positive, Spec
from sawyer.recipe.source import DataSource


class ChatSpec(Spec):
    """How a conversation becomes text where the tokenizer has no chat template of its own."""

    user: str = "### User:\n"
    assistant: str = "### Assistant:\n"
    system: str = "### System:\n"
    separator: str = "\n\n"
    stop: str | None = Field(None, description="plain-text mark that ends a reply, before EOS (e.g. '###STOP###')")
    system_prompt: str | None = Field(None, description="system message used when a conversation brings none")
    use_template: bool = Field(True, description="use the tokenizer's chat template when it has one")


class ModelSpec(Spec):
    """The frozen backbone that all stages share."""

    backbone: str | None = Field(None, description="hub id or folder; empty when the recipe's base section trains it")
    revision: str | None = Field(None, description="commit, tag or branch on the hub")
    tokenizer: str | None = Field(None, description="hub id or folder of the tokenizer; default: the backbone's")
    tokenizer_revision: str | None = Field(None, description="of model.tokenizer, where that is given")
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    quantization: Literal["none", "nf4"] = "none"
    context: Positive = Field(512, description="longest prompt plus reply, in tokens")
    trust_remote_code: bool = Field(False, description="run Python code that the backbone's repository brings")
    attention: Literal["auto", "eager", "sdpa", "flash_attention_2"] = "auto"
    chat: ChatSpec = ChatSpec()


class LoraSpec(Spec):
    """The low-rank adapters of sft and rlf."""

    r: Positive = 16
    alpha: Positive = 32
    dropout: Fraction = 0.0
    target: str | list[str] = Field("all-linear", description="PEFT target modules")
    whole: list[str] = Field(
        default_factory=list, description="modules trained whole beside them (PEFT modules_to_save), such as norms"
    )


class SftSpec(Spec):
    """Supervised fine-tuning with loss on the assistant's tokens only."""

    sources: list[DataSource] = Field(min_length=1)
    epochs: float = Field(3.0, gt=0)
    lr: LearningRate = 2e-4
    batch_size: Positive = 16
    micro_batch: Positive = Field(8, description="sequences in one forward pass; gradients are accumulated")
    max_length: Positive = 512
    warmup: Fraction = 0.03
    weight_decay: Fraction = 0.0
    optimizer: str = Field("adamw_torch", description="a transformers optimiser name, e.g. paged_adamw_8bit")
    gradient_checkpointing: bool = False
    held_out: Fraction = Field(0.05, description="share of conversations kept for evaluation, by hash")
    save_every: Positive = 50
    log_every: Positive = 5
    sample_every: Positive = 100


class RewardSpec(Spec):
    """The RoBERTa reward model, trained on preference pairs."""

    model: str | None = Field(None, description="classifier or encoder to start from; empty: the shape in scratch")
    revision: str | None = None
    scratch: RobertaSpec | None = None
    sources: list[DataSource] = Field(min_length=1)
    text_sources: list[DataSource] = Field(default_factory=list, description="scratch: text for masked pretraining")
    text_steps: int = Field(0, ge=0, description="scratch: steps of masked-language-model pretraining")
    own_samples: int = Field(0, ge=0, description="pairs made of a reference reply above the base's or SFT's own")
    epochs: float = Field(1.0, gt=0)
    lr: LearningRate = 2e-5
    batch_size: Positive = 32
    max_length: Positive = 384
    warmup: Fraction = 0.05
    weight_decay: Fraction = 0.01
    margin: bool = Field(False, description="subtract the pair's score difference inside the loss, where given")
    held_out: Fraction = 0.08
    fold: int = Field(0, ge=0, description="which share is held out: the first (0), the one after it (1), …")
    unseen: list[int] = Field(default_factory=list, description="further shares that are not learnt from, by number")
    save_every: Positive = 100
    log_every: Positive = 10


class EvaluateSpec(Spec):
    """Held-out prompts and how the stages answer them."""

    prompts: list[DataSource] = Field(default_factory=list, description="default: the held-out part of ppo.prompts")
    limit: Positive = Field(200, description="prompts asked")
    max_new_tokens: Positive = 64
    temperature: float = Field(1.0, ge=0)
    top_p: float = Field(1.0, gt=0, le=1)
    batch_size: Positive = 32
    samples: Positive = Field(12, description="prompts in the sample table")


class ServeSpec(Spec):
    """Defaults of the server."""

    max_tokens: Positive = 96
    temperature: float = Field(0.7, ge=0, le=2)
    top_p: float = Field(0.95, gt=0, le=1)
    max_rows: Positive = Field(24, description="replies made at a time; each may hold model.context tokens of memory")
    examples: list[str] = Field(
        default_factory=lambda: [
            "Who are you?",
            "How do I make a good cup of tea?",
            "Why is the sky blue?",
            "Can you cheer me up a little?",
        ]
    )


class Recipe(Spec):
    """Everything one SAWYER needs. A section that is left out is a step that is not run."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]*$", description="names the run and registry folders")
    description: str = ""
    seed: int = Field(0, ge=0, lt=2**31)
    threads: Positive | None = Field(None, description="CPU threads; default: all cores")
    shipped: str | None = Field(None, description="folder of the package with base/ sft/ rlf/ reward/, used until "
                                                  "a run of your own has made newer versions")  # fmt: skip
    gpu: str | None = Field(None, description="card it is made for, by memory or name (24GB, T4): what `sawyer plan` "
                                              "plans for")  # fmt: skip
    model: ModelSpec = ModelSpec()
    lora: LoraSpec = LoraSpec()
    base: BaseSpec | None = None
    t5: T5Spec | None = None
    sft: SftSpec | None = None
    reward: RewardSpec | None = None
    judge: JudgeSpec | None = Field(None, description="a second reward model, never optimised; `{}` for the defaults")
    classifiers: dict[str, ClassifierSpec] | None = Field(
        None, description="name -> a classifier that parts of ppo.reward may ask for with `own: name`"
    )
    ppo: PpoSpec | None = None
    grpo: GrpoSpec | None = Field(None, description="settings of `sawyer train grpo`; no step of the pipeline")
    rloo: RlooSpec | None = Field(None, description="settings of `sawyer train rloo`; no step of the pipeline")
    dpo: DpoSpec | None = Field(None, description="settings of `sawyer train dpo`; no step of the pipeline")
    ipo: IpoSpec | None = Field(None, description="settings of `sawyer train ipo`; no step of the pipeline")
    kto: KtoSpec | None = Field(None, description="settings of `sawyer train kto`; no step of the pipeline")
    orpo: OrpoSpec | None = Field(None, description="settings of `sawyer train orpo`; no step of the pipeline")
    spin: SpinSpec | None = Field(None, description="settings of `sawyer train spin`; no step of the pipeline")
    evaluate: EvaluateSpec = EvaluateSpec()
    round: RoundSpec = RoundSpec()
    serve: ServeSpec = ServeSpec()

    @model_validator(mode="after")
    def _sections_fit(self) -> "Recipe":
        given = [key for key, value in (("model.backbone", self.model.backbone), ("base", self.base), ("t5", self.t5))
                 if value is not None]  # fmt: skip
        if not given:
            raise ValueError("give model.backbone (a hub id or folder), or a base or t5 section that trains one")
        if len(given) > 1:
            raise ValueError(f"{' and '.join(given)} exclude each other: keep one of them")
        if self.t5 is not None and self.sft is not None:
            raise ValueError("sft trains decoder-only models: leave it out, rlf then starts from the T5 itself")
        if self.ppo and self.ppo.max_prompt + self.ppo.max_new_tokens > self.model.context:
            raise ValueError(
                f"ppo.max_prompt {self.ppo.max_prompt} + ppo.max_new_tokens {self.ppo.max_new_tokens} exceed "
                f"model.context {self.model.context}: lower one of the first two or raise the third"
            )
        if self.sft and self.sft.max_length > self.model.context:
            raise ValueError(
                f"sft.max_length {self.sft.max_length} exceeds model.context {self.model.context}: lower it"
            )
        own = sorted({part.own for part in self.ppo.asked if part.own} if self.ppo else set())
        unknown = [name for name in own if name not in (self.classifiers or {})]
        if unknown:
            known = ", ".join(self.classifiers or {}) or "none"
            raise ValueError(
                f"ppo asks for own {', '.join(unknown)}, which is no key of classifiers; there are: {known}"
            )
        if self.judge and self.reward is None:
            raise ValueError("judge is a second reward model: add the reward section that it varies, or remove judge")
        if self.ppo and self.reward is None and any(part.trained for part in self.ppo.parts):
            raise ValueError("ppo needs a reward: add a reward section or name a classifier in ppo.reward")
        for method in METHODS:
            if getattr(self, method) is not None:
                make_plan(method, getattr(self, method), self.ppo)
        for method in PREFERENCE_METHODS:
            spec = getattr(self, method)
            if spec and (spec.max_length or 0) > self.model.context:
                raise ValueError(
                    f"{method}.max_length {spec.max_length} exceeds model.context {self.model.context}: lower it"
                )
            if spec and spec.batch_size % min(spec.micro_batch, spec.batch_size):
                raise ValueError(
                    f"{method}.batch_size {spec.batch_size} must be a multiple of {method}.micro_batch "
                    f"{spec.micro_batch}: change one of them"
                )
        return self
