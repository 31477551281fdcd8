"""The PPO loop end to end on a tiny random Llama: it learns, resumes bit for bit, and stops when it should."""

import json
import math
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM

from sawyer.errors import CheckpointError, DataError, ModelError, TrainingError
from sawyer.recipe import LoraSpec, PpoSpec, Recipe
from sawyer.runs import Run
from sawyer.scoring import Part, Reward
from tests.train.makers import file_bytes, make_backbone, make_sft, prompts_in, recipe
from train.ppo import loop, train_ppo
from train.ppo.watch import collapse


class Letters:
    """Scores a reply by its number of letters e. After ``breaks_after`` calls it raises or answers ``bad``."""

    def __init__(self, breaks_after: int | None = None, bad: float | None = None) -> None:
        self.breaks_after, self.bad, self.calls = breaks_after, bad, 0

    def score(self, prompts: Sequence[Any], responses: Sequence[str]) -> np.ndarray:
        self.calls += 1
        scores = np.array([response.count("e") for response in responses], dtype=np.float32)
        if self.breaks_after is not None and self.calls > self.breaks_after:
            if self.bad is None:
                raise KeyboardInterrupt
            scores[0] = self.bad
        return scores


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_backbone(tmp_path_factory.mktemp("backbone"))


@pytest.fixture(scope="module")
def prompts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with prompts_in(tmp_path_factory.mktemp("data")) as name:
        yield name


