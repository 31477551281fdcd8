"""`sawyer serve --print-launch` and `--engine`: scripts that a shell runs, options that fit, one real start."""

import json
import os
import shlex
import shutil
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
from typer.testing import CliRunner

from sawyer.cli.app import app
from sawyer.cli.remote import choose_engine
from sawyer.errors import ModelError, UsageError
from sawyer.home import Home
from sawyer.recipe import Recipe, load_recipe
from sawyer.registry import Registry
from serve.remote.launch import launch_script
from tests.serve.live import serving
from tests.serve.test_remote_engine import QUESTION, REPLIES, World, until

ROOT = Path(__file__).resolve().parents[2]


def words_of(script: str, tool: str) -> list[str]:
    """The command line of ``tool`` as a shell reads it."""
    joined = script.replace("\\\n", " ").splitlines()
    return next(words for line in joined if (words := shlex.split(line, comments=True))[:1] == [tool])


def after(words: list[str], option: str) -> str:
    return words[words.index(option) + 1]


@pytest.fixture
def home(tmp_path, tiny_backbone, tiny_adapters):
    """Versions under a path with a space and a quote in it."""
    home = Home(tmp_path / "some body's home")
    World("vllm", home, {"base": tiny_backbone, **tiny_adapters})
    return home


def test_the_vllm_script_names_the_current_versions(home):
    script = launch_script("vllm", load_recipe("tiny"), home, "tiny")
    words = words_of(script, "vllm")
    registry = Registry.of(load_recipe("tiny"), home)
    assert words[:3] == ["vllm", "serve", str(registry.current("base").path)] and words[-1] == "&"
    assert after(words, "--served-model-name") == "sawyer-base-1"
    assert (after(words, "--dtype"), after(words, "--max-model-len")) == ("auto", "256"), "LoRA is in 16 bits there"
    assert after(words, "--max-lora-rank") == "8", "the adapters have 4, the recipe 8; vLLM knows 1, 8, 16, …"
    first = words.index("--lora-modules") + 1
    modules = [json.loads(word) for word in words[first:-1]]
    assert modules == [
        {"name": f"sawyer-{stage}-1", "path": str(registry.current(stage).path)} for stage in ("sft", "rlf")
    ]
    sawyer = words_of(script, "sawyer")
    assert sawyer[:3] == ["sawyer", "serve", "tiny"] and after(sawyer, "--home") == str(home.root)
    assert choose_engine(after(sawyer, "--engine"), after(sawyer, "--url"), None).kind == "vllm"
    assert after(words, "--port") in after(sawyer, "--url")


def test_the_tgi_script_names_the_current_versions(home):
    script = launch_script("tgi", load_recipe("tiny"), home, "tiny")
    words = words_of(script, "text-generation-launcher")
    registry = Registry.of(load_recipe("tiny"), home)
    assert after(words, "--model-id") == str(registry.current("base").path)
    assert (after(words, "--max-input-tokens"), after(words, "--max-total-tokens")) == ("255", "256")
    assert "--dtype" not in words, "TGI knows no float32"
    adapters = dict(part.split("=") for part in after(["", *words_of(script, "export")], "export")[14:].split(","))
    assert adapters == {f"sawyer-{stage}-1": str(registry.current(stage).path) for stage in ("sft", "rlf")}
    assert after(words, "--port") in after(words_of(script, "sawyer"), "--url")


@pytest.mark.parametrize("kind", ["vllm", "tgi"])
def test_a_shell_can_run_the_script(kind, home, tmp_path):
    """With programs of those names that note how they were called."""
    tools = tmp_path / "tools"
    tools.mkdir()
    note = tmp_path / "server.json"
    for tool in ("vllm", "text-generation-launcher", "sawyer"):
        # The script ends its server when SAWYER ends, so that this one waits for the note.
        wait = f"while not os.path.exists({str(note)!r}): time.sleep(0.01)\n" if tool == "sawyer" else ""
        goal = tmp_path / "sawyer.json" if tool == "sawyer" else note
        (tools / tool).write_text(
            f"#!{sys.executable}\nimport json, os, sys, time\n{wait}"
            f"json.dump([sys.argv[1:], dict(os.environ)], open({str(goal)!r} + '.new', 'w'))\n"
            f"os.rename({str(goal)!r} + '.new', {str(goal)!r})\n"
        )
        (tools / tool).chmod(0o755)
    script = launch_script(kind, load_recipe("tiny"), home, "tiny")
    environment = {"PATH": f"{tools}:{os.environ['PATH']}", "SAWYER_REMOTE_TOKEN": "secret"}
    done = subprocess.run(["sh"], input=script, text=True, env=environment, capture_output=True, timeout=30)
    assert done.returncode == 0, done.stderr
    sawyer, _ = json.loads((tmp_path / "sawyer.json").read_text())
    assert after(sawyer, "--home") == str(home.root)
    arguments, seen = json.loads(note.read_text())
    assert str(home.root) in " ".join(arguments)
    if kind == "vllm":
        assert (seen["VLLM_ALLOW_RUNTIME_LORA_UPDATING"], seen["VLLM_API_KEY"]) == ("True", "secret")
    else:
        assert seen["API_KEY"] == "secret" and str(home.root) in seen["LORA_ADAPTERS"]


