"""What a recipe is planned for: a card by its name or memory, or this machine's processor."""

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from sawyer.errors import UsageError

GIGA = 10**9


@dataclass(frozen=True)
class Device:
    """``memory`` in bytes; ``flops`` a second in half precision (dense, float32 sums) and ``bandwidth`` in bytes a
    second, both as the data sheet has them.
    """

    name: str
    kind: Literal["cuda", "cpu"]
    memory: int
    bf16: bool
    flops: float
    bandwidth: float


# Half-precision tensor FLOPs with float32 sums, and memory bandwidth, from the makers' data sheets. The memory is what
# the card is sold as, in 10^9 bytes: drivers and error correction keep the rest of the 2^30 that it may have.
CARDS = {
    card.name.lower(): card
    for card in (
        Device("T4", "cuda", 16 * GIGA, False, 65e12, 320e9),
        Device("V100", "cuda", 16 * GIGA, False, 125e12, 900e9),
        Device("RTX3060", "cuda", 12 * GIGA, True, 51e12, 360e9),
        Device("L4", "cuda", 24 * GIGA, True, 121e12, 300e9),
        Device("A10G", "cuda", 24 * GIGA, True, 125e12, 600e9),
        Device("RTX3090", "cuda", 24 * GIGA, True, 71e12, 936e9),
        Device("RTX4090", "cuda", 24 * GIGA, True, 165e12, 1008e9),
        Device("A100", "cuda", 40 * GIGA, True, 312e12, 1555e9),
        Device("L40S", "cuda", 48 * GIGA, True, 362e12, 864e9),
        Device("A100-80GB", "cuda", 80 * GIGA, True, 312e12, 2039e9),
        Device("H100", "cuda", 80 * GIGA, True, 989e12, 3350e9),
        Device("H200", "cuda", 141 * GIGA, True, 989e12, 4800e9),
    )
}
CLASSES = ((16, "t4"), (24, "rtx3090"), (40, "a100"), (80, "a100-80gb"))
"""A size alone stands for the slowest usual card of at least that size: up to so many GB, which one."""

# A core with AVX-512: measured with torch's matrix products in float32 on the machine the project was built on.
CORE_FLOPS, CPU_BANDWIDTH = 50e9, 12e9


def find_device(wanted: str) -> Device:
    """The device of a card's name ("T4"), a memory ("24GB", "22.5GiB") or "cpu".

    Raises:
        UsageError: neither, with what is allowed.
    """
    text = wanted.strip().lower().replace(" ", "")
    if text == "cpu":
        return this_cpu()
    if text in CARDS:
        return CARDS[text]
    found = re.fullmatch(r"(\d+(?:\.\d+)?)(gb|gib|g)?", text)
    if found is None or float(found[1]) <= 0:
        names = ", ".join(card.name for card in CARDS.values())
        raise UsageError(f"--gpu takes a memory such as 24GB, or one of: {names}; given: {wanted!r}.")
    memory = int(float(found[1]) * (2**30 if found[2] == "gib" else GIGA))
    like = CARDS[next((name for size, name in CLASSES if memory <= size * 1.01 * GIGA), CLASSES[-1][1])]
    return Device(f"{wanted} (taken for a {like.name})", "cuda", memory, like.bf16, like.flops, like.bandwidth)


def this_machine() -> Device:
    """The first GPU that nvidia-smi shows, else the processor."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return this_cpu()
    ask = [tool, "--query-gpu=name,memory.total,compute_cap", "--format=csv,noheader,nounits"]
    try:
        told = subprocess.run(ask, capture_output=True, text=True, timeout=3, check=True).stdout.splitlines()[0]
        name, mebibytes, capability = (part.strip() for part in told.split(","))
        memory = int(mebibytes) * 2**20
        like = next((card for key, card in CARDS.items() if key in name.lower().replace(" ", "")), None)
        like = like or find_device(f"{memory / GIGA:.1f}GB")
        # Ampere (8.0) is the first with bfloat16.
        return Device(name, "cuda", memory, float(capability) >= 8, like.flops, like.bandwidth)
    except (OSError, subprocess.SubprocessError, ValueError, IndexError):
        return this_cpu()


def this_cpu() -> Device:
    """This machine's processor and memory; bfloat16 where /proc/cpuinfo names its instructions."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        flags = ""
    fast = "avx512_bf16" in flags or "amx_bf16" in flags
    return Device("CPU", "cpu", memory, fast, CORE_FLOPS * (os.cpu_count() or 1), CPU_BANDWIDTH)
