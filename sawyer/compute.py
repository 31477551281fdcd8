"""Device, precision and compilation: what this machine does well, decided in one place."""

import ctypes
import os
import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from typing import Any

import torch

from sawyer.errors import UsageError
from sawyer.recipe import ModelSpec


def pick_device(name: str | None = None) -> torch.device:
    """The named device, else the GPU when there is one, else the CPU."""
    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise UsageError(f"The device {name} was asked for, but torch sees no GPU. Use cpu.")
    return torch.device(name)


def has_fast_bf16(device: torch.device) -> bool:
    """Whether bfloat16 arithmetic is done by the hardware (AVX-512 BF16 or AMX on a CPU)."""
    if device.type == "cuda":
        # Cards before Ampere, such as the T4, compute it in software, which torch calls support as well.
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def compute_dtype(spec: ModelSpec, device: torch.device) -> torch.dtype:
    """Precision of the forward passes in training: the recipe's, or for ``auto`` bf16 where the hardware has it."""
    if spec.dtype != "auto":
        return getattr(torch, spec.dtype)
    if has_fast_bf16(device):
        return torch.bfloat16
    return torch.float16 if device.type == "cuda" else torch.float32


def autocast(device: torch.device, dtype: torch.dtype) -> AbstractContextManager[Any]:
    """Autocast to ``dtype``, or nothing for float32."""
    return nullcontext() if dtype == torch.float32 else torch.autocast(device.type, dtype=dtype)


def set_threads(threads: int | None) -> None:
    """Use ``threads`` CPU threads, or leave torch's own choice."""
    if threads:
        torch.set_num_threads(threads)


def release_memory() -> None:
    """Give freed memory back to the system, where the C library keeps it (glibc).

    Decoding leaves holes of a few MiB that the update, whose tensors are larger, cannot use.
    """
    with suppress(AttributeError, OSError, TypeError):  # another C library
        ctypes.CDLL(None).malloc_trim(0)


def keep_memory() -> None:
    """Let the C library (glibc) keep what is freed for the next tensors, until :func:`release_memory` is called.

    By default the activations of every pass go back to the system and come again as fresh pages, zeroed one by one.
    """
    with suppress(AttributeError, OSError, TypeError):  # another C library
        library = ctypes.CDLL(None)
        library.mallopt(-3, 32 << 20)  # M_MMAP_THRESHOLD, at its largest: beyond it a block has pages of its own
        library.mallopt(-1, 512 << 20)  # M_TRIM_THRESHOLD: how much may lie free at the end of the heap


def maybe_compile(function: Callable[..., Any], *, what: str, say: Callable[[str], None] = print) -> Callable[..., Any]:
    """Compile where a C++ compiler is present; otherwise run eagerly and say so in one line.

    ``SAWYER_COMPILE=0`` turns compilation off.
    """
    if os.environ.get("SAWYER_COMPILE", "1") == "0":
        return function
    if not (shutil.which("g++") or shutil.which("clang++")):
        say(f"{what}: no C++ compiler found, running without torch.compile (about half as fast).")
        return function
    return torch.compile(function)
