"""`sawyer doctor`: is this machine ready, and what is wrong with that run?"""

import importlib.metadata
import os
import platform
import shutil
import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table

from sawyer.home import Home

EXTRAS = {
    "models": ("torch", "transformers", "peft"),
    "train": ("datasets", "accelerate"),
    "serve": ("fastapi", "uvicorn"),
    "ui": ("gradio", "httpx"),
}
FREE_GB = 5.0


def run_doctor(run: str | None, home_path: Path | None) -> int:
    """Print the diagnosis; returns the exit code: 1 if something is wrong, else 0."""
    home = Home.find(home_path)
    return _run(run, home) if run is not None else _environment(home)


def _run(name: str, home: Home) -> int:
    from train.doctor import diagnose, find_run

    found = diagnose(find_run(name, home))
    console = Console()
    state = "finished" if found.finished else "not finished"
    console.print(f"Run {found.folder}: step {found.steps} of {found.planned}, {state}.", soft_wrap=True)
    table = Table("figure", "first", "last")
    for key, first, last in found.figures:
        table.add_row(key, f"{first:.3g}", f"{last:.3g}")
    console.print(table)
    for finding in found.findings:
        console.print(f"[bold red]{finding.name}[/]" if finding.stops else f"[bold yellow]{finding.name}[/]")
        for label, text in (("seen", finding.seen), ("means", finding.meaning), ("try", finding.cure)):
            console.print(f"  {label}: {text}.", markup=False, highlight=False, soft_wrap=True)
    if not found.findings:
        console.print("Nothing is wrong with it.")
    return 1 if found.findings else 0


def _environment(home: Home) -> int:
    """What SAWYER needs of this machine, line by line."""
    table = Table("what", "found", "fine")
    wrong = False

    def row(what: str, found: str, fine: bool, *, needed: bool = True) -> None:
        nonlocal wrong
        wrong |= needed and not fine
        table.add_row(what, found, "yes" if fine else "[red]no[/]" if needed else "[yellow]no (optional)[/]")

    row("Python", platform.python_version(), sys.version_info >= (3, 11))
    for extra, packages in EXTRAS.items():
        versions = {name: _version(name) for name in packages}
        found = ", ".join(f"{name} {version or 'missing'}" for name, version in versions.items())
        row(f"extra {extra}", found, all(versions.values()))
    if _version("torch"):
        from sawyer.compute import has_fast_bf16, pick_device

        device = pick_device()
        row("device", f"{device.type}, {os.cpu_count()} cores", True)
        row("bfloat16 in hardware", "yes" if has_fast_bf16(device) else "no", has_fast_bf16(device), needed=False)
    compiler = shutil.which("g++") or shutil.which("clang++")
    row("C++ compiler (torch.compile)", compiler or "none", compiler is not None, needed=False)
    place = next(folder for folder in (home.root, *home.root.absolute().parents) if folder.exists())
    free = shutil.disk_usage(place).free / 1e9
    row("free disk", f"{free:.0f} GB at {place}", free > FREE_GB)
    row("home folder can be written", str(home.root), os.access(place, os.W_OK))
    Console().print(table)
    return int(wrong)


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
