"""The whole pipeline as a user runs it: to the end, killed and resumed, and on the 7B recipe's own path."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sawyer.errors import UsageError
from sawyer.home import Home
from sawyer.recipe import PREFERENCE_METHODS, load_recipe
from sawyer.registry import Registry
from train.pipeline import Parts, run_step, steps_of

ROOT = Path(__file__).resolve().parents[2]
# The tiny recipe made smaller still: every step saves often, so that a kill can fall anywhere.
SMALLER = [
    "base.phases=[{tokens: 60000, sequence_length: 64, batch_tokens: 2048, micro_batch: 32}]",
    "base.save_every=5",
    "base.sample_every=20",
    "sft.sources=[{name: starter/conversations, limit: 96}]",
    "sft.save_every=2",
    "reward.sources=[{name: starter/pairs, limit: 80}]",
    "reward.own_samples=8",
    "reward.text_steps=5",
    "reward.save_every=2",
    "judge={own_samples: 0}",
    "ppo.steps=4",
    "ppo.save_every=1",
    "ppo.max_new_tokens=12",
    "evaluate.limit=16",
    "evaluate.max_new_tokens=12",
]


def command(home: Path, *more: str) -> list[str]:
    sets = [part for override in SMALLER for part in ("--set", override)]
    return [sys.executable, "-m", "sawyer.cli.app", "pipeline", "tiny", "--home", str(home), *sets, *more]


def run(home: Path, *more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(home, *more), cwd=ROOT, capture_output=True, text=True, timeout=500, env=environment()
    )


def environment() -> dict[str, str]:
    return {**os.environ, "COLUMNS": "120"}


def weights(home: Path) -> dict[str, bytes]:
    """The bytes of every current version's weights."""
    registry = Registry(home / "registry", "tiny")
    found = {}
    for stage in ("base", "sft", "reward", "judge", "rlf"):
        version = registry.current(stage)
        assert version is not None, stage
        for file in sorted(version.path.glob("*.safetensors")):
            found[f"{stage}/{file.name}"] = file.read_bytes()
    return found


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home in which the pipeline ran to its end without interruption."""
    home = tmp_path_factory.mktemp("finished")
    done = run(home)
    assert done.returncode == 0, done.stderr[-3000:]
    return home


def test_the_pipeline_trains_promotes_and_evaluates(finished: Path) -> None:
    assert len(weights(finished)) == 5
    for step in ("base", "sft", "reward", "judge", "ppo"):
        folder = finished / "runs" / "tiny" / step
        assert json.loads((folder / "manifest.json").read_text())["step"] == step
        assert (folder / "recipe.yaml").exists() and (folder / "metrics.jsonl").exists()
        assert list((folder / "tensorboard").iterdir())
    reports = list((finished / "runs" / "tiny").glob("evaluate*/report.json"))
    rlf = Registry(finished / "registry", "tiny").current("rlf")
    assert rlf is not None and (rlf.info["sft"], rlf.info["reward"]) == ("sft@1", "reward@1")
    assert json.loads(reports[0].read_text())["judge"]["name"] == "judge@1"
    assert reports and (reports[0].parent / "report.html").exists() and list(reports[0].parent.glob("*.png"))


def test_resuming_a_finished_pipeline_makes_no_new_versions(finished: Path) -> None:
    before = {path.name for path in (finished / "registry").rglob("manifest.json")}, weights(finished)
    assert run(finished, "--resume").returncode == 0
    assert ({path.name for path in (finished / "registry").rglob("manifest.json")}, weights(finished)) == before
    assert Registry(finished / "registry", "tiny").current("rlf").ref == "rlf@1"


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_killed_anywhere_and_resumed_it_ends_bit_for_bit_the_same(finished: Path, tmp_path: Path) -> None:
    home, generator, kills = tmp_path / "home", random.Random(5), 0
    deadline = time.monotonic() + 280
    while kills < 4 and time.monotonic() < deadline:
        process = subprocess.Popen(
            command(home, "--resume"), cwd=ROOT, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            process.wait(timeout=generator.uniform(7, 16))
            break
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
            kills += 1
    assert kills > 0
    done = run(home, "--resume")
    assert done.returncode == 0, done.stderr[-3000:]
    assert weights(home) == weights(finished)


def test_two_trainings_of_one_recipe_refuse_each_other(tmp_path: Path) -> None:
    import fcntl

    home = Home(tmp_path / "home").ensure()
    lock = home.runs / "tiny" / ".lock"
    lock.parent.mkdir(parents=True)
    with lock.open("w") as held:
        held.write("4711")
        held.flush()
        fcntl.flock(held, fcntl.LOCK_EX)
        done = run(home.root)
    assert done.returncode == 2 and "process 4711" in done.stderr and "Traceback" not in done.stderr


def test_missing_stages_are_named(tmp_path: Path) -> None:
    recipe, home = load_recipe("tiny", ["judge={own_samples: 0}"]), Home(tmp_path / "home").ensure()
    assert steps_of(recipe) == ["base", "sft", "reward", "judge", "ppo"]
    for step, parts, message in [
        ("sft", Parts(), "sawyer train base tiny"),
        ("ppo", Parts(backbone="x"), "sawyer train sft tiny"),
        ("ppo", Parts(backbone="x", sft=Path("y")), "sawyer train reward tiny"),
        ("dance", Parts(), "no step 'dance'"),
    ]:
        with pytest.raises(UsageError, match=message):
            run_step(step, recipe, home, parts)


def test_a_resume_with_other_settings_is_refused(finished: Path) -> None:
    done = subprocess.run(
        [*command(finished, "--resume"), "--set", "ppo.lr=0.5"],
        cwd=ROOT, capture_output=True, text=True, timeout=500, env=environment(),
    )  # fmt: skip
    assert done.returncode == 2 and "began with other settings: ppo" in done.stderr


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_7b_recipe_runs_on_a_small_llama_checkpoint(
    wide_backbone: Path, tiny_classifier: Path, tmp_path: Path
) -> None:
    """llama2-7b.yaml as it is, on a random Llama with sharded safetensors and its own tokenizer file: NF4, bf16,
    LoRA on all linear layers, a RoBERTa from a folder; only names of data and sizes are replaced."""
    overrides = [
        f"model.backbone={wide_backbone}",
        "model.context=256",
        f"reward.model={tiny_classifier}",
        "sft.sources=[{name: starter/conversations, limit: 48}]",
        "sft.max_length=128",
        *(f"{method}=null" for method in PREFERENCE_METHODS),  # no steps of the pipeline
        "sft.optimizer=adamw_torch",
        "reward.sources=[{name: starter/pairs, limit: 64}]",
        "reward.max_length=64",
        "ppo.prompts=[{name: starter/prompts}]",
        "ppo.steps=2",
        "ppo.batch_size=16",
        "ppo.minibatch_size=8",
        "ppo.max_new_tokens=12",
        "ppo.normalize_samples=16",
        "ppo.watch=false",
        "lora.r=8",
        "evaluate.limit=16",
        "evaluate.max_new_tokens=12",
    ]
    sets = [part for override in overrides for part in ("--set", override)]
    home = tmp_path / "home"
    done = subprocess.run(
        [sys.executable, "-m", "sawyer.cli.app", "pipeline", "llama2-7b", "--home", str(home), *sets],
        cwd=ROOT, capture_output=True, text=True, timeout=500, env=environment(),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    registry = Registry(home / "registry", "llama2-7b")
    for stage in ("sft", "rlf", "reward"):
        assert registry.current(stage).number == 1
    config = json.loads((registry.current("rlf").path / "adapter_config.json").read_text())
    assert {name.split(".")[-1] for name in config["target_modules"]} == {
        "q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj",
    }  # fmt: skip
