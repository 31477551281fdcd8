"""The registry of versions: numbering, promotion, rollback, damage."""

import json
import multiprocessing
import os
from pathlib import Path

import pytest
from typer.testing import CliRunner

from sawyer.cli.models import app
from sawyer.errors import CheckpointError, UsageError
from sawyer.registry import Registry
from sawyer.runs import seal
from sawyer.weights import check_weights


def safetensors(values: bytes = b"\x00" * 8) -> bytes:
    """A whole safetensors file with one tensor, written by hand."""
    header = json.dumps({"w": {"dtype": "U8", "shape": [len(values)], "data_offsets": [0, len(values)]}}).encode()
    return len(header).to_bytes(8, "little") + header + values


def trained(folder: Path, content: str = "1", **manifest) -> Path:
    """A folder as a training step leaves it."""
    folder.mkdir(parents=True)
    (folder / "adapter_config.json").write_text("{}")
    (folder / "adapter_model.safetensors").write_bytes(safetensors(content.encode()))
    (folder / "tokenizer").mkdir()
    (folder / "tokenizer" / "vocab.json").write_text("{}")
    if manifest:
        seal(folder, **manifest)
    return folder


@pytest.fixture
def registry(tmp_path):
    return Registry(tmp_path / "registry", "nano")


@pytest.fixture
def add(registry, tmp_path):
    """Register a new version of a stage; each has other weights."""
    counter = iter(range(1000))

    def adding(stage, registry=registry, **info):
        number = next(counter)
        return registry.register(stage, trained(tmp_path / f"run-{number}", f"weights {number}"), info=info)

    return adding


@pytest.fixture
def shipped(tmp_path):
    """Weights that come with the package."""
    for stage in ("base", "sft", "rlf", "reward"):
        trained(tmp_path / "shipped" / stage, stage)
    return tmp_path / "shipped"


def refs(registry):
    return [version.ref for version in registry.versions() if version.current]


def test_versions_are_numbered_and_keep_what_is_known(registry, add, tmp_path):
    first = add("sft", loss=1.25, backbone="abc")
    add("sft")
    add("reward")
    assert [v.ref for v in registry.versions()] == ["sft@1", "sft@2", "reward@1"]
    again = registry.get("sft@1")
    assert again == first and again.info == {"loss": 1.25, "backbone": "abc"} and not again.current
    assert (again.path / "tokenizer" / "vocab.json").read_text() == "{}"
    manifest = json.loads((again.path / "manifest.json").read_text())
    names = ["adapter_config.json", "adapter_model.safetensors", "tokenizer/vocab.json"]
    assert sorted(manifest["files"]) == names and (manifest["stage"], manifest["number"]) == ("sft", 1)
    assert not list(registry.folder.glob("*/.new-*"))


def test_a_trainers_own_manifest_is_checked_and_kept(registry, tmp_path):
    source = trained(tmp_path / "run", step="sft", backbone="abc")
    version = registry.register("sft", source, info={"loss": 1.0})
    assert version.info == {"backbone": "abc", "loss": 1.0}
    assert json.loads((version.path / "manifest.json").read_text())["step"] == "sft"
    (source / "tokenizer" / "vocab.json").write_text("{ }")
    with pytest.raises(CheckpointError, match=r"vocab\.json"):
        registry.register("sft", source, info={})


def test_registering_the_same_again_is_the_same_version(registry, tmp_path):
    source = trained(tmp_path / "run")
    first = registry.register("sft", source, info={"steps": (1, 2)})
    assert registry.register("sft", source, info={"steps": (1, 2)}) == first
    second = registry.register("sft", source, info={"steps": (1, 3)})
    assert second.ref == "sft@2"
    damage_by("altered", second.path)
    assert registry.register("sft", source, info={"steps": (1, 3)}).ref == "sft@3"


def test_promote_and_rollback_walk_the_trail(registry, add):
    for _ in range(3):
        add("sft")
    assert registry.current("sft") is None
    for reference in ("sft@1", "sft@2", "sft@3"):
        registry.promote(reference)
    registry.promote("sft@3")  # again: no second entry on the trail
    assert registry.current("sft").ref == "sft@3" and registry.get("sft").current
    assert registry.rollback("sft").ref == "sft@2"
    assert registry.rollback("sft").ref == "sft@1"
    with pytest.raises(UsageError, match="no earlier version"):
        registry.rollback("sft")
    registry.promote("sft@3")
    assert registry.rollback("sft").ref == "sft@1"
    actions = [entry["action"] for entry in registry.promotions.history()]
    assert actions == ["promote"] * 4 + ["rollback"] * 2 + ["promote", "rollback"]


