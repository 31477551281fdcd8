"""Folders of model weights: what may be in them, whether they are whole, and copying them durably."""

import json
import os
import shutil
from pathlib import Path

from sawyer.errors import CheckpointError
from sawyer.runs import hash_file

# What torch.load would unpickle, that is, execute.
PICKLE_SUFFIXES = (".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt")
_HEADER_LIMIT = 100_000_000  # bytes; the limit of the safetensors library itself


def check_weights(folder: Path) -> None:
    """Prove that a folder holds whole safetensors weights and nothing that could execute.

    Raises:
        CheckpointError: no such folder, no weights, a pickle file, a torn file, or a missing shard.
    """
    if not folder.is_dir():
        raise CheckpointError(f"There is no folder {folder}. Name the folder a training step has written.")
    files = [file for file in sorted(folder.rglob("*")) if file.is_file()]
    for file in files:
        if file.suffix in PICKLE_SUFFIXES:
            raise CheckpointError(
                f"{file} is a pickle file, which can run code when it is loaded, and is refused. Save"
                " the weights as safetensors (save_pretrained does) and remove this file."
            )
    shards = [file for file in files if file.suffix == ".safetensors"]
    if not shards:
        raise CheckpointError(f"{folder} holds no .safetensors weights. Name a folder that a training step wrote.")
    for shard in shards:
        _check_safetensors(shard)
    for index in folder.rglob("*.safetensors.index.json"):
        _check_index(index)


def _check_safetensors(file: Path) -> None:
    """Compare a safetensors file's length with its header, without reading the tensors.

    Layout: 8 bytes header length (little endian), a JSON header with each tensor's data_offsets, the data.
    """
    try:
        with file.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            if length > _HEADER_LIMIT:
                raise ValueError("its header length is absurd")
            header = json.loads(stream.read(length))
        header.pop("__metadata__", None)
        expected = 8 + length + max((tensor["data_offsets"][1] for tensor in header.values()), default=0)
        if file.stat().st_size != expected:
            raise ValueError(f"it has {file.stat().st_size} bytes where its header promises {expected}")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(
            f"{file} is not a whole safetensors file ({error}). Copy or download it again, or repeat the step"
            " that wrote it."
        ) from error


def _check_index(index: Path) -> None:
    try:
        names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{index} cannot be read ({error}). Get the folder again.") from error
    missing = [name for name in names if not (index.parent / name).is_file()]
    if missing:
        raise CheckpointError(
            f"{index.parent} lacks {len(missing)} of {len(names)} weight files, first {missing[0]}. Copy or"
            " download the folder again."
        )


def copy_folder(source: Path, target: Path, *, leave_out: str) -> dict[str, str]:
    """Copy a folder's files, links resolved, each flushed to the disk; return the SHA-256 of each by name.

    Hidden files and the top-level file `leave_out` stay behind.
    """
    hashes = {}
    for file in sorted(source.rglob("*")):
        name = file.relative_to(source)
        hidden = any(part.startswith(".") for part in name.parts)
        if hidden or name.as_posix() == leave_out or not file.is_file():
            continue
        copy = target / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, copy)
        flush(copy)
        hashes[name.as_posix()] = hash_file(copy)
    return hashes


def flush(path: Path) -> None:
    """fsync a file, or a folder's list of names."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
