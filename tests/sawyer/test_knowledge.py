"""TruthfulQA and MMLU from files of their authors' form: the likeliest answer counts, absent data are named."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from sawyer.errors import DataError
from sawyer.evaluation.knowledge import Question, ask_knowledge, choose

QUESTIONS = [
    {"question": "What do cats do?", "mc1_targets": {"They sit on the mat.": 1, "They answer questions.": 0}},
    {"question": "Does water boil?", "mc1_targets": {"No.": 0, "At one hundred degrees.": 1, "Never ever.": 0}},
]


def sum_of_logprobs(policy: Any, stage: str, question: str, answer: str) -> float:
    """By a forward pass of the whole text, token by token."""
    prompt = policy.chat.encode_prompt([{"role": "user", "content": question}], stage)
    ids = policy.chat.encode_text(answer)
    with policy.using(stage) as model, torch.no_grad():
        logits = model(input_ids=torch.tensor([[*prompt, *ids]])).logits[0].log_softmax(-1)
    return sum(float(logits[len(prompt) - 1 + place, token]) for place, token in enumerate(ids))


def test_the_likeliest_answer_is_chosen(policy: Any) -> None:
    for row in QUESTIONS:
        answers = tuple(row["mc1_targets"])
        for stage in ("sft", "rlf"):
            by_hand = [sum_of_logprobs(policy, stage, row["question"], answer) for answer in answers]
            asked = Question(row["question"], answers, 0)
            assert choose(policy, stage, asked, mean=False) == by_hand.index(max(by_hand))
            lengths = [len(policy.chat.encode_text(answer)) for answer in answers]
            means = [total / length for total, length in zip(by_hand, lengths, strict=True)]
            assert choose(policy, stage, asked, mean=True) == means.index(max(means))
    assert choose(policy, "sft", Question("x " * 400, ("a", "b"), 0), mean=False) == -1


def test_what_is_at_hand_is_asked_and_the_rest_named(
    policy: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert ask_knowledge(policy, ("sft",), 5, 0) == ({}, ["TruthfulQA", "MMLU"])
    (tmp_path / "truthfulqa").mkdir()
    with gzip.open(tmp_path / "truthfulqa" / "mc_task.json.gz", "wt") as stream:
        json.dump(QUESTIONS, stream)
    monkeypatch.setenv("SAWYER_DATA", str(tmp_path))
    found, skipped = ask_knowledge(policy, ("sft", "rlf"), 5, 0)
    assert skipped == ["MMLU"] and set(found["TruthfulQA"]) == {"sft", "rlf"}
    assert found["TruthfulQA"]["rlf"].shape == (2,) and set(found["TruthfulQA"]["sft"]) <= {0.0, 1.0}
    (tmp_path / "mmlu" / "test").mkdir(parents=True)
    (tmp_path / "mmlu" / "test" / "tea_test.csv").write_text('"Tea, or?",hot,cold,wet,dry,A\n')
    assert ask_knowledge(policy, ("sft",), 5, 0)[1] == []
    (tmp_path / "mmlu" / "test" / "bad_test.csv").write_text("only,three,fields\n")
    with pytest.raises(DataError, match=r"bad_test.csv is not a subject of MMLU"):
        ask_knowledge(policy, ("sft",), 5, 0)