@pytest.fixture(scope="module")
def sft(backbone: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_sft(backbone, tmp_path_factory.mktemp("sft"))


MAKE = """
import sys
from pathlib import Path
from tests.conftest import save_llama, save_t5
from tests.train.makers import make_backbone, make_ending_backbone
folder = Path(sys.argv[1])
make_backbone(folder / "llama")
make_ending_backbone(folder / "ending")
save_llama(folder / "sharded", 32)
save_t5(folder / "t5")
"""


def test_every_process_makes_the_same_models_and_tokenizers(tmp_path: Path) -> None:
    """Whatever its hashes are like: the runs of these tests hang on their tokens."""
    root = Path(__file__).resolve().parents[2]
    made = {seed: tmp_path / seed for seed in ("1", "2")}
    processes = [
        subprocess.Popen([sys.executable, "-c", MAKE, folder], cwd=root, env={**os.environ, "PYTHONHASHSEED": seed})
        for seed, folder in made.items()
    ]
    assert [process.wait(timeout=300) for process in processes] == [0, 0]
    ours, theirs = map(file_bytes, made.values())
    assert [name for name in ours if ours[name] != theirs.get(name)] == [] and ours.keys() == theirs.keys()
    assert sum(name.endswith("tokenizer.json") for name in ours) == 4


def ppo_recipe(backbone: Path, prompts: str, **changes: Any) -> Recipe:
    section = {
        "prompts": [{"name": prompts}],
        "reward": "unused",
        "steps": 5,
        "batch_size": 8,
        "minibatch_size": 4,
        "micro_batch": 2,
        "epochs": 2,
        "max_prompt": 48,
        "max_new_tokens": 8,
        "lr": 5e-3,
        "value_lr": 1e-2,
        "kl": {"start": 0.05, "target": 6.0, "horizon": 100},
        "normalize_samples": 16,
        "save_every": 2,
        "sample_every": 2,
        "held_out": 0.3,
        "missing_eos_penalty": 0.0,
    }
    return recipe(backbone, ppo=section | changes)


def train(told: Recipe, folder: Path, sft: Path | None, scorer: Letters | None = None, *, resume: bool = False) -> Path:
    with Run(folder, step="ppo", recipe=told, resume=resume) as run:
        return train_ppo(told, run, told.model.backbone, sft, Reward([Part("letters", scorer or Letters())]))


def rows_of(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def timeless(rows: list[dict[str, float]]) -> list[dict[str, float]]:
    return [{k: v for k, v in row.items() if k != "time" and not k.startswith("speed/")} for row in rows]


def test_the_reward_rises(backbone: Path, prompts: str, tmp_path: Path) -> None:
    """A bandit of a kind: each letter e is worth the same wherever it stands, so the policy must learn to write it."""
    bandit = {"steps": 24, "batch_size": 32, "minibatch_size": 16, "micro_batch": 16, "epochs": 4, "lr": 1e-2}
    told = ppo_recipe(backbone, prompts, **bandit, kl={"beta": 0.01}, watch=False, save_every=50, sample_every=8)
    adapter = train(told, tmp_path / "run", None)
    rows = rows_of(tmp_path / "run")
    assert rows[1]["objective/kl"] == 0.0
    assert all(row["policy/first_gap"] == 0.0 for row in rows[1:])
    assert rows[-1]["objective/score"] > rows[1]["objective/score"] + 1.5
    assert rows[-1]["reward/letters"] > 1.5 * rows[1]["reward/letters"]
    assert rows[-1]["heldout/score"] > rows[0]["heldout/score"] + 1.5
    assert {row["step"] for row in rows if "heldout/score" in row} == {0, 8, 16, 24}
    assert (tmp_path / "run" / "curves.png").read_bytes().startswith(b"\x89PNG")
    samples = [json.loads(line) for line in (tmp_path / "run" / "samples.jsonl").read_text().splitlines()]
    assert {row["step"] for row in samples} == {0, 8, 16, 24} and {"prompt", "reply", "score"} <= set(samples[0])
    names = {file.name for file in adapter.iterdir()}
    assert "adapter_model.safetensors" in names and not any(name.endswith((".bin", ".pt")) for name in names)
    PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(backbone), adapter)  # plain PEFT loads it


@pytest.fixture(scope="module")
def whole(backbone: Path, prompts: str, sft: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was never interrupted."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    train(ppo_recipe(backbone, prompts), folder, sft)
    return folder


@pytest.mark.parametrize("calls", [0, 2, 3, 5, 8])  # while freezing, in the first steps, and after a checkpoint
def test_a_killed_run_resumes_bit_for_bit(
    backbone: Path, prompts: str, sft: Path, tmp_path: Path, whole: Path, calls: int
) -> None:
    told = ppo_recipe(backbone, prompts)
    with pytest.raises(KeyboardInterrupt):
        train(told, tmp_path / "run", sft, Letters(breaks_after=calls))
    assert not (tmp_path / "run" / "manifest.json").exists()
    adapter = train(told, tmp_path / "run", sft, resume=True)
    assert file_bytes(adapter) == file_bytes(whole / "adapter")
    last = "checkpoints/step-0000005"
    ours, theirs = (load_file(folder / last / "state.safetensors") for folder in (tmp_path / "run", whole))
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[key], theirs[key]) for key in ours)
    assert (tmp_path / "run" / last / "state.json").read_text() == (whole / last / "state.json").read_text()
    assert timeless(rows_of(tmp_path / "run")) == timeless(rows_of(whole))
    assert (tmp_path / "run" / "samples.jsonl").read_text() == (whole / "samples.jsonl").read_text()


def test_groups_and_8_bit_moments_resume_bit_for_bit_too(
    backbone: Path, prompts: str, sft: Path, tmp_path: Path
) -> None:
    """Four replies to a prompt, moments in 8 bits, activations made again: all of it survives a kill."""
    wide = LoraSpec(r=64, alpha=64)  # bitsandbytes keeps tensors of fewer than 4,096 numbers in float32
    told = ppo_recipe(backbone, prompts, group_size=4, optimizer="adamw_8bit", gradient_checkpointing=True)
    told = told.model_copy(update={"lora": wide})
    adapters = [train(told, tmp_path / "whole", None)]
    with pytest.raises(KeyboardInterrupt):
        train(told, tmp_path / "killed", None, Letters(breaks_after=8))
    adapters.append(train(told, tmp_path / "killed", None, resume=True))
    assert file_bytes(adapters[0]) == file_bytes(adapters[1])
    state = load_file(tmp_path / "whole" / "checkpoints/step-0000005" / "state.safetensors")
    assert any(tensor.dtype == torch.uint8 and name.endswith("state1") for name, tensor in state.items())
    assert timeless(rows_of(tmp_path / "killed")) == timeless(rows_of(tmp_path / "whole"))
    assert all(row["policy/first_gap"] == 0.0 for row in rows_of(tmp_path / "whole")[1:])


