"""A disk that refuses a checkpoint in the middle of a step: a clear error, the one before intact, and --resume.

The system itself refuses, by the largest size it allows this process's files; PPO's own test is in test_ppo_kill.py.
"""

import re
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from sawyer.errors import CheckpointError
from sawyer.recipe import Recipe, load_recipe
from sawyer.runs import Run, check_sealed
from tests.train.makers import conversations, make_backbone, pairs, recipe, write_lines
from train.base import train_base
from train.classifiers import train_classifiers
from train.reward_model import train_reward
from train.sft import train_sft
from train.t5 import train_t5

SHAPE = {"hidden_size": 32, "layers": 1, "heads": 2, "intermediate_size": 64}
STEPS: dict[str, Callable[[Recipe, Run], Path]] = {
    "base": train_base,
    "t5": train_t5,
    "sft": lambda told, run: train_sft(told, run, str(told.model.backbone)),
    "reward": lambda told, run: train_reward(told, run, None),
    "classifiers": train_classifiers,
}


@contextmanager
def room_for(size: int) -> Iterator[None]:
    """Inside, no file of this process may grow beyond ``size`` bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def told(step: str, folder: Path) -> Recipe:
    """A recipe whose ``step`` takes moments and saves more than once."""
    own = {"batch_size": 8, "held_out": 0.2, "epochs": 1, "save_every": 2}
    if step == "sft":
        data = write_lines(folder / "chats.jsonl", conversations(60))
        section = {"sources": [{"name": data}], "micro_batch": 8, "max_length": 90, **own}
        return recipe(make_backbone(folder / "backbone"), sft=section)
    if step == "reward":
        data = write_lines(folder / "pairs.jsonl", pairs(60))
        shape = {**SHAPE, "vocab_size": 320}
        return recipe(folder, reward={"scratch": shape, "sources": [{"name": data}], "max_length": 48, **own})
    if step == "base":
        return load_recipe("tiny", ["threads=1", f"base.phases=[{PHASE}]", "base.save_every=2"])
    return load_recipe("tiny-t5-neutral", SMALL)


PHASE = {"tokens": 12288, "sequence_length": 64, "batch_tokens": 2048, "micro_batch": 32}
SMALL = [
    "threads=1",
    "model.dtype=float32",
    f"t5.architecture={SHAPE}",
    "t5.tokenizer.vocab_size=700",
    "t5.sources=[{name: starter/acceptability, limit: 60}]",
    "t5.copy_steps=0",
    "t5.lead_steps=0",
    "t5.text_steps=3",
    "t5.epochs=1",
    "t5.save_every=2",
    "classifiers.acceptability.corrupt=null",
    "classifiers.sentiment.slip=null",
    *(f"classifiers.{name}.scratch={SHAPE | {'vocab_size': 500}}" for name in ("acceptability", "sentiment")),
    *(f"classifiers.{name}.text_sources=[]" for name in ("acceptability", "sentiment")),
    *(f"classifiers.{name}.text_steps=2" for name in ("acceptability", "sentiment")),
    *(f"classifiers.{name}.epochs=1" for name in ("acceptability", "sentiment")),
    *(f"classifiers.{name}.save_every=5" for name in ("acceptability", "sentiment")),
]


@pytest.mark.parametrize("step", STEPS)
def test_a_refused_checkpoint_is_said_and_the_one_before_goes_on(
    step: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, name = told(step, tmp_path), "base" if step == "t5" else step

    def train() -> None:
        with Run(tmp_path / "run", step=name, recipe=asked, resume=True) as run:
            assert any(STEPS[step](asked, run).rglob("*.safetensors")) and run.finished

    save = Run.save_checkpoint

    def full(run: Run, number: int, write: Any, **rest: Any) -> Path:
        """Once a run has a checkpoint there is room for all but its largest file, which is the optimiser's state."""
        files = [file for file in (run.folder / "checkpoints").rglob("*") if file.is_file()]
        with room_for(max(file.stat().st_size for file in files) - 1 if files else resource.RLIM_INFINITY):
            return save(run, number, write, **rest)

    with monkeypatch.context() as patch, pytest.raises(CheckpointError) as caught:
        patch.setattr(Run, "save_checkpoint", full)
        train()
    said = r"The checkpoint (\S+) could not be written: .*The one before it is intact: free some space .* --resume"
    found = re.match(said, str(caught.value))
    assert found is not None, caught.value
    left = list(Path(found[1]).parent.iterdir())
    assert len(left) == 1 and check_sealed(left[0])  # and nothing half-written beside it
    train()  # there is room again
