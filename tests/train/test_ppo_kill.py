"""PPO killed by SIGKILL anywhere, or stopped by a full disk, then resumed: it ends bit for bit as if undisturbed."""

import errno
import json
import os
import random
import resource
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from safetensors import SafetensorError

from sawyer.errors import CheckpointError
from sawyer.models import Policy
from sawyer.recipe import Recipe, load_recipe
from sawyer.recipe.load import save_resolved
from sawyer.registry import Registry
from sawyer.runs import Run, check_sealed
from tests.train.makers import file_bytes, make_backbone, recipe, sentence, write_lines
from train.ppo import state, train_ppo

ROOT = Path(__file__).resolve().parents[2]
STEPS = 24
KILLS = 20
REWARD = """
def letters(prompts, responses):
    return [response.count("e") for response in responses]


def words(prompts, responses):
    return [len(response.split()) for response in responses]
"""


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recipe on disk, all of whose parts are local: reward and guard are functions of a file."""
    folder = tmp_path_factory.mktemp("told")
    (folder / "reward.py").write_text(REWARD)
    prompts = write_lines(folder / "prompts.jsonl", [{"prompt": sentence(random.Random(n), 3)} for n in range(40)])
    section = {
        "prompts": [{"name": prompts}],
        "reward": [{"function": f"{folder / 'reward.py'}:letters"}],
        "guard": {"function": f"{folder / 'reward.py'}:words"},
        "steps": STEPS,
        "batch_size": 8,
        "minibatch_size": 4,
        "micro_batch": 2,
        "epochs": 2,
        "max_prompt": 48,
        "max_new_tokens": 8,
        "lr": 3e-3,
        "kl": {"start": 0.05, "target": 6.0, "horizon": 100},
        "normalize_samples": 16,
        "save_every": 2,
        "sample_every": 4,
        "held_out": 0.3,
        "watch": False,
    }
    save_resolved(recipe(make_backbone(folder / "backbone"), ppo=section), folder / "recipe.yaml")
    return folder / "recipe.yaml"


def arguments(told: Path, home: Path, *more: str) -> list[str]:
    return ["train", "ppo", str(told), "--home", str(home), *more]


def command(told: Path, home: Path, *more: str) -> list[str]:
    return [sys.executable, "-m", "sawyer.cli.app", *arguments(told, home, *more)]


def run(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=800, env=environment())


def environment() -> dict[str, str]:
    return {**os.environ, "COLUMNS": "400", "OMP_NUM_THREADS": "1"}


def folder_of(home: Path) -> Path:
    return home / "runs" / "test" / "ppo"


def rows_of(home: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder_of(home) / "metrics.jsonl").read_text().splitlines()]


def outcome(home: Path) -> dict[str, Any]:
    """Everything a run leaves but times and speeds, which no two runs share."""
    folder = folder_of(home)
    rows = [{k: v for k, v in row.items() if k != "time" and not k.startswith("speed/")} for row in rows_of(home)]
    version = Registry(home / "registry", "test").current("rlf")
    assert version is not None
    return {
        "adapter": file_bytes(folder / "adapter"),
        "best": file_bytes(folder / "best"),
        "checkpoints": file_bytes(folder / "checkpoints"),
        "metrics": rows,
        "samples": (folder / "samples.jsonl").read_text(),
        "promoted": version.ref,
        "registered": (version.path / "adapter_model.safetensors").read_bytes(),
    }


@pytest.fixture(scope="module")
def undisturbed(told: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The home of a run that was never interrupted."""
    home = tmp_path_factory.mktemp("undisturbed")
    done = run(*command(told, home))
    assert done.returncode == 0, done.stderr[-3000:]
    assert len(rows_of(home)) == STEPS + 1
    return home


