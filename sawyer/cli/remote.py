"""`sawyer serve --engine vllm|tgi --url URL` and `--print-launch`: the model in a server elsewhere."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from sawyer.errors import UsageError
from sawyer.home import Home
from sawyer.recipe import Recipe, load_recipe

if TYPE_CHECKING:
    from serve.engine import Engine

ENGINES = ("local", "tgi", "vllm")


@dataclass(frozen=True)
class RemoteChoice:
    """A model server. ``model`` names its base model where it has several; ``token`` is sent as bearer token."""

    kind: str
    url: str
    model: str | None = None
    token: str | None = None


def choose_engine(engine: str, url: str | None, model: str | None) -> RemoteChoice | None:
    """What the options mean; None is the engine of this process.

    Raises:
        UsageError: the options do not go together.
    """
    if engine not in ENGINES:
        raise UsageError(f"--engine takes {', '.join(ENGINES)}; given: {engine!r}.")
    if engine == "local":
        if url or model:
            raise UsageError(
                f"--{'url' if url else 'remote-model'} is for a model server elsewhere: add --engine vllm or "
                "--engine tgi, or leave it out."
            )
        return None
    if not url:
        raise UsageError(
            f"--engine {engine} needs the address of the server, such as --url http://127.0.0.1:8001. "
            f"`sawyer serve RECIPE --print-launch {engine}` shows how to start one."
        )
    if not url.startswith(("http://", "https://")) or len(url.split("://", 1)[1].strip("/")) == 0:
        raise UsageError(f"--url takes an address such as http://127.0.0.1:8001; given: {url!r}.")
    if model and engine == "tgi":
        raise UsageError("--remote-model is for vLLM; a TGI server has one base model.")
    # People copy the address of OpenAI clients, which ends with /v1.
    address = url.rstrip("/").removesuffix("/v1")
    return RemoteChoice(engine, address, model, os.environ.get("SAWYER_REMOTE_TOKEN") or None)


def make_engine(choice: RemoteChoice, recipe: Recipe, home: Home) -> "Engine":
    """The engine that asks this server; nothing is loaded or asked yet."""
    from sawyer.registry import Registry
    from serve.remote.engine import RemoteEngine
    from serve.remote.prompts import Prompts
    from serve.remote.protocol import Remote
    from serve.remote.tgi import Tgi
    from serve.remote.vllm import Vllm

    def dial(prompts: Prompts) -> Remote:
        if choice.kind == "vllm":
            return Vllm(choice.url, choice.token, prompts.describe, choice.model)
        return Tgi(choice.url, choice.token, prompts)

    return RemoteEngine(recipe, Registry.of(recipe, home), dial)


def print_launch(kind: str, recipe_name: str, home_path: Path | None) -> None:
    """Print a script that starts a model server and SAWYER; nothing is started."""
    from serve.remote.launch import launch_script

    typer.echo(launch_script(kind, load_recipe(recipe_name), Home.find(home_path), recipe_name), nl=False)
