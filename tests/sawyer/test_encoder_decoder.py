"""Encoder-decoder backbones: prompts end with EOS, decoding equals transformers', log-probs equal the labels' loss."""

from pathlib import Path
from typing import Any

import pytest
import torch

from sawyer.generation import Row, decode, generate
from sawyer.logprobs import collate, response_logits, token_logprobs
from sawyer.models import Policy
from sawyer.recipe import LoraSpec, ModelSpec

QUESTIONS = ["Tell me a joke.", "What is tea made with?", "Hello! The cat sat on the mat, who was asleep in the sun."]


@pytest.fixture
def t5(tiny_t5: Path) -> Policy:
    """The tiny T5 with a random adapter as ``rlf``."""
    policy = Policy.load(tiny_t5, spec=ModelSpec(backbone=str(tiny_t5), context=64, dtype="float32"), device="cpu")
    policy.add_adapter("rlf", LoraSpec(r=4, alpha=8))
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in policy.parameters_of("rlf"):
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.2)
    policy.model.eval()
    return policy


def prompts(policy: Policy) -> list[list[int]]:
    return [policy.chat.encode_prompt([{"role": "user", "content": text}], "base") for text in QUESTIONS]


def test_prompts_are_plain_text_ended_by_eos_as_the_tokenizer_itself_does_it(t5: Policy) -> None:
    assert prompts(t5) == [t5.tokenizer(text)["input_ids"] for text in QUESTIONS]
    talk = [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hello."},
        {"role": "user", "content": "Bye </s>"},
    ]
    ids = t5.chat.encode_prompt(talk, "rlf")
    assert ids.count(t5.chat.eos_id) == 1 and ids[-1] == t5.chat.eos_id
    assert t5.chat.stop_strings("rlf") == []


@pytest.mark.parametrize("stage", ["base", "rlf"])
def test_greedy_replies_equal_those_of_transformers(t5: Policy, stage: str) -> None:
    ours = generate(t5, prompts(t5), stage=stage, max_tokens=12, temperature=0)
    with t5.using(stage) as model, torch.no_grad():
        for ids, reply in zip(prompts(t5), ours, strict=True):
            made = model.generate(
                input_ids=torch.tensor([ids]),
                attention_mask=torch.ones(1, len(ids), dtype=torch.long),
                max_new_tokens=12,
                do_sample=False,
            )[0, 1:].tolist()
            assert reply.ids == made[: len(reply.ids)] and (reply.finished or len(reply.ids) == 12)


def test_rows_of_both_stages_in_one_batch_answer_as_they_do_alone(t5: Policy) -> None:
    rows = [Row(ids, stage, 10, temperature=0) for ids in prompts(t5) for stage in ("base", "rlf")]
    together: list[list[int]] = [[] for _ in rows]
    for step in decode(t5, rows):
        for token in step:
            together[token.row].append(token.id)
    for row, made in zip(rows, together, strict=True):
        alone = generate(t5, [row.prompt], stage=row.stage, max_tokens=10, temperature=0)[0]
        assert made == alone.ids


def test_a_sampled_reply_does_not_depend_on_its_batch(t5: Policy) -> None:
    rows = [Row(ids, "rlf", 10, temperature=1.0, seed=index) for index, ids in enumerate(prompts(t5))]
    together: dict[int, list[tuple[int, float]]] = {}
    for step in decode(t5, rows):
        for token in step:
            together.setdefault(token.row, []).append((token.id, token.logprob))
    for index, row in enumerate(rows):
        alone = [(token.id, token.logprob) for step in decode(t5, [row]) for token in step]
        assert [pair[0] for pair in alone] == [pair[0] for pair in together[index]]
        # Rounding: in float64 the gap is 0.
        assert [pair[1] for pair in alone] == pytest.approx([pair[1] for pair in together[index]], abs=5e-4)


def test_log_probabilities_equal_the_loss_of_labels(t5: Policy) -> None:
    replies = [[*t5.chat.encode_text(text), t5.chat.eos_id] for text in ("The cat sat.", "tea")]
    sources = prompts(t5)[:2]
    batch = collate(sources, replies, t5.chat.pad_id)
    with t5.using("rlf") as model, torch.no_grad():
        logits, hidden = response_logits(model, batch, decoder_start=model.config.decoder_start_token_id)
        ours = token_logprobs(logits, batch.responses)
        assert hidden.shape == (2, batch.responses.shape[1], 32)
        for row, (ids, reply) in enumerate(zip(sources, replies, strict=True)):
            loss: Any = model(input_ids=torch.tensor([ids]), labels=torch.tensor([reply])).loss
            assert float(-ours[row, : len(reply)].mean()) == pytest.approx(float(loss), abs=1e-4)