def test_several_stages_are_promoted_together_or_not_at_all(registry, add):
    add("sft"), add("rlf")
    registry.promote("sft@1", "rlf@1")
    assert refs(registry) == ["sft@1", "rlf@1"]
    add("sft")
    with pytest.raises(UsageError, match=r"no version rlf@9\. There are: rlf@1"):
        registry.promote("sft@2", "rlf@9")
    assert refs(registry) == ["sft@1", "rlf@1"]


def test_shipped_weights_are_version_zero_until_something_is_promoted(tmp_path, shipped, add):
    registry = Registry(tmp_path / "registry", "nano", shipped)
    assert refs(registry) == ["base@0", "sft@0", "rlf@0", "reward@0"]
    assert registry.current("sft").info == {"shipped": True} and registry.current("sft").path == shipped / "sft"
    add("sft", registry)
    registry.promote("sft@1")
    assert refs(registry) == ["base@0", "sft@1", "rlf@0", "reward@0"]
    assert registry.rollback("sft").number == 0
    registry.promote("sft@1")
    assert refs(Registry(tmp_path / "registry", "nano")) == ["sft@1"]


def test_a_new_base_drops_adapters_of_another(registry, add):
    add("base", fingerprint="A"), add("base", fingerprint="B")
    add("sft", backbone="A"), add("rlf", backbone="A"), add("sft", backbone="B"), add("reward")
    registry.promote("base@1", "sft@1", "rlf@1", "reward@1")
    registry.promote("base@2", "sft@2")
    assert refs(registry) == ["base@2", "sft@2", "reward@1"]
    with pytest.raises(CheckpointError, match="rlf@1 was made for another backbone than base@2"):
        registry.promote("rlf@1")
    with pytest.raises(UsageError, match="no earlier version"):
        registry.rollback("sft")  # sft@1 would not fit
    assert registry.rollback("base").ref == "base@1"
    assert refs(registry) == ["base@1", "sft@1", "rlf@1", "reward@1"]


def test_a_new_base_drops_shipped_adapters(tmp_path, shipped, add):
    registry = Registry(tmp_path / "registry", "nano", shipped)
    add("base", registry, fingerprint="A"), add("sft", registry, backbone="A")
    registry.promote("base@1", "sft@1")
    assert refs(registry) == ["base@1", "sft@1", "reward@0"]
    with pytest.raises(CheckpointError, match="rlf@0 was made for another backbone"):
        registry.promote("rlf@0")
    registry.rollback("base")
    assert refs(registry) == ["base@0", "sft@0", "rlf@0", "reward@0"]


@pytest.mark.parametrize("reference", ["sft@", "gpt@1", "sft@-1", "sft@1x", "../sft@1", "sft/1", ""])
def test_references_that_name_nothing(registry, reference):
    with pytest.raises(UsageError, match="names no version"):
        registry.get(reference)


def test_wrong_requests(registry, add, tmp_path):
    add("sft")
    for call, message in (
        (lambda: registry.promote("sft"), "stage@number"),
        (lambda: registry.promote("sft@1", "sft@1"), "each stage once"),
        (lambda: registry.rollback("gpt"), "Unknown stage 'gpt'"),
        (lambda: registry.get("rlf"), "no version rlf. There are: none"),
        (lambda: Registry(tmp_path, "../escape"), "cannot name a registry folder"),
    ):
        with pytest.raises(UsageError, match=message):
            call()


