"""SFT: what is learnt, what is cut, and that an interrupted run ends as if it had never been interrupted."""

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from torch.nn.functional import cross_entropy
from transformers import AutoModelForCausalLM

from sawyer.chat import ChatFormat
from sawyer.data import Conversation, is_held_out
from sawyer.errors import RecipeError, TrainingError
from sawyer.models import Policy
from sawyer.recipe import Recipe, SftSpec
from sawyer.runs import Run
from tests.train.makers import conversations, file_bytes, make_backbone, recipe, write_lines
from train.sft import SftTrainer, held_out_loss, reply_loss, train_sft
from train.sft_data import IGNORED, collate, encode, split_rows
from train.trainer import LengthBuckets


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_backbone(tmp_path_factory.mktemp("backbone"))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_lines(tmp_path_factory.mktemp("data") / "chats.jsonl", conversations(60))


def sft_recipe(backbone: Path, data: str, **changes: Any) -> Recipe:
    section = {
        "sources": [{"name": data}],
        "epochs": 2,
        "lr": 1e-2,
        "batch_size": 8,
        "micro_batch": 4,
        "max_length": 90,
        "held_out": 0.2,
        "save_every": 3,
        "log_every": 2,
        "sample_every": 5,
    }
    return recipe(backbone, sft=section | changes)


def train(told: Recipe, folder: Path, *, resume: bool = False) -> Path:
    with Run(folder, step="sft", recipe=told, resume=resume) as run:
        return train_sft(told, run, told.model.backbone)


def test_adapter_is_learnt_saved_and_loaded_by_plain_peft(backbone: Path, data: str, tmp_path: Path) -> None:
    told = sft_recipe(backbone, data, epochs=6)
    adapter = train(told, tmp_path / "run")

    run = Run(tmp_path / "run", step="sft", recipe=told, resume=True)
    losses = [row["held_out_loss"] for row in run.metrics() if "held_out_loss" in row]
    assert len(losses) == 7  # before training and after each of six epochs
    assert losses[-1] < 0.6 * losses[0]
    steps = [row["step"] for row in run.metrics() if "loss" in row]
    assert steps == sorted(steps) and all(step % 2 == 0 for step in steps)
    assert run.finished is not None and run.finished["held_out_loss"] == pytest.approx(losses[-1], rel=1e-5)
    samples = (tmp_path / "run" / "samples.jsonl").read_text()
    assert '"reference"' in samples and '"step": 5' in samples

    names = {file.name for file in adapter.iterdir()}
    assert "adapter_model.safetensors" in names and "tokenizer.json" not in names
    plain = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(backbone), adapter).eval()
    policy = Policy.load(backbone, {"sft": adapter}, spec=told.model)
    ids = torch.tensor([policy.chat.encode_prompt([{"role": "user", "content": "river lamp"}], "sft")])
    with policy.using("sft") as model, torch.no_grad():
        assert torch.equal(model(ids).logits, plain(ids).logits)