def test_a_backbone_of_the_hub_is_named_as_it_is(tmp_path):
    home = Home(tmp_path / "home")
    words = words_of(launch_script("vllm", load_recipe("llama2-7b"), home, "llama2-7b"), "vllm")
    assert words[2] == "meta-llama/Llama-2-7b-hf" and after(words, "--quantization") == "bitsandbytes"
    assert after(words, "--served-model-name") == "sawyer-base" and "--lora-modules" not in words
    assert after(words, "--max-lora-rank") == "64" and not home.root.exists(), "nothing is written"


def test_what_cannot_be_launched_is_refused(tmp_path, home):
    tiny = load_recipe("tiny")
    with pytest.raises(UsageError, match="vllm or tgi"):
        launch_script("sglang", tiny, home, "tiny")
    with pytest.raises(UsageError, match="no trained model yet"):
        launch_script("vllm", tiny, Home(tmp_path / "empty"), "tiny")
    with pytest.raises(UsageError, match="encoder-decoder"):
        launch_script("vllm", load_recipe("tiny-t5-neutral"), home, "tiny-t5-neutral")
    odd = tmp_path / "a=b"
    odd.symlink_to(home.root)
    moved = home.root.rename(tmp_path / "c,d")
    with pytest.raises(UsageError, match="LORA_ADAPTERS cannot name"):
        launch_script("tgi", tiny, Home(moved), "tiny")
    with pytest.raises(UsageError, match=r"model\.tokenizer"):
        other = Recipe.model_validate({"name": "x", "model": {"backbone": "a/b", "tokenizer": "c/d"}})
        launch_script("tgi", other, Home(moved), "x")


def test_an_adapter_that_is_more_than_lora_is_refused(home):
    folder = Registry.of(load_recipe("tiny"), home).current("sft").path
    shipped = home.root / "shipped"
    shutil.copytree(folder, shipped / "sft", ignore=shutil.ignore_patterns("manifest.json"))
    config = json.loads((folder / "adapter_config.json").read_text()) | {"use_dora": True}
    (shipped / "sft" / "adapter_config.json").write_text(json.dumps(config))
    recipe = Recipe.model_validate({"name": "dora", "shipped": str(shipped), "model": {"backbone": "a/b"}})
    with pytest.raises(ModelError, match="use_dora"):
        launch_script("vllm", recipe, home, "dora")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--engine", "sglang"], "--engine takes local, tgi, vllm"),
        (["--engine", "vllm"], "needs the address"),
        (["--url", "http://127.0.0.1:1"], "add --engine vllm"),
        (["--remote-model", "x"], "add --engine vllm"),
        (["--engine", "tgi", "--url", "localhost:8080"], "--url takes an address"),
        (["--engine", "tgi", "--url", "http://"], "--url takes an address"),
        (["--engine", "tgi", "--url", "http://x", "--remote-model", "y"], "one base model"),
        (["--print-launch", "sglang"], "takes vllm or tgi"),
    ],
)
def test_options_that_do_not_go_together(options, message):
    done = CliRunner().invoke(app, ["serve", "nano", *options])
    assert isinstance(done.exception, UsageError) and message in str(done.exception)


def test_print_launch_prints_the_shipped_versions_of_nano():
    done = CliRunner().invoke(app, ["serve", "nano", "--print-launch", "vllm"])
    assert done.exit_code == 0
    assert {json.loads(word)["name"] for word in words_of(done.stdout, "vllm") if word.startswith("{")} == {
        "sawyer-sft-0",
        "sawyer-rlf-0",
    }


def test_the_address_may_end_as_openai_clients_want_it(monkeypatch):
    monkeypatch.setenv("SAWYER_REMOTE_TOKEN", "secret")
    choice = choose_engine("vllm", "http://127.0.0.1:8001/v1/", None)
    assert (choice.url, choice.token) == ("http://127.0.0.1:8001", "secret")


def test_sawyer_serve_in_front_of_a_model_server(tmp_path, tiny_backbone, tiny_adapters):
    world = World("vllm", Home(tmp_path / "home"), {"base": tiny_backbone, **tiny_adapters})
    with serving(world.app()) as url:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = str(free.getsockname()[1])
        command = ["serve", "tiny", "--home", str(world.home.root), "--port", port, "--engine", "vllm", "--url", url]
        server = subprocess.Popen([sys.executable, "-m", "sawyer.cli.app", *command], cwd=ROOT)
        try:
            address = f"http://127.0.0.1:{port}"

            def ready() -> bool:
                assert server.poll() is None
                try:
                    return urllib.request.urlopen(f"{address}/readyz", timeout=5).status == 200
                except OSError:
                    return False

            until(ready, 60)
            body = json.dumps({"model": "sawyer-rlf", "messages": QUESTION}).encode()
            request = urllib.request.Request(
                f"{address}/v1/chat/completions", body, {"Content-Type": "application/json"}
            )
            answer = json.load(urllib.request.urlopen(request, timeout=20))
            assert answer["choices"][0]["message"]["content"] == REPLIES["sawyer-rlf-1"]
        finally:
            server.terminate()
            assert server.wait(20) in (0, -15)
