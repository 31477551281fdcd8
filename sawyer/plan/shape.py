"""The shape of a model as its ``config.json`` tells it: enough to count weights, without any of them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from sawyer.errors import ModelError

Kind = Literal["decoder", "t5", "roberta"]

GATED = ("llama", "mistral", "qwen2", "qwen3", "gemma", "gemma2")
"""Decoders with three matrices in the feed-forward part: gate, up and down (Shazeer 2020)."""


@dataclass(frozen=True)
class Linear:
    """``count`` layers of one name, each ``inputs`` to ``outputs``; ``name`` as PEFT's target modules are called."""

    name: str
    inputs: int
    outputs: int
    count: int

    @property
    def weights(self) -> int:
        """Of all of them together, without biases."""
        return self.inputs * self.outputs * self.count

    def adapter(self, rank: int) -> int:
        """Weights of LoRA's A and B on all of them (Hu et al. 2021)."""
        return rank * (self.inputs + self.outputs) * self.count


@dataclass(frozen=True)
class Shape:
    """A transformer's sizes. ``layers`` are the decoder's, or the encoder's where there are both.

    Attributes:
        width: of the hidden states. middle: of the feed-forward part. head: of one attention head.
        decoder_layers: of an encoder-decoder.
        gated: whether the feed-forward part has three matrices instead of two.
        tied: input and output embeddings are one matrix.
        positions: longest input; ``learned`` says that each has a vector of its own, as ``types`` of token have.
        stored: precision of the published weights.
    """

    kind: Kind
    model_type: str
    vocab: int
    width: int
    middle: int
    layers: int
    heads: int
    kv_heads: int
    head: int
    decoder_layers: int = 0
    gated: bool = True
    tied: bool = False
    positions: int = 0
    learned: bool = False
    types: int = 1
    stored: str = "float32"

    @property
    def inner(self) -> int:
        """Width of all queries of a position."""
        return self.heads * self.head

    @property
    def kv(self) -> int:
        """Width of all keys (or values) of a position."""
        return self.kv_heads * self.head

    @property
    def linears(self) -> tuple[Linear, ...]:
        """Every linear layer but the output layer: what "all-linear" adapts and what NF4 packs."""
        if self.kind == "t5":
            return self._of_t5()
        names = (
            ("query", "key", "value", "dense") if self.kind == "roberta" else ("q_proj", "k_proj", "v_proj", "o_proj")
        )
        attention = (
            Linear(names[0], self.width, self.inner, self.layers),
            Linear(names[1], self.width, self.kv, self.layers),
            Linear(names[2], self.width, self.kv, self.layers),
            Linear(names[3], self.inner, self.width, self.layers),
        )
        up = (Linear("gate_proj", self.width, self.middle, self.layers),) if self.gated else ()
        rest = (
            Linear("up_proj", self.width, self.middle, self.layers),
            Linear("down_proj", self.middle, self.width, self.layers),
        )
        return (*attention, *up, *rest)

    def _of_t5(self) -> tuple[Linear, ...]:
        # Self-attention of both halves and the decoder's attention to the encoder; feed-forward of both.
        attending, all_layers = self.layers + 2 * self.decoder_layers, self.layers + self.decoder_layers
        inward = ("wi_0", "wi_1") if self.gated else ("wi",)
        return (
            *(Linear(name, self.width, self.inner, attending) for name in ("q", "k", "v")),
            Linear("o", self.inner, self.width, attending),
            *(Linear(name, self.width, self.middle, all_layers) for name in inward),
            Linear("wo", self.middle, self.width, all_layers),
        )

    @property
    def linear_weights(self) -> int:
        """Weights of :attr:`linears`."""
        return sum(linear.weights for linear in self.linears)

    @property
    def embedding(self) -> int:
        """Weights of one embedding matrix."""
        return self.vocab * self.width

    @property
    def embeddings(self) -> int:
        """Input and output embeddings, and learned positions."""
        both = 1 if self.tied or self.kind == "roberta" else 2
        return both * self.embedding + (self.positions * self.width if self.learned else 0)

    @property
    def small(self) -> int:
        """Norms, biases, relative positions, a classifier's head: what is neither of the two."""
        if self.kind == "t5":
            buckets = 2 * 32 * self.heads  # relative_attention_num_buckets of each half
            return self.width * (2 * self.layers + 3 * self.decoder_layers + 2) + buckets
        if self.kind == "roberta":
            biases = self.layers * (4 * self.width + self.middle + self.width)
            norms = 2 * self.width * (2 * self.layers + 1)
            head = self.width * self.width + 2 * self.width + 1  # one label
            return biases + norms + head + self.types * self.width
        return self.width * (2 * self.layers + 1)

    @property
    def weights(self) -> int:
        """All of them."""
        return self.linear_weights + self.embeddings + self.small

    def adapter(self, rank: int, target: str | list[str]) -> int:
        """Weights of one LoRA adapter on the layers that ``target`` names ("all-linear": all of them).

        Raises:
            ModelError: no layer has such a name.
        """
        if target == "all-linear":
            return sum(linear.adapter(rank) for linear in self.linears)
        wanted = [target] if isinstance(target, str) else target
        found = [linear for linear in self.linears if any(name.split(".")[-1] == linear.name for name in wanted)]
        if not found:
            names = ", ".join(dict.fromkeys(linear.name for linear in self.linears))
            raise ModelError(f"lora.target {wanted} names no layer of a {self.model_type}; there are: {names}.")
        return sum(linear.adapter(rank) for linear in found)