@pytest.mark.parametrize("stop", [1, 4, *(pytest.param(stop, marks=pytest.mark.slow) for stop in (3, 7, 8))])
def test_interrupted_run_ends_with_the_same_bytes(
    backbone: Path, data: str, tmp_path: Path, stop: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # save_every 3 and 6 steps an epoch: stops before the first checkpoint, on one, after one, and in epoch 2.
    told = sft_recipe(backbone, data)
    whole = file_bytes(train(told, tmp_path / "whole"))

    class Killed(BaseException):
        pass

    original = SftTrainer.training_step

    def dies(self: SftTrainer, *args: Any, **kwargs: Any) -> torch.Tensor:
        if self.state.global_step == stop:
            raise Killed
        return original(self, *args, **kwargs)

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(SftTrainer, "training_step", dies)
        train(told, tmp_path / "cut")
    assert file_bytes(train(told, tmp_path / "cut", resume=True)) == whole


def test_torn_checkpoint_is_skipped(backbone: Path, data: str, tmp_path: Path) -> None:
    told = sft_recipe(backbone, data)
    whole = file_bytes(train(told, tmp_path / "run"))
    newest, older = sorted((tmp_path / "run" / "checkpoints").iterdir(), reverse=True)
    weights = newest / "trainable.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    (older.parent / "step-0000099").mkdir()  # the process died before the manifest was written
    run = Run(tmp_path / "run", step="sft", recipe=told, resume=True)
    assert run.latest_checkpoint() == (int(older.name.split("-")[1]), older)
    assert file_bytes(train_sft(told, run, backbone)) == whole


def test_gradient_checkpointing_changes_nothing_but_memory(backbone: Path, data: str, tmp_path: Path) -> None:
    plain = train(sft_recipe(backbone, data, epochs=1), tmp_path / "plain")
    saving = train(sft_recipe(backbone, data, epochs=1, gradient_checkpointing=True), tmp_path / "saving")
    name = "adapter_model.safetensors"
    assert (plain / name).read_bytes() == (saving / name).read_bytes()


def test_loss_counts_reply_tokens_and_eos_only(backbone: Path) -> None:
    policy = Policy.load(backbone, spec=recipe(backbone).model)
    talk = [
        {"role": "user", "content": "quiet garden"},
        {"role": "assistant", "content": "paper wind"},
        {"role": "user", "content": "north"},
        {"role": "assistant", "content": "bread"},
    ]
    row, cut = encode(Conversation(talk), policy.chat, 90)
    assert row is not None and not cut
    learnt = [label for label in row.labels if label != IGNORED]
    eos = policy.chat.eos_id
    assert policy.tokenizer.decode(learnt, skip_special_tokens=False).split("</s>") == [
        "paper wind",
        "bread",
        "",
    ]
    assert learnt.count(eos) == 2

    short, _ = encode(Conversation(talk[:2]), policy.chat, 90)
    assert short is not None
    batch = collate([row, short], policy.chat.pad_id)
    total, count = reply_loss(policy.model, batch)
    by_hand = 0.0
    for item in (row, short):  # one at a time, unpadded, with the full logits
        logits = policy.model(torch.tensor([item.ids])).logits[0, :-1]
        by_hand += float(cross_entropy(logits, torch.tensor(item.labels[1:]), ignore_index=IGNORED, reduction="sum"))
    assert count == len(learnt) + len([label for label in short.labels if label != IGNORED])
    assert float(total) == pytest.approx(by_hand, rel=1e-5)
    mean = held_out_loss(policy.model, [row, short], pad_id=0, batch_size=1, device=policy.device, dtype=torch.float32)
    assert mean == pytest.approx(by_hand / count, rel=1e-5)


def test_long_conversations_lose_whole_turns(backbone: Path) -> None:
    policy = Policy.load(backbone, spec=recipe(backbone).model)
    talk = conversations(2)[1]["messages"]
    whole, _ = encode(Conversation(talk), policy.chat, 90)
    assert whole is not None
    row, cut = encode(Conversation(talk), policy.chat, len(whole.ids) - 1)
    first, _ = encode(Conversation(talk[:2]), policy.chat, 90)
    assert cut and row == first
    assert row is not None and row.ids[-1] == policy.chat.eos_id
    assert encode(Conversation(talk), policy.chat, 5) == (None, True)


def test_split_is_by_prompt_and_repeats_only_training(backbone: Path) -> None:
    policy = Policy.load(backbone, spec=recipe(backbone).model)
    talks = [Conversation(record["messages"]) for record in conversations(40)]
    spec = SftSpec(sources=[{"name": "x"}], max_length=90, held_out=0.3)
    rows = split_rows(talks * 2, policy.chat, spec)
    held = [talk for talk in talks if is_held_out(talk.messages, 0.3)]
    assert len(rows.held_out) == len(held) > 0
    assert len(rows.train) == 2 * (40 - len(held))
    assert (rows.shortened, rows.dropped) == (0, 0)


def test_nothing_left_to_train_on(backbone: Path, data: str, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"sft\.max_length \(6 tokens\)"):
        train(sft_recipe(backbone, data, max_length=6), tmp_path / "long")
    with pytest.raises(TrainingError, match=r"sft\.held_out 1"):
        train(sft_recipe(backbone, data, held_out=1.0), tmp_path / "held")


def test_loss_that_is_not_finite_stops_the_run(
    backbone: Path, data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(model: Any, batch: dict[str, torch.Tensor]) -> tuple[torch.Tensor, int]:
        loss, count = reply_loss(model, batch)
        return loss * float("nan"), count

    monkeypatch.setattr("train.sft.reply_loss", broken)
    with pytest.raises(TrainingError, match=r"loss is nan at step 1: lower sft\.lr"):
        train(sft_recipe(backbone, data), tmp_path / "run")


def test_batch_size_must_be_a_multiple(backbone: Path, data: str, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"sft\.batch_size 8 is no multiple of sft\.micro_batch 3"):
        train(sft_recipe(backbone, data, micro_batch=3), tmp_path / "run")


def test_user_text_never_becomes_a_control_token(backbone: Path) -> None:
    policy = Policy.load(backbone, spec=recipe(backbone).model)
    assert isinstance(policy.chat, ChatFormat)
    talk = [{"role": "user", "content": "say </s> now"}, {"role": "assistant", "content": "</s>"}]
    row, _ = encode(Conversation(talk), policy.chat, 90)
    assert row is not None and row.ids.count(policy.chat.eos_id) == 1


def test_length_buckets_are_a_function_of_seed_and_epoch() -> None:
    lengths = [(7 * index) % 50 + 1 for index in range(1003)]
    first, second = LengthBuckets(lengths, 10, seed=1), LengthBuckets(lengths, 10, seed=1)
    assert list(first) == list(second) == list(first)
    assert sorted(first) == list(range(1003))
    order = list(first)
    second.set_epoch(1)
    assert list(second) != order
    batches = [order[start : start + 10] for start in range(0, 1000, 10)]
    padded = sum(10 * max(lengths[i] for i in batch) for batch in batches)
    assert padded < 1.1 * sum(lengths)
    tallest = [max(lengths[i] for i in batch) for batch in batches]
    assert tallest != sorted(tallest, reverse=True)
