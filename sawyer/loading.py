"""Finding and reading model files: configs and tokenizers, safetensors only, and errors that say what to do."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sawyer import hub
from sawyer.errors import ModelError
from sawyer.recipe import ModelSpec

OWN_BACKBONE = "Train it again on this one, or name its own in model.backbone."
PICKLED = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")


def refuse_pickle(folder: Path) -> None:
    """Refuse a folder whose weights are pickled: loading a pickle runs code from it.

    Raises:
        ModelError: there are pickled weights and no safetensors.
    """
    pickled = [file.name for pattern in PICKLED for file in folder.glob(pattern) if file.name != "training_args.bin"]
    if pickled and not any(folder.glob("*.safetensors")):
        raise ModelError(
            f"The weights in {folder} are pickled ({pickled[0]}) and loading them could run code. "
            "Only safetensors are read: convert them with transformers' save_pretrained."
        )


def load_config(name: str | Path, spec: ModelSpec) -> Any:
    """Read a model's config with every dropout rate set to zero. Raises ModelError when it is not to be had."""
    from transformers import AutoConfig

    _check_folder(name, "config.json", "model.backbone")
    with reading("backbone", name, "model.backbone"):
        config = AutoConfig.from_pretrained(str(name), revision=spec.revision, trust_remote_code=spec.trust_remote_code)
    zero_dropout(config)
    return config


def zero_dropout(config: Any) -> None:
    """Set every dropout rate of a config to zero, in place."""
    for key, value in vars(config).items():
        if ("dropout" in key or key.endswith("pdrop")) and isinstance(value, float):
            setattr(config, key, 0.0)


def load_tokenizer(name: str | Path, spec: ModelSpec) -> Any:
    """Load a tokenizer that pads on the left, at the revision of its own repository.

    Raises:
        ModelError: it is not to be had.
    """
    key, revision = (
        ("model.tokenizer", spec.tokenizer_revision) if spec.tokenizer else ("model.backbone", spec.revision)
    )
    with reading("tokenizer", name, key):
        if _is_plain_tokenizer(Path(name)):
            from transformers import PreTrainedTokenizerFast

            tokenizer = PreTrainedTokenizerFast.from_pretrained(str(name), padding_side="left")
        else:
            from transformers import AutoTokenizer

            tokenizer = AutoTokenizer.from_pretrained(
                str(name), revision=revision, trust_remote_code=spec.trust_remote_code, padding_side="left"
            )
    if tokenizer.pad_token_id is None:
        # Masks come from lengths, so any id may fill; no token is added to a foreign vocabulary.
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def _is_plain_tokenizer(folder: Path) -> bool:
    """Whether tokenizer.json is all there is to a folder's tokenizer, as with those that are trained here.

    AutoTokenizer comes to the same class, by way of the model's config, for which transformers imports torch: seconds
    and memory that a server without a model of its own has no use for.
    """
    try:
        told = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    plain = told.get("tokenizer_class") in ("TokenizersBackend", "PreTrainedTokenizerFast") and "auto_map" not in told
    return plain and (folder / "tokenizer.json").is_file()


@contextmanager
def reading(what: str, name: str | Path, key: str) -> Iterator[None]:
    """Inside, a model's files are read from the hub or a folder; what goes wrong comes out as a ModelError.

    Args:
        what: the thing in words, such as ``backbone``.
        key: the recipe's key that named it.
    """
    try:
        yield
    except (OSError, ValueError, RuntimeError, KeyError, TypeError, ImportError) as error:
        raise ModelError(explain_missing(what, name, key, error)) from error
    except Exception as error:  # safetensors does not export its exception type; httpx's are no OSErrors
        if type(error).__name__ == "SafetensorError":
            raise ModelError(explain_unreadable(what, Path(name), error)) from error
        if isinstance(error, hub.error_kinds()):
            raise ModelError(explain_missing(what, name, key, error)) from error
        raise


def explain_missing(what: str, name: str | Path, key: str, error: Exception) -> str:
    """One paragraph for a model that cannot be loaded: absent, gated, offline, broken, or with code of its own."""
    reason = " ".join(str(error).split())
    if "trust_remote_code" in reason:
        return (
            f"The {what} {str(name)!r} comes with Python code of its own, which is not run unless the recipe says so. "
            "Read that code first; then model.trust_remote_code: true allows it for the backbone and its tokenizer. "
            "Pin what you have read with model.revision. Classifiers with code of their own are not loaded."
        )
    if Path(name).is_dir():
        return explain_unreadable(what, Path(name), error)
    told = hub.cure(str(name), error, key=key)
    if told is None:
        told = f"Check the name, or give the path of a folder in {key}."
        return f"The {what} {str(name)!r} could not be loaded: {reason[:240]}. {told}"
    return f"The {what} {str(name)!r} could not be loaded from the hub. {told}"


def explain_unreadable(what: str, folder: Path, error: Exception) -> str:
    """One paragraph for a folder whose files are corrupt, incomplete or do not fit."""
    reason = " ".join(str(error).split())[:300]
    if "size mismatch" in reason:
        return f"The {what} in {folder} was made for another backbone: {reason}. {OWN_BACKBONE}"
    return (
        f"The {what} in {folder} is incomplete or corrupt: {reason}. Restore the folder, train it again, or go back "
        "to an earlier version with `sawyer models rollback`."
    )


def explain_foreign(what: str, folder: Path, strays: Sequence[str]) -> str:
    """One paragraph for an adapter whose layers are not the backbone's; ``strays`` are weights only one of them has."""
    return (
        f"The {what} in {folder} was made for another backbone: {len(strays)} weights belong to "
        f"one of the two alone, such as {strays[0]}. {OWN_BACKBONE}"
    )


def left_out(model: Any, targets: Any) -> list[str]:
    """Layers of ``model`` that an adapter of every layer of its own backbone leaves as they are; sorted names.

    Where PEFT adapts fewer than twenty modules it writes them (``targets``, the adapter's ``target_modules``) by full
    name, layer numbers included. In a deeper backbone all of these find their places and no weight is missing, so
    that only the layers beyond tell. An adapter of chosen kinds of modules may well be one of chosen layers: no sign.
    """
    import torch

    numbered = set() if isinstance(targets, str) else {name for name in targets if _kind(name) != name}
    head = model.get_output_embeddings()
    linear = {
        name.removesuffix(".base_layer")
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear) and module is not head and ".lora_" not in name
    }
    kinds = {_kind(name) for name in numbered}
    return sorted(linear - numbered) if numbered and {_kind(name) for name in linear} <= kinds else []


def _kind(name: str) -> str:
    """A module's name with its layer's number left open."""
    return ".".join("#" if part.isdigit() else part for part in name.split("."))


def _check_folder(name: str | Path, file: str, key: str) -> None:
    """A path that looks local but is not there must not be asked of the hub."""
    text = str(name)
    local = text.startswith((".", "/", "~")) or text.count("/") > 1
    if local and not Path(text).is_dir():
        raise ModelError(f"There is no folder {text}. Correct {key} or train the model first.")
    if Path(text).is_dir() and not (Path(text) / file).is_file():
        raise ModelError(f"The folder {text} has no {file}: it is no complete model. Correct {key}.")
