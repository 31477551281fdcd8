"""Models from a hub that refuses, is away, breaks off or brings code: what the reader is told, and what goes on."""

import errno
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from sawyer.errors import ModelError
from sawyer.loading import load_config, load_tokenizer, reading
from sawyer.recipe import ModelSpec
from tests.fake_hub import COMMIT, TOKEN, FakeHub, serving

ASK = """
import json, sys
from sawyer.errors import SawyerError
from sawyer.recipe import DataSource, ModelSpec
told = []
for line in sys.stdin:
    ask = json.loads(line)
    try:
        if ask["what"] == "data":
            from sawyer.data import read_records
            read_records(DataSource(name=ask["name"]))
        elif ask["what"] == "weights":
            from sawyer.models import Policy
            Policy.load(ask["name"], spec=ModelSpec(backbone=ask["name"], dtype="float32"))
        elif ask["what"].endswith(".safetensors"):
            from huggingface_hub import hf_hub_download
            from sawyer.loading import reading
            with reading("backbone", ask["name"], "model.backbone"):
                hf_hub_download(ask["name"], ask["what"])
        else:
            from sawyer.loading import load_config
            load_config(ask["name"], ModelSpec(backbone=ask["name"], revision=ask.get("revision")))
        told.append("loaded")
    except SawyerError as error:
        told.append(str(error))
print("ANSWER" + json.dumps(told))
"""
"""The client reads its address and its cache from the environment when it is imported: hence a process of its own."""


@pytest.fixture
def hub(tiny_backbone: Path) -> Iterator[FakeHub]:
    with serving() as hub:
        files = {file.name: file.read_bytes() for file in tiny_backbone.iterdir() if file.is_file()}
        hub.repos |= {"some/model": files, "meta/gated": dict(files)}
        hub.gated.add("meta/gated")
        yield hub


