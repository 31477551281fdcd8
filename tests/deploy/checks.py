"""What the checks of Dockerfile, compose.yaml and manifests share."""

import re
import shutil
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import pytest
import typer

from sawyer.cli.app import app
from tests.deploy.dockerfile import ROOT, Stage, read_stages

UNWANTED = re.compile(r"TOKEN|SECRET|PASSWORD|_KEY")
"""What the name of a secret contains."""


def stages() -> dict[str, Stage]:
    """The Dockerfile's."""
    return read_stages((ROOT / "Dockerfile").read_text(encoding="utf-8"))


def volumes() -> set[str]:
    """The folders that the image declares as volumes."""
    return {path for volume in stages()["runtime"].all("VOLUME") for path in volume.words()}


def tool(name: str) -> str:
    """The path of a checking program; the test is skipped where there is none for this system."""
    found = shutil.which(name, path=str(Path(sys.executable).parent)) or shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed: pip install 'sawyer[dev]' has it for Linux")
    return found


def pinned(image: str) -> bool:
    """Whether an image's tag says a version, down to the minor one at least."""
    name, _, tag = image.rpartition(":")
    return bool(name and re.match(r"v?\d+\.\d+", tag))


@cache
def _sources() -> str:
    folders = ("sawyer", "train", "serve", "ui")
    files = [file for folder in folders for file in (ROOT / folder).rglob("*.py")]
    return "\n".join(file.read_text(encoding="utf-8") for file in files)


def is_read(variable: str) -> bool:
    """Whether our code, or huggingface_hub for its own names, reads this environment variable."""
    if variable.startswith("HF_"):
        import huggingface_hub

        folder = Path(huggingface_hub.__file__).parent
        return any(variable in (folder / file).read_text() for file in ("constants.py", "utils/_auth.py"))
    return bool(re.search(rf"""(environ|getenv|_choice)[^\n]*["']{variable}["']""", _sources()))


def check_command(command: Sequence[str]) -> dict[str, object]:
    """Parse a ``sawyer …`` command line as the program would, running nothing; returns its options."""
    program, name, *rest = command
    assert program == "sawyer", command
    group = typer.main.get_command(app)
    return group.commands[name].make_context(name, list(rest)).params