def read_shape(config: Mapping[str, Any], name: str) -> Shape:
    """The shape that a ``config.json`` tells.

    Raises:
        ModelError: a kind of model that the plan does not know, or a key is missing.
    """
    kind = str(config.get("model_type", ""))
    try:
        if kind in ("t5", "mt5"):
            return _t5(config)
        if kind in ("roberta", "bert", "xlm-roberta", "camembert"):
            return _encoder(config)
        if kind in GATED:
            return _decoder(config)
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(
            f"The config.json of {name} (model_type {kind!r}) lacks what a plan needs: {error}."
        ) from error
    known = ", ".join((*GATED, "t5", "mt5", "roberta", "bert", "xlm-roberta", "camembert"))
    raise ModelError(f"A plan cannot be made for {name}: its model_type is {kind or 'missing'!r}; known are: {known}.")


def _decoder(config: Mapping[str, Any]) -> Shape:
    heads, width = int(config["num_attention_heads"]), int(config["hidden_size"])
    return Shape(
        kind="decoder",
        model_type=config["model_type"],
        vocab=int(config["vocab_size"]),
        width=width,
        middle=int(config["intermediate_size"]),
        layers=int(config["num_hidden_layers"]),
        heads=heads,
        kv_heads=int(config.get("num_key_value_heads") or heads),
        head=int(config.get("head_dim") or width // heads),
        # What transformers takes where a config says nothing: Gemma alone ties.
        tied=bool(config.get("tie_word_embeddings", config["model_type"].startswith("gemma"))),
        positions=int(config.get("max_position_embeddings") or 0),
        stored=_stored(config),
    )


def _t5(config: Mapping[str, Any]) -> Shape:
    heads, layers = int(config["num_heads"]), int(config["num_layers"])
    return Shape(
        kind="t5",
        model_type=config["model_type"],
        vocab=int(config["vocab_size"]),
        width=int(config["d_model"]),
        middle=int(config["d_ff"]),
        layers=layers,
        heads=heads,
        kv_heads=heads,
        head=int(config["d_kv"]),
        decoder_layers=int(config.get("num_decoder_layers") or layers),
        gated=str(config.get("feed_forward_proj", "relu")).startswith("gated"),
        tied=bool(config.get("tie_word_embeddings", True)),
        stored=_stored(config),
    )


def _encoder(config: Mapping[str, Any]) -> Shape:
    heads, width = int(config["num_attention_heads"]), int(config["hidden_size"])
    return Shape(
        kind="roberta",
        model_type=config["model_type"],
        vocab=int(config["vocab_size"]),
        width=width,
        middle=int(config["intermediate_size"]),
        layers=int(config["num_hidden_layers"]),
        heads=heads,
        kv_heads=heads,
        head=width // heads,
        gated=False,
        tied=True,
        positions=int(config.get("max_position_embeddings", 512)),
        learned=True,
        types=int(config.get("type_vocab_size", 1)),
        stored=_stored(config),
    )


def _stored(config: Mapping[str, Any]) -> str:
    """Precision of the checkpoint; float32 where a config says nothing, as transformers has it."""
    return str(config.get("dtype") or config.get("torch_dtype") or "float32")