def moments(seconds: float) -> list[dict[str, Any]]:
    """Twenty moments spread over a run whose steps take ``seconds``, and two more in its last acts.

    Of the twenty, five are met while a checkpoint is being written and three while the run still loads; the others
    fall anywhere within the two steps after the one that is named, which rises from start to start.
    """
    draw = random.Random(17)
    kinds = ["writing"] * 5 + ["loading"] * 3 + ["anywhere"] * 12
    draw.shuffle(kinds)
    found: list[dict[str, Any]] = []
    for place, kind in enumerate(kinds):
        steps = 1 + place * (STEPS - 3) // KILLS
        if kind == "loading":
            found.append({"wait": draw.uniform(0.0, 1.0)})
        elif kind == "writing":
            found.append({"steps": steps, "writing": True, "wait": draw.uniform(0.0, 0.02)})
        else:
            found.append({"steps": steps, "wait": draw.uniform(0.0, 2.0) * seconds})
    return [*found, {"steps": STEPS, "wait": 0.0}, {"steps": STEPS, "wait": draw.uniform(0.0, 0.3)}]


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_killed_twenty_times_it_ends_bit_for_bit_the_same(told: Path, undisturbed: Path, tmp_path: Path) -> None:
    """The undisturbed run and the last resume are commands of their own. The starts in between, which are killed, are
    forks of one process that has imported everything (``killer``): twenty times the imports would take minutes.
    """
    home, times = tmp_path / "home", [row["time"] for row in rows_of(undisturbed)]
    (tmp_path / "moments.json").write_text(json.dumps(moments((times[-1] - times[1]) / (STEPS - 1))))
    places = [str(folder_of(home)), str(tmp_path / "log"), str(tmp_path / "moments.json")]
    killer = run(sys.executable, "-m", "tests.train.killer", *places, *arguments(told, home, "--resume"))
    assert killer.returncode == 0, killer.stderr[-3000:]
    kills = [json.loads(line) for line in killer.stdout.splitlines()]
    assert len(kills) >= KILLS, (tmp_path / "log").read_text()[-3000:]
    assert sum(bool(kill["half_written"]) for kill in kills) >= 5  # torn while a checkpoint was written
    assert len({kill["logged"] for kill in kills}) > 8  # spread over the run
    done = run(*command(told, home, "--resume"))
    assert done.returncode == 0, done.stderr[-3000:]
    ours, theirs = outcome(home), outcome(undisturbed)
    assert ours.keys() == theirs.keys() and not [key for key in ours if ours[key] != theirs[key]]


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_disk_that_refuses_a_checkpoint_ends_the_command_with_a_clear_error(
    told: Path, undisturbed: Path, tmp_path: Path
) -> None:
    """The system itself refuses: once there is a checkpoint, no file of the process may grow beyond 30 kB, which is
    room for the adapter and the log but not for the optimiser."""
    home = tmp_path / "home"
    with subprocess.Popen(
        command(told, home), cwd=ROOT, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as process:
        while process.poll() is None and not (folder_of(home) / "checkpoints" / "step-0000002").exists():
            time.sleep(0.002)
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (30_000, 30_000))
        _, complaint = process.communicate(timeout=800)
    assert process.returncode == 1 and "Traceback" not in complaint
    assert "The checkpoint " in complaint and "could not be written: " in complaint and "File too large" in complaint
    assert "free some space and go on with --resume" in complaint
    left = sorted((folder_of(home) / "checkpoints").iterdir())
    assert left and all(check_sealed(folder) for folder in left)  # whole, and nothing half-written beside them
    done = run(*command(told, home, "--resume"))
    assert done.returncode == 0, done.stderr[-3000:]
    ours, theirs = outcome(home), outcome(undisturbed)
    assert not [key for key in ours if ours[key] != theirs[key]]


def train(told: Recipe, folder: Path, *, resume: bool = False) -> Path:
    with Run(folder, step="ppo", recipe=told, resume=resume) as opened:
        return train_ppo(told, opened, told.model.backbone, None, None)


@pytest.mark.parametrize(
    "refusal",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        # What safetensors makes of it: an exception of its own, which is no OSError.
        SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"),
    ],
    ids=["of the system", "of safetensors"],
)
def test_a_full_disk_leaves_the_checkpoint_before_and_the_run_can_go_on(
    told: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refusal: Exception
) -> None:
    shorter = load_recipe(told, ["ppo.steps=5"])
    whole = file_bytes(train(shorter, tmp_path / "whole"))
    written, save_file = Counter[str](), state.save_file

    def full(tensors: dict[str, Any], file: Path) -> None:
        written[file.name] += 1
        if written[file.name] == 2:
            file.write_bytes(b"half of")
            raise refusal
        save_file(tensors, file)

    monkeypatch.setattr(state, "save_file", full)
    message = r"step-0000004 could not be written: .*No space left on device.* before it is intact.*--resume"
    with pytest.raises(CheckpointError, match=message):
        train(shorter, tmp_path / "run")
    assert [folder.name for folder in (tmp_path / "run" / "checkpoints").iterdir()] == ["step-0000002"]
    monkeypatch.undo()
    assert file_bytes(train(shorter, tmp_path / "run", resume=True)) == whole


def test_a_disk_that_is_full_when_the_best_policy_is_kept_is_said_as_clearly(
    told: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shorter = load_recipe(told, ["ppo.steps=5", "ppo.sample_every=3"])
    refusal = SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    def full(self: Any, stage: str, folder: Path) -> None:
        if "best" in str(folder.relative_to(tmp_path)):
            raise refusal
        save_adapter(self, stage, folder)

    save_adapter = Policy.save_adapter
    monkeypatch.setattr(Policy, "save_adapter", full)
    with pytest.raises(CheckpointError, match=r"best could not be written: .*No space left.*checkpoints are intact"):
        train(shorter, tmp_path / "run")
    assert [folder.name for folder in (tmp_path / "run" / "checkpoints").iterdir()] == ["step-0000002"]
