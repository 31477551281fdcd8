"""The command line from outside: exit codes and one-paragraph errors, never a traceback."""

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def sawyer(*arguments: str, cwd: Path | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "sawyer.cli.app", *arguments],
        cwd=cwd or ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "120", **environment},
    )


def test_help_names_every_command_and_loads_nothing_heavy():
    done = sawyer("--help")
    assert done.returncode == 0
    for name in ("demo", "serve", "ui", "chat", "train", "pipeline", "evaluate", "feedback", "models", "keys", "plan"):
        assert name in done.stdout
    code = "import sys, sawyer.cli.app; sys.exit(any(m in sys.modules for m in ('torch', 'gradio', 'transformers')))"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "sft", "no-such-recipe"], "There is no recipe 'no-such-recipe'"),
        (["train", "dance", "tiny"], "There is no step 'dance'; there are: base, sft, reward,"),
        (["train", "sft", "tiny"], "sawyer train base tiny"),
        (["train", "sft", "tiny", "--set", "sft.lr"], "key=value"),
        (["train", "sft", "tiny", "--set", "sft.learning=1"], "sft.learning: there is no such key"),
        (["ui", "--api", "nonsense"], "--api takes an address"),
        (["demo", "--port", "99999"], "65535"),
        (["demo", "--host", "0.0.0.0"], "pass --open to let in everybody"),
        (["serve", "nano", "--host", "::"], "sawyer keys add --role voter"),
        (["keys", "add", "--role", "king"], "Allowed: reader, voter, admin"),
        (["keys", "revoke", "12345678"], "There is no key '12345678'"),
        (["frobnicate"], "No such command"),
    ],
)
def test_wrong_use_ends_with_2_and_says_what_to_do(arguments, message):
    done = sawyer(*arguments)
    assert done.returncode == 2, done.stderr
    assert message in " ".join(done.stderr.split()) and "Traceback" not in done.stderr


@pytest.mark.parametrize("arguments", [["train", "ppo", "tiny"], ["pipeline", "tiny"], ["round", "tiny"]])
def test_training_as_one_of_several_processes_is_refused_and_nothing_is_written(arguments, tmp_path):
    launched = {"WORLD_SIZE": "2", "RANK": "1", "LOCAL_RANK": "1"}
    done = sawyer(*arguments, "--home", str(tmp_path), **launched)
    assert done.returncode == 2, done.stderr
    said = " ".join(done.stderr.split())
    assert "one of 2 processes that a launcher started (WORLD_SIZE)" in said and "nf4" in said
    assert not [file for file in tmp_path.rglob("*") if file.is_file() and file.name != ".lock"]


@pytest.mark.parametrize(
    ("environment", "refused"),
    [
        ({}, False),
        ({"WORLD_SIZE": "1", "LOCAL_RANK": "0"}, False),
        ({"WORLD_SIZE": "8"}, False),  # a cluster's own word, without a launcher
        ({"WORLD_SIZE": "2", "LOCAL_RANK": "0"}, True),
        ({"OMPI_COMM_WORLD_SIZE": "4"}, True),
        ({"WORLD_SIZE": "8", "PMI_SIZE": "3"}, True),
    ],
)
def test_what_a_launcher_says_is_understood(environment, refused):
    from sawyer.errors import UsageError
    from sawyer.processes import require_one_process

    if not refused:
        require_one_process(environment)
        return
    with pytest.raises(UsageError, match="processes that a launcher started"):
        require_one_process(environment)


def test_a_recipe_without_a_reward_model_is_trained_and_not_evaluated(tmp_path):
    (tmp_path / "small.yaml").write_text(
        "name: small\nmodel: {context: 64, dtype: float32}\n"
        "base:\n  tokenizer: {vocab_size: 300, characters: 20000}\n"
        "  architecture: {hidden_size: 16, layers: 1, heads: 2, intermediate_size: 32}\n"
        "  sources: [{name: starter/conversations, limit: 20}]\n"
        "  phases: [{tokens: 512, sequence_length: 32, batch_tokens: 256, micro_batch: 8}]\n  compile: false\n",
        encoding="utf-8",
    )
    done = sawyer("pipeline", "small.yaml", "--home", "home", cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "Now current: base@1" in done.stdout and "Not evaluated: there is no reward model" in done.stdout


def test_a_port_in_use_is_said_before_anything_is_loaded():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        began = time.monotonic()
        done = sawyer("demo", "--port", str(port))
    assert done.returncode == 2 and f"Port {port} on 127.0.0.1 is in use" in done.stderr
    assert "--port" in done.stderr and time.monotonic() - began < 60


def test_a_home_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("in the way")
    done = sawyer("train", "base", "tiny", "--home", str(tmp_path / "file" / "home"))
    assert done.returncode == 2 and "cannot be written" in done.stderr and "SAWYER_HOME" in done.stderr
    assert "Traceback" not in done.stderr


def test_keys_are_made_listed_and_revoked(tmp_path):
    home = ("--home", str(tmp_path))
    made = sawyer("keys", "add", "--role", "reader", "--label", "Ada", *home)
    text = made.stdout.strip()
    assert made.returncode == 0 and text.startswith("sk-sawyer-") and "cannot be shown again" in made.stderr
    key_id = text.split("-")[2]
    listed = sawyer("keys", "list", *home).stdout
    assert key_id in listed and "Ada" in listed and text not in listed
    assert "is revoked" in sawyer("keys", "revoke", key_id, *home).stdout
    assert "There are no keys" in sawyer("keys", "list", *home).stdout


def test_a_page_does_not_lend_its_key_to_others_unasked():
    done = sawyer("ui", "--host", "0.0.0.0", SAWYER_API_KEY="sk-sawyer-x")
    assert done.returncode == 2 and "--open" in done.stderr


def test_a_missing_data_set_is_explained(tmp_path):
    override = "base.sources=[{name: no-such-set}]"
    done = sawyer("train", "base", "tiny", "--home", str(tmp_path), "--set", override)
    assert done.returncode == 1 and "no-such-set" in done.stderr and "SAWYER_DATA" in done.stderr
    assert "Traceback" not in done.stderr


def test_version():
    assert sawyer("--version").stdout.startswith("sawyer 0.")