def damage_by(action: str, folder: Path) -> None:
    weights = folder / "adapter_model.safetensors"
    if action == "truncated":
        weights.write_bytes(weights.read_bytes()[:-1])
    elif action == "altered":
        weights.write_bytes(weights.read_bytes()[:-1] + b"?")
    elif action == "missing":
        weights.unlink()
    elif action == "no manifest":
        (folder / "manifest.json").unlink()
    elif action == "torn manifest":
        manifest = (folder / "manifest.json").read_text()
        (folder / "manifest.json").write_text(manifest[: len(manifest) // 2])
    elif action == "pickle":
        (folder / "optimizer.pt").write_bytes(b"\x80\x04.")


@pytest.mark.parametrize("action", ["truncated", "altered", "missing", "no manifest", "torn manifest", "pickle"])
def test_damaged_versions_are_refused_and_named(registry, add, action):
    version = add("sft")
    add("sft")
    registry.promote("sft@1")
    damage_by(action, version.path)
    fresh = Registry(registry.folder.parent, "nano")
    for call in (lambda: fresh.get("sft@1"), lambda: fresh.current("sft"), lambda: fresh.promote("sft@1")):
        with pytest.raises(CheckpointError, match=str(version.path)) as caught:
            call()
        assert "\n" not in str(caught.value)
    assert fresh.get("sft@2").ref == "sft@2"
    assert "sft@2" in [v.ref for v in fresh.versions()]
    if action in ("missing", "no manifest", "torn manifest"):
        assert [v.ref for v in fresh.versions()] == ["sft@2"]
        assert str(version.path) in fresh.damaged()[0]


def test_damage_after_the_first_check_is_noticed(registry, add):
    version = add("sft")
    registry.promote("sft@1")
    assert registry.current("sft") == registry.current("sft")
    damage_by("altered", version.path)
    with pytest.raises(CheckpointError, match="altered or torn"):
        registry.current("sft")


def test_damaged_state_is_explained(registry, add):
    add("sft")
    registry.promote("sft@1")
    (registry.folder / "state.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"state\.json is damaged"):
        registry.current("sft")


def test_sources_that_are_refused(registry, tmp_path):
    torn = trained(tmp_path / "torn")
    damage_by("truncated", torn)
    pickled = trained(tmp_path / "pickled")
    (pickled / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    empty = tmp_path / "empty"
    empty.mkdir()
    shards = trained(tmp_path / "shards")
    index = {"weight_map": {"a": "adapter_model.safetensors", "b": "model-2.safetensors"}}
    (shards / "model.safetensors.index.json").write_text(json.dumps(index))
    for source, message in (
        (torn, "not a whole safetensors file"),
        (pickled, "pytorch_model.bin is a pickle file"),
        (empty, "holds no .safetensors"),
        (shards, "lacks 1 of 2 weight files, first model-2"),
        (tmp_path / "nowhere", "There is no folder"),
    ):
        with pytest.raises(CheckpointError, match=message):
            registry.register("sft", source, info={})
    assert registry.versions() == []


def test_check_weights_agrees_with_the_safetensors_library(tmp_path):
    numpy = pytest.importorskip("numpy")
    from safetensors.numpy import save_file

    arrays = {"a": numpy.zeros((3, 5), "float32"), "b": numpy.ones(7, "int64"), "empty": numpy.zeros((0, 2))}
    save_file(arrays, tmp_path / "model.safetensors", metadata={"format": "pt"})
    check_weights(tmp_path)


def test_a_full_disk_adds_no_version(registry, add, tmp_path, monkeypatch):
    add("sft")

    def no_room(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("sawyer.weights.shutil.copyfile", no_room)
    with pytest.raises(CheckpointError, match="No space left on device"):
        registry.register("sft", trained(tmp_path / "run"), info={})
    assert [v.ref for v in registry.versions()] == ["sft@1"]
    assert os.listdir(registry.folder / "sft") == ["1"]


def register_many(root: Path, source: Path, name: str) -> None:
    registry = Registry(root, "nano")
    for number in range(8):
        version = registry.register("sft", source, info={"by": f"{name}-{number}"})
        registry.promote(version.ref)


def test_two_processes_share_a_registry(tmp_path):
    source = trained(tmp_path / "run")
    context = multiprocessing.get_context("spawn")
    root = tmp_path / "registry"
    workers = [context.Process(target=register_many, args=(root, source, name)) for name in ("a", "b")]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
        assert worker.exitcode == 0
    registry = Registry(root, "nano")
    assert [v.number for v in registry.versions("sft")] == list(range(1, 17))
    assert len({v.info["by"] for v in registry.versions("sft")}) == 16
    assert len(registry.promotions.history()) == 16
    assert registry.current("sft").ref == registry.promotions.history()[-1]["versions"][0]


RECIPE = "name: nano\nmodel:\n  backbone: some/backbone\n"


def test_models_commands(registry, add, tmp_path):
    recipe = tmp_path / "nano.yaml"
    recipe.write_text(RECIPE)

    def run(*arguments):
        return CliRunner(env={"COLUMNS": "200"}).invoke(app, [*arguments, "--home", str(tmp_path)])

    assert "no versions yet" in run("list", str(recipe)).output
    add("sft", loss=1.23456789), add("sft"), add("rlf")
    promoted = run("promote", str(recipe), "sft@1", "rlf@1")
    assert promoted.exit_code == 0 and "sft: none -> sft@1" in promoted.output
    assert "sft: sft@1 -> sft@2" in run("promote", str(recipe), "sft@2").output
    assert "sft: sft@2 -> sft@1" in run("rollback", str(recipe), "sft").output
    listing = run("list", str(recipe)).output
    assert "sft@2" in listing and "loss 1.235" in listing and listing.count("*") == 2
    (registry.folder / "rlf" / "1" / "manifest.json").unlink()
    assert "Damaged:" in run("list", str(recipe)).output
    assert isinstance(run("rollback", str(recipe), "rlf").exception, UsageError)
    assert isinstance(run("promote", str(recipe), "sft@9").exception, UsageError)
