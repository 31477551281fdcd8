"""`sawyer models push`: what a repository holds, that it loads, that nothing else goes out, and what a refusal says."""

import json
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from sawyer.cli.app import app
from sawyer.errors import CheckpointError, SawyerError, UsageError
from sawyer.home import Home
from sawyer.publishing import plan, push, write_repo
from sawyer.recipe import Recipe, load_recipe
from sawyer.registry import Registry
from tests.fake_hub import TOKEN, FakeHub, serving

ADAPTER = {"README.md", "adapter_config.json", "adapter_model.safetensors"}


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home").ensure()


@pytest.fixture
def recipe() -> Recipe:
    """A recipe on a backbone of the hub, with data from the hub and from a file."""
    sources = [{"name": "some/data"}, {"name": "/secret/place/own.jsonl"}]
    return Recipe(
        name="mine", model={"backbone": "some/model", "revision": "abc"}, sft={"sources": sources, "lr": 0.0003}
    )


@pytest.fixture
def sft(home, recipe, tiny_adapters):
    return Registry.of(recipe, home).register("sft", tiny_adapters["sft"], info={"note": str(home.root)})


@pytest.fixture
def hub(monkeypatch):
    with serving() as hub:
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", hub.url)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
        # The fake speaks git-lfs's protocol, which the hub takes as well.
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        yield hub


def files_of(folder: Path) -> set[str]:
    return {file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file()}


def test_an_adapters_folder_has_weights_config_and_card_and_nothing_of_this_machine(home, recipe, sft, tmp_path):
    folder = write_repo(plan(recipe, sft, "me/mine-sft"), home)
    assert files_of(folder) == ADAPTER
    config = json.loads((folder / "adapter_config.json").read_text())
    assert (config["base_model_name_or_path"], config["revision"]) == ("some/model", "abc")
    _, head, text = (folder / "README.md").read_text().split("---\n", 2)
    told = yaml.safe_load(head)
    assert told["base_model"] == "some/model" and told["library_name"] == "peft" and told["datasets"] == ["some/data"]
    assert 'AutoPeftModelForCausalLM.from_pretrained("me/mine-sft")' in text
    assert "| sft.lr | 0.0003 |" in text and "Not evaluated" in text and "own.jsonl (a local file)" in text
    for name in ("README.md", "adapter_config.json"):
        assert str(tmp_path) not in (folder / name).read_text() and "/secret" not in (folder / name).read_text()


def test_the_report_goes_along_if_it_is_of_this_version(home, recipe, sft):
    for name, ref in (("evaluate", "sft@7"), ("evaluate-2", sft.ref)):
        run = home.runs / "mine" / name
        run.mkdir(parents=True)
        (run / "report.json").write_text(json.dumps({"stages": [{"version": ref}]}))
        (run / "report.html").write_text(name)
        (run / "rewards.png").write_bytes(b"png")
        (run / "answers.jsonl").write_text("people's prompts stay here")
    folder = write_repo(plan(recipe, sft, "me/mine-sft"), home)
    assert files_of(folder) == ADAPTER | {"report.json", "report.html", "rewards.png"}
    assert (folder / "report.html").read_text() == "evaluate-2"


def test_the_base_of_the_nano_model_and_its_report_model_are_whole_models(home, tmp_path):
    recipe = load_recipe("nano")
    registry = Registry.of(recipe, home)
    base = write_repo(plan(recipe, registry.get("base"), "me/nano-base"), home)
    assert {"model.safetensors", "config.json", "tokenizer.json", "README.md"} <= files_of(base)
    assert "manifest.json" not in files_of(base) and "AutoModelForCausalLM" in (base / "README.md").read_text()
    reward = write_repo(plan(recipe, registry.get("reward"), "me/nano-reward"), home)
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    AutoModelForSequenceClassification.from_pretrained(reward)
    assert AutoTokenizer.from_pretrained(reward)("hello").input_ids


def test_an_adapter_on_an_own_base_needs_that_base_first(home):
    recipe = load_recipe("nano")
    rlf = Registry.of(recipe, home).get("rlf")
    with pytest.raises(UsageError, match=r"models push nano base OWNER/NAME.*--backbone"):
        plan(recipe, rlf, "me/nano-rlf")
    folder = write_repo(plan(recipe, rlf, "me/nano-rlf", "me/nano-base"), home)
    assert json.loads((folder / "adapter_config.json").read_text())["base_model_name_or_path"] == "me/nano-base"


@pytest.mark.parametrize("name", ["nano", "a/b/c", "../x/y", "me/", "me/a--b", "me/ü b", ""])
def test_names_that_are_none_are_refused(home, recipe, sft, name):
    with pytest.raises(UsageError, match="OWNER/NAME"):
        plan(recipe, sft, name)


def test_a_version_with_a_pickle_is_refused(home, recipe, sft):
    (sft.path / "extra.bin").write_bytes(b"pickle")
    with pytest.raises(CheckpointError, match="pickle"):
        write_repo(plan(recipe, sft, "me/mine-sft"), home)


def test_dry_run_writes_and_lists_and_asks_nobody(home, hub, tmp_path):
    command = ["models", "push", "nano", "base", "me/nano-base", "--dry-run", "--home", str(home.root)]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    assert "model.safetensors" in done.output and "Nothing was pushed" in done.output
    assert (home.root / "push" / "nano" / "base-0" / "README.md").is_file()
    assert hub.created == [] and hub.commits == []


def test_push_makes_a_private_repository_with_one_commit(home, hub: FakeHub, recipe, sft):
    publication = plan(recipe, sft, "me/mine-sft")
    folder = write_repo(publication, home)
    assert push(publication, folder, private=True) == f"{hub.url}/me/mine-sft/commit/{'c' * 40}"
    assert hub.created[0]["name"] == "mine-sft"
    assert hub.created[0].get("private") is True or hub.created[0].get("visibility") == "private"
    assert len(hub.commits) == 1 and "sft@1" in hub.commits[0][0]["value"]["summary"]
    for name, content in hub.repos["me/mine-sft"].items():
        assert (folder / name).read_bytes() == content
    assert set(hub.repos["me/mine-sft"]) == ADAPTER


def test_push_with_a_wrong_token_says_where_the_right_one_goes(home, hub, recipe, sft, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_old")
    publication = plan(recipe, sft, "me/mine-sft")
    with pytest.raises(SawyerError, match="refuses the token in HF_TOKEN") as caught:
        push(publication, write_repo(publication, home), private=True)
    assert "hf_old" not in str(caught.value) and hub.commits == []


def test_push_while_offline_says_so(home, hub, recipe, sft, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    publication = plan(recipe, sft, "me/mine-sft")
    with pytest.raises(UsageError, match="HF_HUB_OFFLINE is set: unset it"):
        push(publication, write_repo(publication, home), private=True)
    assert hub.created == []