def ask(hub_url: str, cache: Path, *asks: dict[str, Any], **env: str) -> list[str]:
    """What a process with this hub and cache is told, one paragraph for each thing that it asks for."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
    clean |= {"HF_ENDPOINT": hub_url, "HF_HOME": str(cache), "HF_HUB_DISABLE_XET": "1", "HF_HUB_ETAG_TIMEOUT": "5"}
    done = subprocess.run(
        [sys.executable, "-c", ASK],
        input="\n".join(map(json.dumps, asks)),
        env=clean | env,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert "ANSWER" in done.stdout, done.stderr[-2000:]
    return json.loads(done.stdout.split("ANSWER", 1)[1])


def test_without_a_token_the_reader_learns_what_to_accept_and_where_the_token_goes(hub, tmp_path):
    gated, absent, revision, data = ask(
        hub.url,
        tmp_path,
        {"what": "config", "name": "meta/gated"},
        {"what": "config", "name": "no/such"},
        {"what": "config", "name": "some/model", "revision": "v9"},
        {"what": "data", "name": "no/data"},
    )
    assert f"open {hub.url}/meta/gated in a browser" in gated and "accept its terms" in gated
    assert "set HF_TOKEN to it" in gated and "No token is set now" in gated and "backbone 'meta/gated'" in gated
    assert "no such model on the hub, or it is private" in absent and "model.backbone" in absent
    assert "no such revision: correct model.revision" in revision
    assert "no such dataset on the hub, or it is private" in data and f"{hub.url}/datasets/no/data" in data


def test_with_a_token_that_may_not_or_is_wrong_the_cure_is_another(hub, tmp_path):
    (gated,) = ask(hub.url, tmp_path, {"what": "config", "name": "meta/gated"}, HF_TOKEN=TOKEN)
    assert "with the account that your token belongs to" in gated and "fine-grained token" in gated
    assert TOKEN not in gated
    (wrong,) = ask(hub.url, tmp_path, {"what": "config", "name": "some/model"}, HF_TOKEN="hf_old")
    assert "refuses the token in HF_TOKEN" in wrong and "hf_old" not in wrong


def test_offline_loads_what_the_cache_holds_and_says_how_to_fill_it(hub, tmp_path):
    assert ask(hub.url, tmp_path, {"what": "weights", "name": "some/model"}) == ["loaded"]
    known, unknown = ask(
        "http://127.0.0.1:1",
        tmp_path,
        {"what": "weights", "name": "some/model"},
        {"what": "config", "name": "other/model"},
        HF_HUB_OFFLINE="1",
    )
    assert known == "loaded"
    assert "HF_HUB_OFFLINE is set" in unknown and "`hf download other/model`" in unknown and str(tmp_path) in unknown


def test_a_hub_that_cannot_be_reached_is_told_from_a_name_that_is_wrong(tmp_path):
    (away,) = ask("http://127.0.0.1:1", tmp_path, {"what": "config", "name": "some/model"})
    assert "could not be reached" in away and "path of a folder in model.backbone" in away


def test_a_download_that_breaks_off_goes_on_where_it_stopped(hub, tmp_path):
    hub.repos["some/model"]["big.safetensors"] = bytes(25 * 2**20)
    hub.break_after["big.safetensors"] = 15 * 2**20
    assert ask(hub.url, tmp_path, {"what": "big.safetensors", "name": "some/model"}) == ["loaded"]
    assert hub.ranges == [f"big.safetensors from {10 * 2**20}"]  # the client writes pieces of 10 MiB


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (httpx.RemoteProtocolError("peer closed connection"), "was interrupted. What was downloaded so far is kept"),
        (httpx.ReadTimeout("timed out"), "was interrupted"),
        (OSError("Consistency check failed: file should be of size 9"), "was interrupted"),
        (httpx.ConnectError("no route"), "could not be reached"),
        (
            OSError(errno.ENOSPC, "No space left on device"),
            "is full: free some space or name another folder in HF_HOME",
        ),
    ],
)
def test_what_ends_a_download_is_told_and_that_it_goes_on(error, told, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    with pytest.raises(ModelError, match="the same command goes on from there") as caught, \
            reading("backbone", "some/model", "model.backbone"):  # fmt: skip
        raise error
    assert told in str(caught.value)


def test_errors_that_are_not_the_hubs_pass_or_keep_their_reason():
    with pytest.raises(ZeroDivisionError), reading("backbone", "some/model", "model.backbone"):
        raise ZeroDivisionError
    with pytest.raises(ModelError, match=r"odd shape\. Check the name, or give the path"), \
            reading("backbone", "some/model", "model.backbone"):  # fmt: skip
        raise ValueError("odd shape")


def test_a_pinned_revision_is_what_is_asked_for(hub, tmp_path):
    assert ask(hub.url, tmp_path, {"what": "config", "name": "some/model", "revision": COMMIT}) == ["loaded"]


def test_the_tokenizer_has_a_revision_of_its_own(monkeypatch):
    from transformers import AutoTokenizer

    asked: list[tuple[str, str | None]] = []

    def refuse(name: str, *, revision: str | None, **_: Any) -> Any:
        asked.append((name, revision))
        raise OSError("not here")

    monkeypatch.setattr(AutoTokenizer, "from_pretrained", refuse)
    for spec, name in (
        (ModelSpec(backbone="a/b", revision="r1"), "a/b"),
        (ModelSpec(backbone="a/b", revision="r1", tokenizer="c/d", tokenizer_revision="r2"), "c/d"),
    ):
        with pytest.raises(ModelError):
            load_tokenizer(name, spec)
    assert asked == [("a/b", "r1"), ("c/d", "r2")]


@pytest.fixture
def with_code(tmp_path: Path) -> Path:
    """A model whose configuration is Python code, which leaves a mark when it runs."""
    folder = tmp_path / "coded"
    folder.mkdir()
    config = {"model_type": "coded", "auto_map": {"AutoConfig": "coded.CodedConfig"}}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "coded.py").write_text(
        "from pathlib import Path\nfrom transformers import PretrainedConfig\n"
        f"Path({str(tmp_path / 'ran')!r}).touch()\n"
        "class CodedConfig(PretrainedConfig):\n    model_type = 'coded'\n"
    )
    return folder


def test_a_repositorys_code_is_run_only_if_the_recipe_says_so(with_code, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_MODULES_CACHE", str(tmp_path / "modules"))
    with pytest.raises(ModelError, match=r"code of its own.*model.trust_remote_code: true"):
        load_config(with_code, ModelSpec(backbone=str(with_code)))
    assert not (tmp_path / "ran").exists()
    load_config(with_code, ModelSpec(backbone=str(with_code), trust_remote_code=True))
    assert (tmp_path / "ran").exists()


def test_classifiers_never_bring_code(with_code, tiny_classifier, tmp_path):
    for file in tiny_classifier.glob("tokenizer*"):
        shutil.copy(file, with_code)
    from sawyer.scoring.classifier import ClassifierScorer
    from train.reward_model import load_classifier

    for load in (lambda: ClassifierScorer(with_code), lambda: load_classifier(with_code, 16)):
        with pytest.raises(ModelError, match="Classifiers with code of their own are not loaded"):
            load()
    assert not (tmp_path / "ran").exists()