def test_a_torn_checkpoint_is_skipped(backbone: Path, prompts: str, sft: Path, tmp_path: Path, whole: Path) -> None:
    told = ppo_recipe(backbone, prompts)
    with pytest.raises(KeyboardInterrupt):
        train(told, tmp_path / "run", sft, Letters(breaks_after=8))
    newest = max((tmp_path / "run" / "checkpoints").glob("step-*"))
    assert newest.name == "step-0000004"
    (newest / "state.safetensors").write_bytes(b"torn")
    adapter = train(told, tmp_path / "run", sft, resume=True)
    assert file_bytes(adapter) == file_bytes(whole / "adapter")


def test_a_checkpoint_of_another_adapter_is_refused(backbone: Path, prompts: str, sft: Path, tmp_path: Path) -> None:
    told = ppo_recipe(backbone, prompts, steps=3)
    with pytest.raises(KeyboardInterrupt):
        train(told, tmp_path / "run", sft, Letters(breaks_after=5))
    other = ppo_recipe(backbone, prompts, steps=3)
    wide = other.model_copy(update={"lora": other.lora.model_copy(update={"r": 8})})
    run = Run(tmp_path / "run", step="ppo", recipe=told, resume=True)
    with pytest.raises(CheckpointError, match="does not fit this recipe"):
        train_ppo(wide, run, str(backbone), None, Reward([Part("letters", Letters())]))


def test_an_encoder_decoder_policy_learns_and_resumes_in_the_same_loop(
    tiny_t5: Path, prompts: str, tmp_path: Path
) -> None:
    settings = {"steps": 16, "batch_size": 32, "minibatch_size": 16, "micro_batch": 16, "epochs": 4, "lr": 1e-2}
    told = ppo_recipe(tiny_t5, prompts, **settings, kl={"beta": 0.01}, watch=False, save_every=5, sample_every=8)
    adapter = train(told, tmp_path / "run", None)
    rows = rows_of(tmp_path / "run")
    assert rows[1]["objective/kl"] == 0.0 and all(row["policy/first_gap"] == 0.0 for row in rows[1:])
    assert rows[1]["rollout/drift"] < 1e-4  # decoding with a cache and the update's forward pass agree
    assert rows[-1]["objective/score"] > rows[1]["objective/score"] + 1.0
    model = AutoModelForSeq2SeqLM.from_pretrained(tiny_t5)
    assert PeftModel.from_pretrained(model, adapter).peft_config["default"].task_type == "SEQ_2_SEQ_LM"
    with pytest.raises(KeyboardInterrupt):
        train(told, tmp_path / "broken", None, Letters(breaks_after=12))
    assert file_bytes(train(told, tmp_path / "broken", None, resume=True)) == file_bytes(adapter)


def test_kl_coefficient_and_rate_follow_their_schedules(whole: Path) -> None:
    rows = rows_of(whole)[1:]
    assert [row["schedule/lr"] for row in rows] == pytest.approx([5e-3, 4e-3, 3e-3, 2e-3, 1e-3])
    beta = 0.05
    for row in rows:
        assert row["schedule/beta"] == pytest.approx(beta)
        beta *= 1 + min(max(row["objective/kl"] / 6.0 - 1, -0.2), 0.2) * 8 / 100
    manifest = json.loads((whole / "manifest.json").read_text())
    assert manifest["steps"] == 5 and manifest["reward"]["letters"]["deviation"] > 0


