"""The base section of a recipe: a new backbone and its pretraining (tiny and nano only)."""

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
    """Pretraining from scratch (tiny and nano only)."""

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
