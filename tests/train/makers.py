"""Small models, data files and recipes for the training tests: made on the spot, no network."""

import json
import os
import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

from sawyer.models import Policy
from sawyer.recipe import ChatSpec, Recipe
from train.tokenizer import train_tokenizer

WORDS = ["tea", "river", "quiet", "lamp", "seven", "garden", "north", "paper", "wind", "bread", "stone", "little"]
CONTEXT = 96


def make_backbone(folder: Path, *, seed: int = 0) -> Path:
    """A random Llama of 2 layers and width 32 with a trained tokenizer, as plain transformers loads it."""
    texts = [sentence(random.Random(n), 12) for n in range(200)] + ["### User:\n", "### Assistant:\n", "\n\n"]
    tokenizer = train_tokenizer(
        texts, vocab_size=400, characters=100_000, chat=ChatSpec(), context=CONTEXT, folder=folder
    )
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        initializer_range=0.3,  # large enough for an adapter to have something to work with
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def make_ending_backbone(folder: Path) -> Path:
    """The same, but every token is the last one of its reply with a chance of about a tenth, so that lengths differ."""
    make_backbone(folder)
    model = AutoModelForCausalLM.from_pretrained(folder).double()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    ids = torch.tensor([tokenizer(sentence(random.Random(n), 6))["input_ids"][:6] for n in range(20)])
    with torch.no_grad():
        output = model(ids, output_hidden_states=True)
        state = output.hidden_states[-1].flatten(0, 1)
        wanted = output.logits.flatten(0, 1).logsumexp(-1, keepdim=True) - 2.2  # the log of a tenth
        ending = torch.linalg.lstsq(state, wanted).solution[:, 0]
        # Rounded: the solver's last digits differ from process to process.
        model.get_input_embeddings().weight[tokenizer.eos_token_id] = (1000 * ending).round() / 1000
    model.float().save_pretrained(folder)
    return folder


def make_sft(backbone: Path, folder: Path) -> Path:
    """An SFT adapter whose effect is clear: the bare backbone in its place would be seen."""
    told = recipe(backbone)
    policy = Policy.load(backbone, spec=told.model)
    torch.manual_seed(5)
    policy.add_adapter("sft", told.lora)
    with torch.no_grad():
        for parameter in policy.parameters_of("sft"):
            parameter.add_(0.05 * torch.randn_like(parameter))
    policy.save_adapter("sft", folder)
    return folder


def sentence(draw: random.Random, words: int) -> str:
    """Some words in random order."""
    return " ".join(draw.choice(WORDS) for _ in range(words))


def write_lines(path: Path, records: list[dict[str, Any]]) -> str:
    """Write JSON lines and return the path as a source's name."""
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return str(path)


@contextmanager
def prompts_in(folder: Path) -> Iterator[str]:
    """Forty prompts in a file of ``folder``; inside, they are found by the name that is given.

    Their order is drawn from the source's name: with the folder in it, every run of the tests would have another one.
    """
    write_lines(folder / "prompts.jsonl", [{"prompt": sentence(random.Random(n), 3)} for n in range(40)])
    with mock.patch.dict(os.environ, SAWYER_DATA=str(folder)):
        yield "prompts.jsonl"


def conversations(count: int, *, seed: int = 0, words: int = 6) -> list[dict[str, Any]]:
    """Conversations of one or two exchanges; the reply is always the first word of the question, twice."""
    draw = random.Random(seed)
    made = []
    for index in range(count):
        messages = []
        for _ in range(1 + index % 2):
            question = sentence(draw, draw.randint(2, words))
            first = question.split()[0]
            messages += [
                {"role": "user", "content": question},
                {"role": "assistant", "content": f"{first} {first}"},
            ]
        made.append({"messages": messages})
    return made


def pairs(count: int, *, seed: int = 0) -> list[dict[str, Any]]:
    """Pairs whose better reply says 'bread' and whose worse one says 'stone'; lengths and sources vary."""
    draw = random.Random(seed)
    made = []
    for index in range(count):
        made.append(
            {
                "prompt": sentence(draw, draw.randint(2, 6)),
                "chosen": f"{sentence(draw, draw.randint(1, 6))} bread",
                "rejected": f"{sentence(draw, draw.randint(1, 6))} stone",
                "source": ("one", "two")[index % 2],
            }
        )
    return made


def recipe(backbone: Path, **sections: Any) -> Recipe:
    """A recipe on ``backbone`` in float32 on one thread."""
    return Recipe.model_validate(
        {
            "name": "test",
            "seed": 3,
            "threads": 1,  # small tensors, and two threads only wait for each other on a busy machine
            "model": {"backbone": str(backbone), "context": CONTEXT, "dtype": "float32"},
            "lora": {"r": 4, "alpha": 8, "dropout": 0.1},
            **sections,
        }
    )


def file_bytes(folder: Path) -> dict[str, bytes]:
    """Every file of a folder, by name."""
    return {str(f.relative_to(folder)): f.read_bytes() for f in sorted(folder.rglob("*")) if f.is_file()}
