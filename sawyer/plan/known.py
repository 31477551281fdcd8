"""Configs (shapes alone) of the models that the project's recipes name: a plan for them needs no network.

Copied from the ``config.json`` on each model's page of the hub.
"""

from typing import Any


def _llama(width: int, middle: int, layers: int, heads: int, kv_heads: int, vocab: int, **rest: Any) -> dict[str, Any]:
    return {
        "model_type": "llama",
        "hidden_size": width,
        "intermediate_size": middle,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "vocab_size": vocab,
        "tie_word_embeddings": False,
        **rest,
    }


def _flan_t5(width: int, middle: int, layers: int, heads: int) -> dict[str, Any]:
    return {
        "model_type": "t5",
        "d_model": width,
        "d_kv": 64,
        "d_ff": middle,
        "num_layers": layers,
        "num_decoder_layers": layers,
        "num_heads": heads,
        "vocab_size": 32128,
        "feed_forward_proj": "gated-gelu",
        "tie_word_embeddings": False,
        "dtype": "float32",
    }


ROBERTA_BASE = {
    "model_type": "roberta",
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "vocab_size": 50265,
    "max_position_embeddings": 514,
    "dtype": "float32",
}
LLAMA2_7B = _llama(4096, 11008, 32, 32, 32, 32000, max_position_embeddings=4096, dtype="float16")
LLAMA2_13B = _llama(5120, 13824, 40, 40, 40, 32000, max_position_embeddings=4096, dtype="float16")
LLAMA3_8B = _llama(4096, 14336, 32, 32, 8, 128256, max_position_embeddings=8192, dtype="bfloat16")
SMOLLM2 = _llama(576, 1536, 30, 9, 3, 49152, max_position_embeddings=8192, dtype="bfloat16")

KNOWN: dict[str, dict[str, Any]] = {
    "meta-llama/llama-2-7b-hf": LLAMA2_7B,
    "meta-llama/llama-2-7b-chat-hf": LLAMA2_7B,
    "meta-llama/llama-2-13b-hf": LLAMA2_13B,
    "meta-llama/meta-llama-3-8b": LLAMA3_8B,
    "meta-llama/meta-llama-3-8b-instruct": LLAMA3_8B,
    "huggingfacetb/smollm2-135m": SMOLLM2 | {"tie_word_embeddings": True},
    "huggingfacetb/smollm2-135m-instruct": SMOLLM2 | {"tie_word_embeddings": True},
    "google/flan-t5-small": _flan_t5(512, 1024, 8, 6),
    "google/flan-t5-base": _flan_t5(768, 2048, 12, 12),
    "google/flan-t5-large": _flan_t5(1024, 2816, 24, 16),
    "google/flan-t5-xl": _flan_t5(2048, 5120, 24, 32),
    "roberta-base": ROBERTA_BASE,
    "facebookai/roberta-base": ROBERTA_BASE,
    "textattack/roberta-base-cola": ROBERTA_BASE,
    "cardiffnlp/twitter-roberta-base-sentiment": ROBERTA_BASE,
}
"""By name, in lower case."""
