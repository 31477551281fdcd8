"""An environment of its own for the other library: made once in a cache folder, reused while its pins are the same."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

TRL = ("trl==1.12.0", "torch==2.13.0", "transformers==5.23.0", "peft==0.21.2", "accelerate==1.15.0", "datasets==5.2.0")
"""The last release with a PPO trainer, on the very versions of constraints.txt: what differs is the trainer alone."""


def default_folder() -> Path:
    """``benchmarks/trl-…`` in SAWYER_HOME where that is set, else in the user's cache."""
    home = os.environ.get("SAWYER_HOME")
    parent = Path(home) / "benchmarks" if home else Path.home() / ".cache" / "sawyer-benchmarks"
    return parent / TRL[0].replace("==", "-")


def make_environment(folder: Path, pins: tuple[str, ...] = TRL) -> Path:
    """Return the interpreter of the environment in ``folder``, which is made where it is missing or has other pins."""
    python = folder / "bin" / "python"
    stamp, wanted = folder / "pins.txt", "".join(f"{pin}\n" for pin in pins)
    if python.exists() and stamp.exists() and stamp.read_text(encoding="utf-8") == wanted:
        return python
    if folder.exists() and any(folder.iterdir()) and not (folder / "pyvenv.cfg").exists():
        raise SystemExit(f"The folder {folder} holds something else than an environment. Name another with --folder.")
    shutil.rmtree(folder, ignore_errors=True)
    print(f"Installing {', '.join(pins)} into {folder} (a few minutes)", file=sys.stderr)
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    install = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *pins]
    subprocess.run(install, check=True, stdout=sys.stderr)
    stamp.write_text(wanted, encoding="utf-8")
    return python
