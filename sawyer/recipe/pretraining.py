"""The base and t5 sections of a recipe: a new backbone and its pretraining, for recipes that need no download."""

from typing import Literal

from pydantic import Field, model_validator

from sawyer.recipe.section import Fraction, LearningRate, Positive, Spec
from sawyer.recipe.source import DataSource


class TokenizerSpec(Spec):
    """The byte-level BPE tokenizer trained for a new backbone."""

    vocab_size: int = Field(8192, ge=300, le=65536)
    characters: Positive = Field(30_000_000, description="text read to train it, in characters")


class ArchitectureSpec(Spec):
    """Shape of a new Llama backbone."""

    hidden_size: Positive = 384
    layers: Positive = 8
    heads: Positive = 6
    kv_heads: Positive | None = None
    intermediate_size: Positive = 1024

    @model_validator(mode="after")
    def _heads_divide(self) -> "ArchitectureSpec":
        if self.hidden_size % self.heads:
            raise ValueError(f"hidden_size {self.hidden_size} must be a multiple of heads {self.heads}")
        return self


class PhaseSpec(Spec):
    """A stretch of pretraining with its own sequence length and mixture."""

    tokens: Positive
    sequence_length: Positive = 256
    batch_tokens: Positive = Field(16384, description="tokens in one optimiser step")
    micro_batch: Positive = Field(16, description="sequences in one forward pass")
    steps: Positive | None = Field(None, description="stop the phase after this many optimiser steps")
    weights: dict[str, float] = Field(default_factory=dict, description="source name -> share; default: the sources'")


class BaseSpec(Spec):
    """Pretraining a small Llama from scratch (tiny and nano only)."""

    tokenizer: TokenizerSpec = TokenizerSpec()
    architecture: ArchitectureSpec = ArchitectureSpec()
    sources: list[DataSource] = Field(min_length=1)
    phases: list[PhaseSpec] = Field(min_length=1)
    optimizer: Literal["adamw", "muon"] = "muon"
    lr: LearningRate = Field(0.003, description="AdamW rate of embeddings and norms (and of all, with adamw)")
    muon_lr: LearningRate = 0.02
    weight_decay: Fraction = 0.01
    warmup: Fraction = Field(0.02, description="share of all steps")
    decay: Fraction = Field(0.4, description="share of all steps over which the rate falls to zero")
    grad_norm: float = Field(1.0, gt=0)
    compile: bool = Field(True, description="torch.compile the loss: a minute to warm up, then about twice as fast")
    save_every: Positive = Field(100, description="steps between checkpoints")
    log_every: Positive = 10
    sample_every: Positive = 200


class T5ShapeSpec(Spec):
    """Shape of a new T5."""

    hidden_size: Positive = 128
    layers: Positive = Field(2, description="of the encoder, and as many of the decoder")
    heads: Positive = 4
    intermediate_size: Positive = 256

    @model_validator(mode="after")
    def _heads_divide(self) -> "T5ShapeSpec":
        if self.hidden_size % self.heads:
            raise ValueError(f"hidden_size {self.hidden_size} must be a multiple of heads {self.heads}")
        return self


class T5Spec(Spec):
    """A small T5 trained from scratch in place of base: copying, spans to fill in, first sentences, then tasks."""

    tokenizer: TokenizerSpec = TokenizerSpec()
    architecture: T5ShapeSpec = T5ShapeSpec()
    sources: list[DataSource] = Field(min_length=1, description="text for the tokenizer, text_steps and lead_steps")
    tasks: list[DataSource] = Field(
        min_length=1, description="prompts with an answer (a field named summary, answer, response, …)"
    )
    copy_steps: int = Field(0, ge=0, description="first: steps of repeating rows of random tokens, to learn to copy")
    text_steps: int = Field(0, ge=0, description="then: steps of filling in spans of the sources' text")
    lead_steps: int = Field(0, ge=0, description="then: steps of giving the first of a few sentences of the sources")
    lead_template: str = Field(
        "{text}",
        description="how copy_steps and lead_steps ask for the first sentence: 'Summarize: {text}', as tasks do",
    )
    epochs: float = Field(3.0, gt=0, description="passes over the tasks")
    batch_size: Positive = 32
    lr: LearningRate = 1e-3
    warmup: Fraction = 0.03
    weight_decay: Fraction = 0.01
    max_input: Positive = Field(96, description="longest input, in tokens; longer ones are cut")
    max_output: Positive = Field(48, description="longest answer, in tokens; longer ones are cut")
    held_out: Fraction = Field(0.1, description="share of the tasks kept for evaluation, by hash of the prompt")
    save_every: Positive = 200
    log_every: Positive = 20
    sample_every: Positive = 500

    @model_validator(mode="after")
    def _template_holds_text(self) -> "T5Spec":
        if self.lead_template.count("{text}") != 1:
            raise ValueError(f"lead_template must hold {{text}} once; given: {self.lead_template!r}")
        return self
