"""Decoding and log-probs against plain transformers: stages, batches, padding, seeds and stop texts."""

from pathlib import Path

import pytest
import torch

from sawyer.errors import ModelError
from sawyer.generation import Row, choose, decode, generate, row_seed
from sawyer.logprobs import collate, entropy, position_ids, response_logits, token_logprobs
from sawyer.models import Policy
from sawyer.recipe import ModelSpec

PROMPTS = ["Hello!", "Tell me a joke about the cat and the dog, please.", "What is tea?"]


def encode(policy, text, stage):
    return policy.chat.encode_prompt([{"role": "user", "content": text}], stage)


def plain_greedy(policy, stage, ids, tokens):
    with policy.using(stage) as model:
        made = model.generate(
            input_ids=torch.tensor([ids]),
            attention_mask=torch.ones(1, len(ids), dtype=torch.long),
            max_new_tokens=tokens,
            do_sample=False,
        )
    return made[0, len(ids) :].tolist()


@pytest.mark.parametrize("stage", ["base", "sft", "rlf"])
def test_greedy_equals_plain_generate(policy, stage):
    prompts = [encode(policy, text, stage) for text in PROMPTS]
    made = generate(policy, prompts, stage=stage, max_tokens=20, temperature=0)
    assert [g.ids for g in made] == [plain_greedy(policy, stage, ids, 20) for ids in prompts]


def test_rows_of_mixed_stages_equal_each_stage_alone(policy):
    rows = [Row(encode(policy, text, s), s, 16, temperature=0) for text in PROMPTS for s in policy.stages]
    made = [[] for _ in rows]
    for step in decode(policy, rows):
        for token in step:
            made[token.row].append(token.id)
    assert made == [plain_greedy(policy, row.stage, list(row.prompt), 16) for row in rows]


def test_a_row_draws_the_same_whatever_is_beside_it(policy):
    row = Row(encode(policy, "Hello!", "sft"), "sft", 24, temperature=0.9, top_p=0.9, seed=11)
    others = [
        Row(encode(policy, text, s), s, 9, seed=n)
        for n, (text, s) in enumerate(zip(PROMPTS, policy.stages, strict=True))
    ]

    def first(rows):
        return [token.id for step in decode(policy, rows) for token in step if token.row == 0]

    assert first([row]) == first([row, *others])
    assert first([row]) != first([Row(row.prompt, "sft", 24, temperature=0.9, top_p=0.9, seed=12)])


def test_drawn_frequencies_follow_the_distribution():
    logits = torch.log(torch.tensor([[0.5, 0.0, 0.3, 0.2]])).expand(1000, 4)
    rows = [Row([1], "base", 1)] * 1000
    chosen, logprobs = choose(logits, rows, (torch.arange(1000) + 0.5) / 1000)
    assert [chosen.count(i) for i in range(4)] == [500, 0, 300, 200]
    assert logprobs[0] == pytest.approx(-0.6931472)
    chosen, _ = choose(logits, [Row([1], "base", 1, top_p=0.6)] * 1000, (torch.arange(1000) + 0.5) / 1000)
    assert chosen.count(3) == 0 and chosen.count(0) == 625


def test_stop_text_ends_a_row_and_is_cut_off(policy):
    ids = encode(policy, "Hello!", "sft")
    free = generate(policy, [ids], stage="sft", max_tokens=30, temperature=0)[0]
    stop = free.text[3:6]
    held = generate(policy, [ids], stage="sft", max_tokens=30, temperature=0, stop=[stop])[0]
    assert held.finished and stop not in held.text and free.text.startswith(held.text) and len(held.ids) < 30


def test_cancelled_rows_leave_the_batch(policy):
    rows = [Row(encode(policy, text, "sft"), "sft", 12, temperature=0) for text in PROMPTS]
    cancelled, seen = set(), []
    for number, step in enumerate(decode(policy, rows, cancelled)):
        seen.append({token.row for token in step})
        if number == 3:
            cancelled.add(1)
    assert 1 in seen[3] and all(1 not in rows_seen for rows_seen in seen[4:]) and 2 in seen[-1]


def test_a_prompt_without_room_is_refused(policy):
    with pytest.raises(ModelError, match=r"300 tokens and 10 .* context holds 256"):
        generate(policy, [[5] * 300], stage="sft", max_tokens=10)
    with pytest.raises(ModelError, match="no stage 'dpo'"):
        generate(policy, [[5]], stage="dpo", max_tokens=10)


def test_response_logprobs_equal_a_plain_forward_without_padding(policy):
    prompts = [encode(policy, text, "rlf") for text in PROMPTS]
    responses = [[7, 9, 11, 13], [8], [20, 21]]
    batch = collate(prompts, responses, policy.chat.pad_id)
    with policy.using("rlf") as model, torch.no_grad():
        logits, hidden = response_logits(model, batch)
        ours = token_logprobs(logits, batch.responses, 0.7)
        assert hidden.shape == (3, 4, 32)
        assert torch.allclose(model.get_output_embeddings()(hidden), logits, atol=1e-5)
        for row, (prompt, response) in enumerate(zip(prompts, responses, strict=True)):
            plain = model(input_ids=torch.tensor([prompt + response])).logits[0]
            expected = (plain[len(prompt) - 1 : -1] / 0.7).log_softmax(-1)
            expected = expected.gather(-1, torch.tensor(response)[:, None]).squeeze(-1)
            assert torch.allclose(ours[row, : len(response)], expected, atol=1e-5)


def test_masks_come_from_lengths_even_when_the_pad_is_the_eos():
    batch = collate([[1, 2], [3]], [[2, 2, 2], [2]], pad=2)
    assert batch.response_mask.tolist() == [[True, True, True], [True, False, False]]
    assert batch.prompt_mask.tolist() == [[True, True], [False, True]]
    assert position_ids(torch.tensor([[0, 0, 1, 1]])).tolist() == [[0, 0, 0, 1]]


def test_entropy_of_a_uniform_distribution():
    assert entropy(torch.zeros(2, 8)).tolist() == pytest.approx([2.0794415] * 2)


def test_row_seeds_differ():
    assert len({row_seed(s, i) for s in range(20) for i in range(20)}) == 400


def test_no_token_that_ends_a_stop_text_is_passed_over(tiny_backbone: Path) -> None:
    """The quick look at a single token never says no where the tail's text has just come to hold the stop text."""
    policy = Policy.load(tiny_backbone, spec=ModelSpec(backbone=str(tiny_backbone)), device="cpu")
    for stop in ("\n\n", "### User:\n", "tea", "é", "."):
        ids = policy.chat.encode_text(f"A cup of tea{stop} and é more{stop}")
        seen = ""
        for end in range(1, len(ids) + 1):
            text = policy.tokenizer.decode(ids[:end], skip_special_tokens=False)
            if text.count(stop) > seen.count(stop):
                assert policy.may_end(ids[end - 1], [stop])
            seen = text
    assert not policy.may_end(policy.chat.encode_text("tea")[-1], ["\n\n"])
