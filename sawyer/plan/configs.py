"""Where a plan takes a model's shape from: what the project knows, a folder, a recipe's own section, or the hub."""

import json
import urllib.request
from pathlib import Path
from typing import Any

from sawyer.errors import ModelError
from sawyer.plan.known import KNOWN
from sawyer.plan.shape import Shape, read_shape
from sawyer.recipe import Recipe, RewardPartSpec
from sawyer.recipe.classifiers import RobertaSpec

PATIENCE, LARGEST = 4, 2**20  # seconds that the hub may take, bytes of a config that are read


def shape_of(name: str, revision: str | None = None) -> Shape:
    """The shape of a model by hub id or folder; of the hub its ``config.json`` alone is asked for.

    Raises:
        ModelError: it is neither known nor to be had, or of a kind that a plan is not made for.
    """
    folder = Path(name).expanduser()
    if folder.is_dir():
        return read_shape(_read(folder / "config.json", name), name)
    if name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise ModelError(f"There is no folder {name}. Correct its key in the recipe, or train the model first.")
    if name.lower() in KNOWN:
        return read_shape(KNOWN[name.lower()], name)
    return read_shape(_from_hub(name, revision), name)


def backbone_shape(recipe: Recipe) -> Shape:
    """The shape of ``model.backbone``, or of the one that ``base`` or ``t5`` will train."""
    if recipe.model.backbone is not None:
        return shape_of(recipe.model.backbone, recipe.model.revision)
    if recipe.base is not None:
        own = recipe.base.architecture
        return Shape("decoder", "llama", recipe.base.tokenizer.vocab_size, own.hidden_size, own.intermediate_size,
                     own.layers, own.heads, own.kv_heads or own.heads, own.hidden_size // own.heads, tied=True,
                     positions=recipe.model.context)  # fmt: skip
    assert recipe.t5 is not None
    shape = recipe.t5.architecture
    return Shape("t5", "t5", recipe.t5.tokenizer.vocab_size, shape.hidden_size, shape.intermediate_size, shape.layers,
                 shape.heads, shape.heads, shape.hidden_size // shape.heads, decoder_layers=shape.layers,
                 tied=True)  # fmt: skip


def reward_shape(recipe: Recipe) -> Shape | None:
    """The shape of the reward model that ``reward`` trains; None where its section names nothing to start from."""
    spec = recipe.reward
    if spec is None:
        return None
    if spec.model is not None:
        return shape_of(spec.model, spec.revision)
    return None if spec.scratch is None else _scratch(spec.scratch, spec.max_length)


def part_shape(recipe: Recipe, part: RewardPartSpec) -> Shape | None:
    """The shape of the classifier behind a part of ``ppo.reward``; None where there is none."""
    if part.trained:
        return reward_shape(recipe)
    if part.classifier is not None:
        return shape_of(part.classifier, part.revision)
    if part.own is None or recipe.classifiers is None:
        return None
    own = recipe.classifiers[part.own]
    if own.model is not None:
        return shape_of(own.model, own.revision)
    return None if own.scratch is None else _scratch(own.scratch, own.max_length)


def _scratch(spec: RobertaSpec, longest: int) -> Shape:
    return Shape("roberta", "roberta", spec.vocab_size, spec.hidden_size, spec.intermediate_size, spec.layers,
                 spec.heads, spec.heads, spec.hidden_size // spec.heads, gated=False, tied=True,
                 positions=longest + 2, learned=True)  # fmt: skip


def _read(file: Path, name: str) -> dict[str, Any]:
    try:
        told = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ModelError(f"The folder {name} has no config.json: it is no complete model.") from error
    except (OSError, ValueError) as error:
        raise ModelError(f"The config.json of {name} cannot be read: {error}.") from error
    if not isinstance(told, dict):
        raise ModelError(f"The config.json of {name} is not a mapping of keys to values.")
    return told


def _from_hub(name: str, revision: str | None) -> dict[str, Any]:
    """A model's ``config.json`` from the hub's cache, else from the hub: one request, of which nothing is tried again.

    The hub's own client tries for half a minute where there is no network.
    """
    try:
        from huggingface_hub import constants, get_token, hf_hub_url, try_to_load_from_cache

        cached = try_to_load_from_cache(name, "config.json", revision=revision)
        if isinstance(cached, str):
            return _read(Path(cached), name)
        if constants.HF_HUB_OFFLINE:
            raise OSError("HF_HUB_OFFLINE is set, and it is not in the hub cache")
        token = get_token()
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        request = urllib.request.Request(hf_hub_url(name, "config.json", revision=revision), headers=headers)
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
            told = json.loads(answer.read(LARGEST))
    except (OSError, ValueError, ImportError) as error:
        from sawyer.loading import explain_missing

        raise ModelError(
            f"{explain_missing('config of', name, 'model.backbone', error)} A plan needs its config.json alone: put "
            f"that into a folder and name the folder. Known without network: {', '.join(sorted(KNOWN))}."
        ) from error
    if not isinstance(told, dict):
        raise ModelError(f"The config.json of {name} is not a mapping of keys to values.")
    return told
