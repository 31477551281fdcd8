"""The work both sides are given: one policy, one reward model, the same prompts, written once into a folder.

Every reply has its full length on both sides: the tokenizer's EOS lies beyond the policy's vocabulary, so that no
token drawn can be it, and the padding token likewise.
"""

import json
import random
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM
from transformers import LlamaForSequenceClassification as Classifier

from sawyer.chat import ChatFormat
from sawyer.recipe import ChatSpec

NANO = Path(__file__).resolve().parents[1] / "sawyer" / "assets" / "nano" / "base"
CHAT = {"user": "<<<user>>>\n", "assistant": "<<<assistant>>>\n"}
"""Markers that no reply contains: SAWYER ends a reply at the user's marker."""


@dataclass(frozen=True)
class Shared:
    """What both sides do alike. ``hidden_size`` 0 is the shipped nano backbone, else a random Llama of two layers."""

    prompt_tokens: int = 32
    response_tokens: int = 48
    batch: int = 32
    epochs: int = 4
    lora_r: int = 16
    lora_alpha: int = 32
    temperature: float = 0.7
    learning_rate: float = 1e-5
    kl_coefficient: float = 0.05
    prompts: int = 256
    threads: int | None = None
    hidden_size: int = 0


QUICK = Shared(prompt_tokens=24, response_tokens=6, batch=4, epochs=2, lora_r=4, prompts=8, threads=1, hidden_size=32)


def prepare(folder: Path, shared: Shared, ours: dict[str, Any], trl: dict[str, Any]) -> dict[str, int]:
    """Write models, prompts and settings into ``folder``; return the models' parameter counts."""
    torch.manual_seed(0)
    policy = make_policy(shared)
    tokenizer = AutoTokenizer.from_pretrained(NANO)
    config = LlamaConfig(**{**policy.config.to_dict(), "num_labels": 1, "pad_token_id": tokenizer.pad_token_id})
    reward = Classifier(config)
    # SAWYER's reward reads text, with a tokenizer of its own; TRL's reads the policy's tokens.
    save(folder / "reward", reward, tokenizer)
    end_beyond_vocabulary(tokenizer, policy)
    tokenizer.chat_template = None
    save(folder / "policy", policy, tokenizer)
    write_prompts(folder, shared, ChatFormat(tokenizer, ChatSpec(**CHAT)))
    settings = {"shared": asdict(shared) | {"chat": CHAT}, "ours": ours, "trl": trl}
    (folder / "settings.json").write_text(json.dumps(settings, indent=2), encoding="utf-8")
    return {"policy": policy.num_parameters(), "reward": reward.num_parameters()}


def make_policy(shared: Shared) -> Any:
    """The shipped nano backbone, or a small random one with its vocabulary."""
    if not shared.hidden_size:
        return AutoModelForCausalLM.from_pretrained(NANO, dtype=torch.float32)
    width = shared.hidden_size
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=8192,
            hidden_size=width,
            intermediate_size=2 * width,
            num_hidden_layers=2,
            num_attention_heads=2,
            max_position_embeddings=128,
            tie_word_embeddings=True,
            pad_token_id=2,
        )
    )


def end_beyond_vocabulary(tokenizer: Any, policy: Any) -> None:
    """Give the tokenizer an EOS and a padding token that the policy has no output for."""
    tokenizer.add_special_tokens({"eos_token": "<|never|>", "pad_token": "<|nothing|>"})
    vocabulary = policy.config.vocab_size
    assert min(tokenizer.eos_token_id, tokenizer.pad_token_id) >= vocabulary, (tokenizer.eos_token_id, vocabulary)
    policy.config.eos_token_id = policy.generation_config.eos_token_id = None


def save(folder: Path, model: Any, tokenizer: Any) -> None:
    """Write model and tokenizer as one folder."""
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def write_prompts(folder: Path, shared: Shared, chat: ChatFormat) -> None:
    """Write ``prompts.jsonl`` (messages, what SAWYER reads) and ``prompt_ids.json`` (their ids, what TRL reads)."""
    draw = random.Random(0)
    vocabulary = chat.tokenizer.get_vocab()
    words = sorted(word[1:] for word in vocabulary if word.startswith("Ġ") and word[1:].isalpha() and len(word) > 3)
    texts = {text_of(shared.prompt_tokens, words, chat, draw) for _ in range(2 * shared.prompts)}
    kept = sorted(texts)[: shared.prompts]
    ids = [chat.encode_prompt([{"role": "user", "content": text}], "rlf") for text in kept]
    assert {len(row) for row in ids} == {shared.prompt_tokens}, "every prompt has the same number of tokens"
    lines = [json.dumps({"prompt": text}) + "\n" for text in kept]
    (folder / "prompts.jsonl").write_text("".join(lines), encoding="utf-8")
    (folder / "prompt_ids.json").write_text(json.dumps(ids), encoding="utf-8")


def text_of(tokens: int, words: list[str], chat: ChatFormat, draw: random.Random) -> str:
    """Random words that, as a user's turn, make exactly ``tokens`` tokens."""
    chosen: list[str] = []
    while True:
        text = " ".join([*chosen, draw.choice(words)])
        length = len(chat.encode_prompt([{"role": "user", "content": text}], "rlf"))
        if length == tokens:
            return text
        chosen = text.split(" ") if length < tokens else chosen[:-2]
