"""Scripts that start a model server with a recipe's current versions, and SAWYER in front of it.

Options: https://docs.vllm.ai/en/stable/cli/serve.html and
https://huggingface.co/docs/text-generation-inference/reference/launcher
"""

import json
from collections.abc import Sequence
from pathlib import Path
from shlex import quote

from sawyer.errors import ModelError, UsageError
from sawyer.home import Home
from sawyer.recipe import Recipe
from sawyer.registry import Registry
from sawyer.stage_version import ADAPTERS, Version
from serve.remote.protocol import remote_name

PORTS = {"vllm": 8001, "tgi": 8080}
_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""What vLLM's --max-lora-rank may be: MaxLoRARanks in vllm/config/lora.py."""

_HEAD = """\
#!/bin/sh
# {server} with the current versions of recipe {recipe}, and SAWYER in front of it. Written by
#   sawyer serve {argument} --print-launch {kind}
# On two machines, run one half on each: {places}.
# With SAWYER_REMOTE_TOKEN set, the model server asks for it and SAWYER sends it.
set -eu
"""
_TAIL = """
model_server=$!
trap 'kill "$model_server" 2>/dev/null || true' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# SAWYER waits until the model server answers: GET /readyz says how things are.
{sawyer}
"""


def launch_script(kind: str, recipe: Recipe, home: Home, argument: str) -> str:
    """A shell script; nothing is started and nothing is loaded.

    Args:
        kind: ``vllm`` or ``tgi``.
        argument: how the recipe was named on the command line.

    Raises:
        UsageError: the kind is unknown, the recipe is an encoder-decoder, nothing was trained yet, or a path cannot be
            said in TGI's option. ModelError: an adapter is of a sort that neither server applies.
    """
    if kind not in PORTS:
        raise UsageError(f"--print-launch takes vllm or tgi; given: {kind!r}.")
    if recipe.t5 is not None:
        raise UsageError(f"Recipe {recipe.name} has an encoder-decoder, whose adapters neither vLLM nor TGI serves.")
    registry = Registry.of(recipe, home)
    base = registry.current("base") if recipe.model.backbone is None else None
    if recipe.model.backbone is None and base is None:
        raise UsageError(f"Recipe {recipe.name} has no trained model yet. Train it with `sawyer pipeline {argument}`.")
    adapters = [version for stage in ADAPTERS if (version := registry.current(stage)) is not None]
    ranks = [_rank(version) for version in adapters]
    model = str(base.path.resolve()) if base else _backbone(recipe)
    write = _vllm if kind == "vllm" else _tgi
    head = _HEAD.format(
        server={"vllm": "vLLM", "tgi": "Text Generation Inference"}[kind],
        recipe=recipe.name,
        argument=argument,
        kind=kind,
        places="the folders below must be at the same places on both, and --url must name the other"
        if kind == "vllm"
        else "the folders below must be there, and --url must name the other",
    )
    named = str(Path(argument).resolve()) if Path(argument).is_file() else argument
    sawyer = ["sawyer", "serve", named, "--home", str(home.root), "--engine", kind]
    sawyer += ["--url", f"http://127.0.0.1:{PORTS[kind]}"]
    server = write(recipe, model, base, adapters, max([recipe.lora.r, *ranks]))
    return head + server + _TAIL.format(sawyer=" ".join(map(quote, sawyer)))


