"""Run folders: atomic checkpoints, torn ones skipped, manifests that prove, logs cut on resume."""

import errno
import json
import resource

import pytest
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer
from tokenizers.models import WordLevel

from sawyer.errors import CheckpointError, UsageError
from sawyer.recipe import load_recipe
from sawyer.runs import Run, check_sealed, seal


@pytest.fixture
def recipe():
    return load_recipe("tiny")


def write(text):
    return lambda folder: (folder / "state.txt").write_text(text)


def test_the_newest_sound_checkpoint_is_used(tmp_path, recipe):
    run = Run(tmp_path / "run", step="sft", recipe=recipe)
    for step in (1, 2, 3):
        run.save_checkpoint(step, write(f"state {step}"), keep=3)
    (tmp_path / "run/checkpoints/step-0000003/state.txt").write_text("torn")
    (tmp_path / "run/checkpoints/.step-0000004.tmp").mkdir()
    step, folder = Run(tmp_path / "run", step="sft", recipe=recipe, resume=True).latest_checkpoint()
    assert step == 2 and (folder / "state.txt").read_text() == "state 2"
    (folder / "manifest.json").unlink()
    assert Run(tmp_path / "run", step="sft", recipe=recipe, resume=True).latest_checkpoint()[0] == 1


def test_old_checkpoints_are_dropped_and_a_new_run_starts_empty(tmp_path, recipe):
    run = Run(tmp_path / "run", step="sft", recipe=recipe)
    for step in (1, 2, 3):
        run.save_checkpoint(step, write("x"), keep=2)
    assert [p.name for p in sorted((tmp_path / "run/checkpoints").iterdir())] == ["step-0000002", "step-0000003"]
    assert Run(tmp_path / "run", step="sft", recipe=recipe).latest_checkpoint() is None


def test_a_full_disk_leaves_the_last_checkpoint(tmp_path, recipe):
    run = Run(tmp_path / "run", step="sft", recipe=recipe, resume=True)
    run.save_checkpoint(1, write("good"))

    def full(folder):
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(CheckpointError, match=r"No space left.*one before it is intact.*--resume"):
        run.save_checkpoint(2, full)
    assert run.latest_checkpoint()[0] == 1
    assert not list((tmp_path / "run/checkpoints").glob(".*"))


def by_safetensors(folder):
    save_file({"x": torch.zeros(9000)}, folder / "x.safetensors")


def by_torch(folder):
    torch.save({"x": torch.zeros(9000)}, folder / "x.pt")


def by_torch_through_python(folder):
    torch.save({"x": torch.zeros(9000)}, folder / "ä.pt")  # a name that torch leaves to Python's files


def by_tokenizers(folder):
    Tokenizer(WordLevel({str(number): number for number in range(9000)}, "0")).save(str(folder / "tokenizer.json"))


@pytest.mark.parametrize("refused", [by_safetensors, by_torch, by_torch_through_python, by_tokenizers])
def test_whatever_library_the_disk_refuses_it_is_said_alike(tmp_path, recipe, refused):
    """The libraries pass the system's error on in four ways, two of which are no OSError."""
    run = Run(tmp_path / "run", step="sft", recipe=recipe, resume=True)
    run.save_checkpoint(1, write("good"))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
        with pytest.raises(CheckpointError, match=r"step-0000002 could not be written: .*one before it is intact"):
            run.save_checkpoint(2, refused)
        with (
            pytest.raises(CheckpointError, match=r"adapter could not be written: .*--resume"),
            run.output("adapter") as f,
        ):
            refused(f)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert run.latest_checkpoint()[0] == 1
    assert [path.name for path in (tmp_path / "run/checkpoints").iterdir()] == ["step-0000001"]


def test_an_error_that_is_not_of_the_disk_stays_what_it_is(tmp_path, recipe):
    run = Run(tmp_path / "run", step="sft", recipe=recipe)

    def wrong(folder):
        raise RuntimeError("shapes do not match")

    with pytest.raises(RuntimeError, match="shapes do not match"):
        run.save_checkpoint(1, wrong)


def test_the_manifest_proves_a_step_done(tmp_path, recipe):
    run = Run(tmp_path / "run", step="sft", recipe=recipe)
    with run.output("adapter") as folder:
        (folder / "weights").write_text("w")
    assert run.finished is None
    run.finish(run.folder / "adapter", loss=1.5)
    assert run.finished["loss"] == 1.5 and list(run.finished["files"]) == ["adapter/weights"]
    (run.folder / "adapter" / "weights").write_text("v")
    assert run.finished is None


def test_an_output_that_fails_leaves_the_earlier_one(tmp_path, recipe):
    run = Run(tmp_path / "run", step="sft", recipe=recipe)
    with run.output("adapter") as folder:
        (folder / "weights").write_text("first")
    with pytest.raises(RuntimeError), run.output("adapter") as folder:
        (folder / "weights").write_text("second")
        raise RuntimeError
    assert (run.folder / "adapter" / "weights").read_text() == "first"


def test_logs_are_cut_to_the_checkpoint_and_torn_lines_ignored(tmp_path, recipe):
    with Run(tmp_path / "run", step="sft", recipe=recipe) as run:
        for step in (1, 2, 3):
            run.log(step, loss=float(step))
        with (run.folder / "metrics.jsonl").open("a") as stream:
            stream.write('{"step": 4, "lo')
        assert [row["step"] for row in run.metrics()] == [1, 2, 3]
        run.truncate_log(2)
    lines = (tmp_path / "run/metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["loss"] for line in lines] == [1.0, 2.0]


def test_resuming_with_other_settings_is_refused(tmp_path, recipe):
    Run(tmp_path / "run", step="sft", recipe=recipe).save_checkpoint(1, write("x"))
    other = load_recipe("tiny", ["sft.lr=0.5"])
    with pytest.raises(UsageError, match="began with other settings: sft changed"):
        Run(tmp_path / "run", step="sft", recipe=other, resume=True)
    Run(tmp_path / "run", step="sft", recipe=load_recipe("tiny", ["ppo.lr=0.5"]), resume=True)


def test_a_folder_that_cannot_be_written_is_explained(tmp_path, recipe):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UsageError, match="cannot be written"):
        Run(tmp_path / "file" / "run", step="sft", recipe=recipe)


def test_sealed_folders(tmp_path):
    (tmp_path / "a").write_text("1")
    seal(tmp_path, step=3)
    assert check_sealed(tmp_path)["step"] == 3
    (tmp_path / "a").unlink()
    with pytest.raises(CheckpointError, match="incomplete"):
        check_sealed(tmp_path)
