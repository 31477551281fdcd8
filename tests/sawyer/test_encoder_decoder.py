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


WHOLE = ["decoder.final_layer_norm"]


def bare(tiny_t5: Path, adapters: dict[str, Path] | None = None) -> Policy:
    spec = ModelSpec(backbone=str(tiny_t5), context=64, dtype="float32")
    return Policy.load(tiny_t5, adapters, spec=spec, device="cpu")


@pytest.fixture(params=[[], WHOLE], ids=["lora", "whole norm"])
def t5(tiny_t5: Path, request: pytest.FixtureRequest) -> Policy:
    """The tiny T5 with a random adapter as ``rlf``, with a norm trained whole and without."""
    policy = bare(tiny_t5)
    policy.add_adapter("rlf", LoraSpec(r=4, alpha=8, whole=request.param))
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


def test_a_module_trained_whole_is_of_its_stage_alone_and_is_kept(tiny_t5: Path, tmp_path: Path) -> None:
    """A fresh one changes nothing; twice the last norm is twice the logits, of rlf only, also when loaded again."""
    policy = bare(tiny_t5)
    policy.add_adapter("rlf", LoraSpec(r=2, alpha=2, whole=WHOLE))
    ids = {"input_ids": torch.tensor(prompts(policy)[:1]), "decoder_input_ids": torch.tensor([[0, 5, 6]])}

    def ask(policy: Policy, stage: str) -> torch.Tensor:
        with torch.no_grad(), policy.using(stage) as model:
            return model(**ids).logits

    base = ask(policy, "base")
    assert torch.equal(ask(policy, "rlf"), base)
    norms = [parameter for parameter in policy.parameters_of("rlf") if parameter.ndim == 1]
    assert [norm.shape for norm in norms] == [(32,)]
    with policy.using("rlf", train=True):
        wanted = {id(p) for p in policy.model.parameters() if p.requires_grad}
    assert wanted == {id(p) for p in policy.parameters_of("rlf")}
    with torch.no_grad():
        norms[0].mul_(2.0)
    torch.testing.assert_close(ask(policy, "rlf"), 2 * base)
    assert torch.equal(ask(policy, "base"), base)
    with policy.merged("rlf"):
        torch.testing.assert_close(ask(policy, "rlf"), 2 * base)
    policy.save_adapter("rlf", tmp_path / "adapter")
    again = bare(tiny_t5, {"rlf": tmp_path / "adapter"})
    assert torch.equal(ask(again, "rlf"), ask(policy, "rlf")) and torch.equal(ask(again, "base"), base)