def test_passing_the_target_kl_ends_the_update(backbone: Path, prompts: str, tmp_path: Path) -> None:
    told = ppo_recipe(backbone, prompts, steps=1, epochs=4, lr=0.05, target_kl=1e-4)
    train(told, tmp_path / "run", None)
    assert rows_of(tmp_path / "run")[1]["policy/updates"] == 1.0  # of eight; the second saw the KL of the first


def test_bad_rewards_and_prompts_end_with_a_clear_error(backbone: Path, prompts: str, tmp_path: Path) -> None:
    told = ppo_recipe(backbone, prompts)
    with pytest.raises(TrainingError, match="gave nan to 1 of"):
        train(told, tmp_path / "nan", None, Letters(breaks_after=6, bad=math.nan))
    assert (tmp_path / "nan" / "checkpoints" / "step-0000002" / "manifest.json").exists()  # nothing was lost
    with pytest.raises(DataError, match="No prompt is left"):
        train(ppo_recipe(backbone, prompts, max_prompt=2), tmp_path / "short", None)
    with Run(tmp_path / "absent", step="ppo", recipe=told) as run, pytest.raises(ModelError, match="reward model"):
        train_ppo(told, run, str(backbone), None, tmp_path / "nowhere")


def test_a_collapsing_run_is_stopped(
    backbone: Path, prompts: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    described = loop.describe

    def exploding(*given: Any) -> dict[str, float]:
        return {**described(*given), "objective/kl": 80.0}

    monkeypatch.setattr(loop, "describe", exploding)
    with pytest.raises(TrainingError, match=r"stopped at step 6 .* KL above 50 nats .* ppo.watch"):
        train(ppo_recipe(backbone, prompts, steps=10), tmp_path / "run", None)
    assert (tmp_path / "run" / "checkpoints" / "step-0000004").exists()
    assert not (tmp_path / "run" / "adapter").exists()


HEALTHY = {
    "objective/kl": 2.0,
    "objective/score": 0.1,
    "objective/entropy": 2.0,
    "rollout/length": 30.0,
    "rollout/eos_rate": 0.9,
    "rollout/distinct_2": 0.9,
    "rollout/length_correlation": 0.1,
    "loss/policy": 0.0,
    "loss/value": 1.0,
}


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("objective/kl", -2.0, "negative KL"),
        ("objective/kl", 70.0, "KL above 50"),
        ("objective/entropy", 0.1, "entropy collapsed"),
        ("objective/entropy", 8.0, "entropy exploded"),
        ("rollout/length", 5.0, "far shorter"),
        ("rollout/length", 100.0, "far longer"),
        ("rollout/eos_rate", 0.1, "no longer end"),
        ("rollout/distinct_2", 0.3, "repeat themselves"),
        ("rollout/length_correlation", 0.97, "follows length alone"),
    ],
)
def test_watch_names_each_sign_only_when_it_lasts(key: str, value: float, reason: str) -> None:
    start = [{"step": step, **HEALTHY} for step in range(1, 7)]
    sick = [{"step": step, **HEALTHY, key: value} for step in range(7, 10)]
    assert collapse(start) is None
    assert collapse(start + sick[:2]) is None
    assert reason in (collapse(start + sick) or "")
    assert collapse([*start, *sick, {"step": 10, **HEALTHY}]) is None


def test_watch_stops_at_once_when_a_figure_is_not_finite() -> None:
    assert "loss/value is nan at step 1" in (collapse([{"step": 1, **HEALTHY, "loss/value": math.nan}]) or "")
    assert collapse([]) is None


def test_watch_allows_a_higher_kl_where_the_target_is_higher() -> None:
    rows = [{"step": step, **HEALTHY, "objective/kl": 70.0} for step in range(1, 10)]
    spec = PpoSpec.model_validate({"prompts": [{"name": "any"}], "kl": {"target": 20.0}})
    assert "KL above 50" in (collapse(rows) or "") and collapse(rows, spec) is None
