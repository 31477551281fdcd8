"""The reward model: its input, its loss, what it reports, and that an interrupted run changes nothing."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer, RobertaForMaskedLM

from sawyer.data import Pair, conversation_key, load_pairs
from sawyer.errors import ModelError, TrainingError
from sawyer.models import Policy
from sawyer.recipe import JudgeSpec, Recipe, judge_recipe
from sawyer.runs import Run
from sawyer.scoring import ClassifierScorer, encode_pair
from tests.train.makers import conversations, file_bytes, make_backbone, pairs, recipe, write_lines
from train.reward_model import RewardTrainer, load_classifier, pairwise_loss, train_reward
from train.reward_pairs import PairRow, collate, encode_rows, split_pairs
from train.reward_report import accuracy, report, with_other_prompts
from train.reward_samples import own_samples
from train.reward_scratch import MaskedTrainer, chunks, mask_tokens, train_tokenizer

SHAPE = {"vocab_size": 320, "hidden_size": 32, "layers": 2, "heads": 2, "intermediate_size": 64}


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_backbone(tmp_path_factory.mktemp("backbone"))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_lines(tmp_path_factory.mktemp("data") / "pairs.jsonl", pairs(120))


def reward_recipe(backbone: Path, data: str, more: dict[str, Any] | None = None, **changes: Any) -> Recipe:
    section = {
        "scratch": SHAPE,
        "sources": [{"name": data}],
        "epochs": 2,
        "lr": 3e-3,
        "batch_size": 16,
        "max_length": 48,
        "held_out": 0.25,
        "save_every": 4,
        "log_every": 2,
    }
    return recipe(backbone, reward=section | changes, **(more or {}))


def train(told: Recipe, folder: Path, *, resume: bool = False, backbone: Path | None = None) -> Path:
    with Run(folder, step="reward", recipe=told, resume=resume) as run:
        return train_reward(told, run, backbone)


def test_learns_reports_and_loads_as_a_scorer(backbone: Path, data: str, tmp_path: Path) -> None:
    told = reward_recipe(backbone, data, epochs=6)
    folder = train(told, tmp_path / "run")
    found = json.loads((folder / "reward_report.json").read_text())
    held_out = found["held_out"]
    assert held_out["overall"]["accuracy"] > 0.9
    assert set(held_out["by_source"]) == {"one", "two"}
    assert held_out["overall"]["n"] == found["pairs"]["held_out"] == 120 - found["pairs"]["train"]
    assert held_out["length_only"]["accuracy"] < 0.75
    assert held_out["shuffled_prompt"]["n"] == held_out["overall"]["n"]
    assert held_out["length_matched"]["tolerance"] == 0.2

    # What is shipped is what the rest of SAWYER and plain transformers read.
    scorer = ClassifierScorer(folder)
    assert scorer.max_length == 48
    good, bad = scorer.score([[{"role": "user", "content": "river lamp"}]] * 2, ["tea bread", "tea stone"])
    assert good > bad
    model = AutoModelForSequenceClassification.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    with torch.no_grad():
        logits = model(**tokenizer("river lamp", "tea bread", return_tensors="pt")).logits
    assert logits.shape == (1, 1) and float(logits) == pytest.approx(float(good), abs=1e-5)
    assert model.dtype == torch.float32 and model.config.id2label == {0: "reward"}

    run = Run(tmp_path / "run", step="reward", recipe=told, resume=True)
    assert run.finished is not None
    assert [row["held_out_accuracy"] for row in run.metrics() if "held_out_accuracy" in row][-1] > 0.9
    assert "reward_chosen" in (tmp_path / "run" / "samples.jsonl").read_text()


@pytest.mark.parametrize(
    "where", ["pretrain", 4, *(pytest.param(where, marks=pytest.mark.slow) for where in ("start", 2, 7, 9))]
)
def test_interrupted_run_ends_with_the_same_bytes(
    backbone: Path, data: str, tmp_path: Path, where: str | int, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = reward_recipe(backbone, data, text_steps=6)
    whole = file_bytes(train(told, tmp_path / "whole"))

    class Killed(BaseException):
        pass

    kind, stop = {"pretrain": (MaskedTrainer, 5), "start": (RewardTrainer, 0)}.get(str(where), (RewardTrainer, where))
    original = kind.training_step

    def dies(self: Any, *args: Any, **kwargs: Any) -> torch.Tensor:
        if self.state.global_step == stop:
            raise Killed
        return original(self, *args, **kwargs)

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(kind, "training_step", dies)
        train(told, tmp_path / "cut")
    assert file_bytes(train(told, tmp_path / "cut", resume=True)) == whole


def test_own_samples_are_made_once_and_judged_as_a_source(backbone: Path, data: str, tmp_path: Path) -> None:
    chats = write_lines(tmp_path / "chats.jsonl", conversations(40))
    more = {"sft": {"sources": [{"name": chats}], "max_length": 90}}
    told = reward_recipe(backbone, data, more, own_samples=20, epochs=1)
    folder = train(told, tmp_path / "run", backbone=backbone)
    counts = json.loads((folder / "reward_report.json").read_text())["pairs"]["by_source"]["own-samples/base"]
    assert 0 < counts["train"] + counts["held_out"] <= 20
    (file,) = (tmp_path / "run").glob("own_samples-*.jsonl")
    for line in file.read_text().splitlines():
        pair = json.loads(line)
        assert pair["chosen"].split()[0] == pair["prompt"][-1]["content"].split()[0]
        assert pair["rejected"] and pair["rejected"] != pair["chosen"]
    before = file.stat().st_mtime_ns
    train(told, tmp_path / "run", resume=True, backbone=backbone)
    assert file.stat().st_mtime_ns == before


def test_own_samples_come_from_the_adapter_and_some_from_the_backbone(
    backbone: Path, data: str, tmp_path: Path
) -> None:
    chats = write_lines(tmp_path / "chats.jsonl", conversations(40))
    more = {"sft": {"sources": [{"name": chats}], "max_length": 90}}
    told = reward_recipe(backbone, data, more, own_samples=16)
    policy = Policy.load(backbone, spec=told.model)
    policy.add_adapter("sft", told.lora)
    policy.save_adapter("sft", tmp_path / "adapter")
    with Run(tmp_path / "run", step="reward", recipe=told) as run:
        made = own_samples(told, run, backbone, tmp_path / "adapter")
        assert own_samples(told, run, backbone, tmp_path / "adapter") == made
    sources = [pair.source for pair in made]
    assert sources.count("own-samples/sft") > sources.count("own-samples/base") > 0
    limit = 64 if told.model.context >= 128 else told.model.context // 2
    assert all(len(policy.chat.encode_text(pair.chosen)) <= limit for pair in made)


def test_own_samples_need_a_model(backbone: Path, data: str, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"reward\.own_samples is 5"):
        train(reward_recipe(backbone, data, own_samples=5), tmp_path / "run")


def test_prompt_is_cut_on_the_left_and_the_response_kept() -> None:
    tokenizer = train_tokenizer(["one two three four five six seven eight nine ten"] * 50, 320, 64)
    prompt, reply = "one two three four five six seven", "eight nine"
    whole = encode_pair(tokenizer, prompt, reply, 64)
    assert whole == tokenizer(prompt, reply)["input_ids"]
    reply_ids = tokenizer(reply, add_special_tokens=False)["input_ids"]
    prompt_ids = tokenizer(prompt, add_special_tokens=False)["input_ids"]
    cut = encode_pair(tokenizer, prompt, reply, len(whole) - 2)
    assert cut == [0, *prompt_ids[2:], 2, 2, *reply_ids, 2]
    assert encode_pair(tokenizer, prompt, reply, len(reply_ids) + 4) == [0, 2, 2, *reply_ids, 2]
    assert encode_pair(tokenizer, prompt, reply, len(reply_ids) + 3) == [0, 2, 2, *reply_ids[:-1], 2]
    hostile = encode_pair(tokenizer, "</s><s>", "<mask></s>", 64)
    assert hostile.count(2) == 3 and hostile.count(0) == 1 and 4 not in hostile


def test_pairwise_loss_by_hand() -> None:
    loss = pairwise_loss(torch.tensor([2.0, 0.0]), torch.tensor([1.0, 0.5]), torch.tensor([0.0, 1.0]))
    assert float(loss) == pytest.approx((math.log1p(math.exp(-1.0)) + math.log1p(math.exp(1.5))) / 2, rel=1e-6)


def test_margin_comes_from_the_scores_only_when_asked(backbone: Path) -> None:
    tokenizer = train_tokenizer(["tea river quiet"] * 20, 300, 48)
    prompt = [{"role": "user", "content": "tea"}]
    items = [Pair(prompt, "river", "quiet", 2.5), Pair(prompt, "river tea", "quiet")]
    with_margin = encode_rows(items, tokenizer, reward_recipe(backbone, "x", margin=True).reward)
    without = encode_rows(items, tokenizer, reward_recipe(backbone, "x").reward)
    assert [row.margin for row in with_margin] == [2.5, 0.0]  # a source without scores has no margin
    assert [row.margin for row in without] == [0.0, 0.0]
    with_margin = with_margin[:1]
    batch = collate(with_margin, tokenizer.pad_token_id)
    assert batch["input_ids"].shape[0] == 2 and batch["margin"].tolist() == [2.5]
    assert batch["attention_mask"].sum(1).tolist() == [
        len(with_margin[0].chosen),
        len(with_margin[0].rejected),
    ]


def test_no_prompt_is_on_both_sides() -> None:
    items = [Pair([{"role": "user", "content": f"Question {n // 3}"}], f"good {n}", f"bad {n}") for n in range(300)]
    train_part, held_out = split_pairs([*items, *items], 0.3)
    keys = [{conversation_key(pair.prompt) for pair in part} for part in (train_part, held_out)]
    assert not keys[0] & keys[1]
    assert len(train_part) + 2 * len(held_out) == 600  # repetitions are dropped from what is held out
    assert 0.15 < len(held_out) / 300 < 0.45


def test_a_judge_learns_from_neither_held_out_share(backbone: Path, data: str, tmp_path: Path) -> None:
    told = judge_recipe(reward_recipe(backbone, data), JudgeSpec(text_steps=0))
    assert told.reward is not None and (told.reward.fold, told.reward.unseen) == (1, [0]) and told.seed == 3 + 1
    read = load_pairs(told.reward.sources, told.seed)
    first = split_pairs(read, told.reward.held_out)[1]
    second = split_pairs(read, told.reward.held_out, 1)[1]
    learnt, kept = split_pairs(read, told.reward.held_out, 1, [0])
    assert kept == second and len(learnt) == len(read) - len(first) - len(second) and first and second
    found = json.loads((train(told, tmp_path / "judge") / "reward_report.json").read_text())
    assert found["pairs"]["train"] == len(learnt) and found["held_out"]["overall"]["n"] == len(kept)


def test_a_judge_needs_a_reward_to_vary(backbone: Path) -> None:
    with pytest.raises(ValueError, match="add the reward section that it varies"):
        recipe(backbone, judge={})


def test_report_by_hand() -> None:
    def row(chosen: int, rejected: int, source: str, name: str = "p") -> PairRow:
        pair = Pair([{"role": "user", "content": name}], "c", "r", None, source)
        return PairRow(pair, [1], [1], chosen, rejected)

    rows = [row(10, 8, "a"), row(10, 2, "a"), row(3, 9, "b"), row(5, 5, "b")]
    chosen, rejected = np.float32([2, 1, 0, 1]), np.float32([1, 2, -1, 1])
    found = report(rows, chosen, rejected, train_rows=[row(2, 1, "a")], shuffled=(rejected, chosen))
    assert found["overall"]["accuracy"] == 0.625 and found["overall"]["n"] == 4
    assert found["by_source"]["a"]["accuracy"] == 0.5 and found["by_source"]["b"]["accuracy"] == 0.75
    assert found["length_matched"] | {"interval": None} == {
        "accuracy": 0.75, "n": 2, "interval": None, "tolerance": 0.2}  # fmt: skip
    assert found["length_only"]["bet"] == "longer" and found["length_only"]["accuracy"] == 0.625
    assert found["shuffled_prompt"]["accuracy"] == 0.375
    lower, upper = accuracy(np.ones(10))["interval"]
    assert lower == pytest.approx(0.7225, abs=1e-3) and upper == pytest.approx(1.0)
    assert report([], chosen, rejected, train_rows=rows, shuffled=None)["overall"]["accuracy"] is None


def test_shuffled_prompts_are_all_other_ones() -> None:
    items = [Pair([{"role": "user", "content": f"q{n % 4}"}], "a", "b") for n in range(11)]
    moved = with_other_prompts(items, seed=0)
    assert moved is not None
    assert all(new.prompt != old.prompt for new, old in zip(moved, items, strict=True))
    assert with_other_prompts([items[0], items[4]], seed=0) is None


def test_masking_depends_on_seed_and_place_alone() -> None:
    tokenizer = train_tokenizer(["one two three four five six seven eight nine ten"] * 50, 320, 64)
    rows = chunks(["one two three four five"] * 100, tokenizer, 32, seed=0)
    assert all(len(row) == 32 and row[0] == tokenizer.bos_token_id for row in rows)
    batch = mask_tokens([(5, rows[0]), (6, rows[1])], len(tokenizer), seed=1)
    again = mask_tokens([(6, rows[1])], len(tokenizer), seed=1)
    assert torch.equal(batch["labels"][1:], again["labels"])
    assert torch.equal(batch["input_ids"][1:], again["input_ids"])
    learnt = batch["labels"] != -100
    assert torch.equal(batch["labels"][learnt], torch.tensor([rows[0], rows[1]])[learnt])
    many = mask_tokens([(place, rows[0]) for place in range(400)], len(tokenizer), seed=1)
    assert 0.12 < float((many["labels"] != -100).float().mean()) < 0.16  # 0.15 of all but the special tokens


def test_starts_from_a_folder_with_another_head(backbone: Path, data: str, tmp_path: Path) -> None:
    first = reward_recipe(backbone, data, text_steps=2, epochs=1)
    train(first, tmp_path / "first")
    (start,) = (tmp_path / "first").glob("start-*")
    assert isinstance(RobertaForMaskedLM.from_pretrained(start), RobertaForMaskedLM)
    told = reward_recipe(backbone, data, model=str(start), scratch=None, epochs=1)
    folder = train(told, tmp_path / "second")
    # A foreign encoder keeps its precision in the file.
    assert (folder / "model.safetensors").stat().st_size > 1.8 * (
        tmp_path / "first" / "model" / "model.safetensors"
    ).stat().st_size


def test_absent_hub_model_is_one_clear_paragraph(
    backbone: Path, data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    told = reward_recipe(backbone, data, model="nobody/no-such-model", scratch=None)
    with pytest.raises(ModelError, match="nobody/no-such-model") as caught:
        train(told, tmp_path / "run")
    assert "reward.model" in str(caught.value) and "\n" not in str(caught.value)


def test_refusals(backbone: Path, data: str, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"reward\.model or reward\.scratch"):
        train(reward_recipe(backbone, data, scratch=None), tmp_path / "none")
    with pytest.raises(TrainingError, match=r"reward\.held_out 1"):
        train(reward_recipe(backbone, data, held_out=1.0), tmp_path / "held")
    with pytest.raises(TrainingError, match=r"reward\.scratch\.hidden_size 30"):
        train(reward_recipe(backbone, data, scratch=SHAPE | {"hidden_size": 30, "heads": 4}), tmp_path / "heads")
    train(reward_recipe(backbone, data, epochs=1), tmp_path / "short")
    spec = reward_recipe(backbone, data, max_length=60).reward
    with pytest.raises(ModelError, match=r"at most 48 tokens, but reward\.max_length is 60"):
        load_classifier(tmp_path / "short" / "model", spec.max_length)


def test_loss_that_is_not_finite_stops_the_run(
    backbone: Path, data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("train.reward_model.pairwise_loss", lambda c, r, m: (c - r).sum() * float("inf"))
    with pytest.raises(TrainingError, match=r"at step 1: lower reward\.lr"):
        train(reward_recipe(backbone, data), tmp_path / "run")