def _vllm(recipe: Recipe, model: str, base: Version | None, adapters: Sequence[Version], rank: int) -> str:
    spec = recipe.model
    largest = next((allowed for allowed in _RANKS if allowed >= rank), None)
    if largest is None:
        raise ModelError(
            f"An adapter has rank {rank}; vLLM serves at most {_RANKS[-1]}. Train one with a smaller lora.r."
        )
    options = [
        ["--served-model-name", remote_name(base.ref) if base else "sawyer-base"],
        ["--host", "127.0.0.1", "--port", str(PORTS["vllm"])],
        # Its LoRA kernels compute in 16 bits alone; "auto" makes float16 of a float32 checkpoint.
        ["--dtype", "auto" if spec.dtype == "float32" else spec.dtype, "--max-model-len", str(spec.context)],
        ["--generation-config", "vllm"],  # the checkpoint's own sampling settings are not for us
        ["--max-logprobs", "20"],
        ["--enable-lora", "--max-loras", str(max(2, len(adapters))), "--max-cpu-loras", "8"],
        ["--max-lora-rank", str(largest)],
    ]
    options += [["--revision", spec.revision]] if spec.revision else []
    options += [["--tokenizer", _local(spec.tokenizer)]] if spec.tokenizer else []
    options += [["--trust-remote-code"]] if spec.trust_remote_code else []
    options += [["--quantization", "bitsandbytes"]] if spec.quantization == "nf4" else []
    # The JSON form, because a path may hold "=".
    modules = [{"name": remote_name(version.ref), "path": str(version.path.resolve())} for version in adapters]
    options += [["--lora-modules", *(json.dumps(module, ensure_ascii=False) for module in modules)]] if modules else []
    return (
        "# Lets SAWYER load versions that are promoted later. Whoever reaches the port may then load adapters:\n"
        "# leave it out where that is not SAWYER alone.\n"
        "export VLLM_ALLOW_RUNTIME_LORA_UPDATING=True\n"
        'if [ -n "${SAWYER_REMOTE_TOKEN:-}" ]; then export VLLM_API_KEY="$SAWYER_REMOTE_TOKEN"; fi\n\n'
        + _command(["vllm", "serve", model], options)
    )


def _tgi(recipe: Recipe, model: str, base: Version | None, adapters: Sequence[Version], rank: int) -> str:
    spec = recipe.model
    if spec.tokenizer:
        raise UsageError(
            f"Recipe {recipe.name} has model.tokenizer {spec.tokenizer}; TGI reads the backbone's own only."
        )
    said = []
    for version in adapters:
        path = str(version.path.resolve())
        if any(sign in path for sign in ",=@"):
            raise UsageError(
                f"The folder of {version.ref} is {path}; TGI's LORA_ADAPTERS cannot name a path with ',', '=' or '@'. "
                "Keep the home elsewhere (--home DIR)."
            )
        said.append(f"{remote_name(version.ref)}={path}")
    options = [
        ["--hostname", "127.0.0.1", "--port", str(PORTS["tgi"])],
        ["--max-input-tokens", str(spec.context - 1), "--max-total-tokens", str(spec.context)],
        ["--max-stop-sequences", "16", "--max-top-n-tokens", "20"],
    ]
    options += [["--dtype", spec.dtype]] if spec.dtype in ("float16", "bfloat16") else []  # the two it knows
    options += [["--revision", spec.revision]] if spec.revision else []
    options += [["--trust-remote-code"]] if spec.trust_remote_code else []
    options += [["--quantize", "bitsandbytes-nf4"]] if spec.quantization == "nf4" else []
    adapters_line = f"export LORA_ADAPTERS={quote(','.join(said))}\n" if said else ""
    return (
        "# TGI loads adapters only when it starts: run a new script after a promotion.\n"
        + adapters_line
        + 'if [ -n "${SAWYER_REMOTE_TOKEN:-}" ]; then export API_KEY="$SAWYER_REMOTE_TOKEN"; fi\n\n'
        + _command(["text-generation-launcher", "--model-id", model], options)
    )


def _command(command: Sequence[str], options: Sequence[Sequence[str]]) -> str:
    """One option a line, sent to the background."""
    lines = [" ".join(map(quote, command)), *(" ".join(map(quote, option)) for option in options)]
    return " \\\n  ".join(lines) + " &"


def _backbone(recipe: Recipe) -> str:
    assert recipe.model.backbone is not None, recipe.name
    return _local(recipe.model.backbone)


def _local(name: str) -> str:
    """A folder by its absolute path, a name of the hub as it is."""
    return str(Path(name).resolve()) if Path(name).is_dir() else name


def _rank(version: Version) -> int:
    """The largest rank in an adapter.

    Raises:
        ModelError: its config cannot be read, or it is more than LoRA.
    """
    file = version.path / "adapter_config.json"
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
        rank = max([int(config["r"]), *map(int, (config.get("rank_pattern") or {}).values())])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(
            f"{version.ref} has no readable adapter_config.json ({error}). Train the stage again."
        ) from error
    more = [key for key in ("use_dora", "modules_to_save") if config.get(key)]
    if config.get("bias", "none") != "none":
        more.append("bias")
    if more:
        raise ModelError(f"{version.ref} is more than LoRA ({', '.join(more)}), which vLLM and TGI do not serve.")
    return rank
