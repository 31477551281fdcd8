"""The parts of a reward in a recipe: what scores a reply, how much it counts, and on which scale."""

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from sawyer.recipe.section import Fraction, Positive, Spec

KINDS = ("trained", "classifier", "own", "function", "http", "rouge", "length", "repetition")
CLASSIFIERS = KINDS[:3]
OF_CLASSIFIERS = ("label", "output", "reads", "device", "dtype", "max_length", "revision")
OF_SERVICES = ("timeout", "retries", "token_env")


def one_part(value: Any) -> Any:
    """``reward: NAME`` means one classifier of that name."""
    return [{"name": "classifier", "classifier": value}] if isinstance(value, str) else value


class LengthSpec(Spec):
    """A penalty on replies far from a wanted length: 0 within ``slack``, then −1 for every ``target`` words beyond."""

    target: Positive = Field(40, description="words")
    slack: int = Field(20, ge=0, description="words more or fewer that cost nothing")


class RepetitionSpec(Spec):
    """A penalty on replies that repeat themselves: minus the share of n-grams of words seen before in the reply."""

    ngram: Positive = Field(3, description="words in a row that count as one n-gram")
    free: Fraction = Field(0.0, description="share of repeated n-grams that costs nothing")


class RewardPartSpec(Spec):
    """One part of ``ppo.reward``: one of trained, classifier, own, function, http, rouge, length and repetition."""

    name: str | None = Field(
        None,
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$",
        description="what it is logged as; default: its kind, or the key of an own classifier",
    )
    weight: float = Field(1.0, ge=-1000, le=1000, description="factor in the sum; negative punishes")
    normalize: bool | None = Field(
        None, description="subtract the mean and divide by the deviation of the start; default: yes, but no penalties"
    )
    trained: bool = Field(False, description="the recipe's own reward model")
    classifier: str | None = Field(None, description="sequence classifier by hub id or folder")
    own: str | None = Field(None, description="one of the recipe's own classifiers, by its key in classifiers")
    label: str | None = Field(None, description="label that counts, by name; default: the only or last one")
    output: Literal["logit", "logprob", "probability"] = Field("logit", description="what of the label counts")
    reads: Literal["pair", "response"] = Field("pair", description="prompt and reply, or the reply alone")
    device: str | None = Field(None, description="where the classifier runs; default: the policy's device")
    dtype: Literal["float32", "bfloat16", "float16"] = Field("float32", description="precision of the classifier")
    max_length: Positive | None = Field(None, description="longest input in tokens; default: what it can take")
    revision: str | None = Field(None, description="commit, tag or branch of the classifier on the hub")
    function: str | None = Field(None, description="Python function as module:name or file.py:name")
    http: str | None = Field(None, description="address that takes prompts and responses and answers with scores")
    timeout: Annotated[float, Field(gt=0, le=3600)] = Field(30.0, description="seconds the service may take a batch")
    retries: int = Field(3, ge=0, le=20, description="further tries when the service fails or is busy")
    token_env: str | None = Field(None, description="environment variable with the service's bearer token")
    rouge: bool = Field(False, description="ROUGE-L of the reply against the prompt's reference, F1 of words")
    length: LengthSpec | None = Field(None, description="penalty on replies far from a wanted length")
    repetition: RepetitionSpec | None = Field(None, description="penalty on replies that repeat themselves")
    batch_size: Positive = Field(32, description="replies scored at a time")

    @property
    def kind(self) -> str:
        """Which of the kinds it is."""
        return next(kind for kind in KINDS if getattr(self, kind))

    @property
    def title(self) -> str:
        """What it is logged as."""
        return self.name or self.own or self.kind

    @property
    def normalized(self) -> bool:
        """Whether its score is put on the scale of the start; a penalty that nobody pays yet has no such scale."""
        return self.normalize if self.normalize is not None else self.kind not in ("length", "repetition")

    @model_validator(mode="after")
    def _one_kind(self) -> "RewardPartSpec":
        given = [kind for kind in KINDS if getattr(self, kind)]
        if len(given) != 1:
            raise ValueError(f"give exactly one of {', '.join(KINDS)}; given: {', '.join(given) or 'none'}")
        others = (*(() if given[0] in CLASSIFIERS else OF_CLASSIFIERS), *(() if given[0] == "http" else OF_SERVICES))
        # Compared with the defaults: a resolved recipe names every key.
        foreign = [key for key in others if getattr(self, key) != type(self).model_fields[key].default]
        if foreign:
            raise ValueError(f"a part of kind {given[0]} has no {', '.join(foreign)}: leave it out")
        if self.function is not None and not all(self.function.rpartition(":")[::2]):
            raise ValueError("function must be module:name or file.py:name")
        if self.http is not None and not self.http.startswith(("http://", "https://")):
            raise ValueError("http must be an address that begins with http:// or https://")
        if self.weight == 0:
            raise ValueError("weight 0 makes the part count for nothing: leave it out")
        return self
