"""The classifiers section of a recipe: small text classifiers that a reward is made of."""

from pydantic import Field, model_validator

from sawyer.recipe.section import Fraction, LearningRate, Positive, Spec
from sawyer.recipe.source import DataSource


class RobertaSpec(Spec):
    """Shape of a RoBERTa trained from scratch, with a tokenizer of its own."""

    vocab_size: int = Field(8192, ge=300, le=65536)
    hidden_size: Positive = 256
    layers: Positive = 4
    heads: Positive = 4
    intermediate_size: Positive = 1024
    dropout: Fraction = Field(0.1, description="of hidden states, in training")
    initializer: float = Field(
        0.02, gt=0, le=1, description="deviation of new weights; about 1/sqrt(hidden_size) helps below a width of 300"
    )


class CorruptSpec(Spec):
    """More to learn from: sentences of any text as sound examples, and spoilt copies of them as the others."""

    sources: list[DataSource] = Field(min_length=1, description="text whose sentences are sound")
    sound: str = Field(min_length=1, description="label of the sentences as they are")
    spoilt: str = Field(min_length=1, description="label of their spoilt copies")
    pieces: Fraction = Field(
        0.0, description="share of the copies with faults within words, as a model of word pieces makes them"
    )
    copies: Positive = Field(1, description="spoilt copies of each sentence, each beside the sentence")
    longest: Positive = Field(40, description="words in a sentence; longer ones are left out")

    @model_validator(mode="after")
    def _labels_differ(self) -> "CorruptSpec":
        if self.sound == self.spoilt:
            raise ValueError(f"sound and spoilt must be two labels; both are {self.sound!r}")
        return self


class SlipSpec(Spec):
    """More to learn from: plain sentences of any text, and copies with a loaded word of the records slipped in."""

    sources: list[DataSource] = Field(min_length=1, description="text whose sentences are plain")
    plain: str = Field(min_length=1, description="label of plain sentences, and of the records without loaded words")
    copies: Positive = Field(1, description="copies of each sentence, each beside the sentence")


class ClassifierSpec(Spec):
    """A text classifier, trained on records with ``text`` and ``label``."""

    model: str | None = Field(
        None, description="encoder to start from, by hub id or folder; empty: the shape in scratch"
    )
    revision: str | None = Field(None, description="commit, tag or branch of the encoder on the hub")
    scratch: RobertaSpec | None = None
    sources: list[DataSource] = Field(min_length=1)
    labels: dict[str, str] = Field(
        default_factory=dict, description="label in the data -> its name, where the data count: {0: negative, …}"
    )
    corrupt: CorruptSpec | None = Field(
        None, description="more records to learn from, made of sound sentences and spoilt copies; never held out"
    )
    slip: SlipSpec | None = Field(
        None, description="more records to learn from: plain sentences with and without a loaded word; never held out"
    )
    text_sources: list[DataSource] = Field(default_factory=list, description="scratch: text for masked pretraining")
    text_steps: int = Field(0, ge=0, description="scratch: steps of masked-language-model pretraining")
    epochs: float = Field(3.0, gt=0)
    lr: LearningRate = 2e-5
    batch_size: Positive = Field(32, description="groups in one step; a text without a group is one of its own")
    max_length: Positive = 96
    warmup: Fraction = 0.05
    weight_decay: Fraction = 0.01
    held_out: Fraction = Field(0.1, description="share of the records kept for judging, by hash of the group or text")
    save_every: Positive = 200
    log_every: Positive = 20

    @model_validator(mode="before")
    @classmethod
    def _labels_are_text(cls, value: object) -> object:
        """YAML reads 0 and 1 as numbers."""
        if isinstance(value, dict) and isinstance(value.get("labels"), dict):
            return {**value, "labels": {str(key): name for key, name in value["labels"].items()}}
        return value

    @model_validator(mode="after")
    def _one_start(self) -> "ClassifierSpec":
        if (self.model is None) == (self.scratch is None):
            raise ValueError("give one of model (an encoder to start from) and scratch (the shape of a new one)")
        return self
