"""The kernels of ``kernels.cpp``, compiled at first use for the processor at hand; None where that cannot be done.

One run of the compiler takes two seconds and its result is kept in the user's cache, under a name that changes with
source, compiler and processor. Compiling through torch would take a minute, and importing what that needs 100 MiB.
"""

import ctypes
import functools
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch

from sawyer.progress import note

SOURCE = Path(__file__).with_name("kernels.cpp")
FLAGS = ("-std=c++17", "-O3", "-march=native", "-mprefer-vector-width=512", "-fno-math-errno", "-fno-trapping-math")
KINDS = {torch.float32: "f32", torch.bfloat16: "bf16"}

POINTER, COUNT, REAL = ctypes.c_void_p, ctypes.c_int64, ctypes.c_float
SIGNATURES: dict[str, list[type]] = {
    "norm_forward": [POINTER] * 4 + [COUNT] * 2 + [REAL],
    "norm_backward": [POINTER] * 7 + [COUNT] * 2,
    "gate_forward": [POINTER] * 2 + [COUNT] * 2,
    "gate_backward": [POINTER] * 4 + [COUNT] * 2,
    "heads": [POINTER] * 6 + [COUNT] * 6,
    "softmax_forward": [POINTER] * 2 + [COUNT] * 4 + [REAL],
    "softmax_backward": [POINTER] * 2 + [COUNT] * 2 + [REAL],
    "attend_one": [POINTER] * 8 + [COUNT] * 5 + [REAL],
    "logprob_forward": [POINTER] * 5 + [COUNT] * 2 + [REAL],
    "logprob_backward": [POINTER] * 5 + [COUNT] * 2 + [REAL],
}


def kernel(name: str, dtype: torch.dtype) -> Callable[..., None] | None:
    """A kernel for tensors of this precision, which takes addresses and counts; None where there is none."""
    found = _kernels()
    return found.get((name, dtype)) if found else None


@functools.cache
def _kernels() -> dict[tuple[str, torch.dtype], Callable[..., None]] | None:
    if sys.platform != "linux" or os.environ.get("SAWYER_COMPILE", "1") == "0":
        return None
    compiler = shutil.which("g++") or shutil.which("clang++")
    if compiler is None:
        note("No C++ compiler was found: training on the CPU goes on without compiled kernels, somewhat slower.")
        return None
    try:
        library = ctypes.CDLL(str(_compiled(compiler)))
    except (OSError, subprocess.SubprocessError) as error:
        note(f"The kernels could not be compiled, training on the CPU goes on without them, somewhat slower: {error}")
        return None
    found = {}
    for name, signature in SIGNATURES.items():
        for dtype, kind in KINDS.items():
            function = getattr(library, f"{name}_{kind}")
            function.argtypes, function.restype = signature, None
            found[name, dtype] = function
    return found


def _compiled(compiler: str) -> Path:
    """The library's file, which is made where it is missing."""
    source = SOURCE.read_bytes()
    version = subprocess.run([compiler, "--version"], capture_output=True, check=True, timeout=60).stdout
    digest = hashlib.sha256(b"\n".join([source, version, " ".join(FLAGS).encode(), _processor()])).hexdigest()[:16]
    for folder in (Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sawyer", None):
        try:
            if folder is None:  # a home that cannot be written: made anew by every process
                folder = Path(tempfile.mkdtemp(prefix="sawyer-kernels-"))
            folder.mkdir(parents=True, exist_ok=True)
            file = folder / f"kernels-{digest}.so"
            if not file.exists():
                _compile(compiler, file)
            return file
        except OSError as error:
            reason = error
    raise reason


def _compile(compiler: str, file: Path) -> None:
    """Written beside its name and renamed: several processes may do it at once."""
    with tempfile.TemporaryDirectory(dir=file.parent) as folder:
        made = Path(folder) / file.name
        command = [compiler, *FLAGS, "-fopenmp", "-shared", "-fPIC", "-o", str(made), str(SOURCE)]
        result = subprocess.run(command, capture_output=True, text=True, timeout=300)
        if result.returncode:
            raise subprocess.SubprocessError(f"{compiler} said: {result.stderr.strip()[-500:]}")
        made.replace(file)


def _processor() -> bytes:
    """What the machine code depends on: a home may be shared by machines of several kinds."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor().encode()
    return "\n".join(dict.fromkeys(line for line in lines if line.lower().startswith(("flags", "features", "cpu part",
                     "model name", "isa")))).encode()  # fmt: skip
