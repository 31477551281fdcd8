"""A Dockerfile as stages of instructions, and what a .dockerignore keeps out: as much as this project's use."""

import json
import re
import shlex
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Instruction:
    """One instruction; ``text`` is what follows its name, continued lines joined."""

    name: str
    text: str

    def words(self) -> list[str]:
        """The arguments of the JSON form or of the plain one."""
        return json.loads(self.text) if self.text.startswith("[") else shlex.split(self.text)


@dataclass
class Stage:
    """``FROM image AS name`` and what follows. ``image`` may be an earlier stage's name."""

    name: str
    image: str
    instructions: list[Instruction] = field(default_factory=list)

    def all(self, name: str) -> list[Instruction]:
        """Its own instructions of one name, in order."""
        return [instruction for instruction in self.instructions if instruction.name == name]


def read_stages(text: str) -> dict[str, Stage]:
    """The stages by name, in order; the last is what ``docker build`` makes without ``--target``."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    stages: dict[str, Stage] = {}
    for line in "\n".join(lines).replace("\\\n", " ").splitlines():
        if not line.strip():
            continue
        name, _, rest = line.strip().partition(" ")
        if name == "FROM":
            image, _, alias = re.split(r"\s+", rest.strip())
            stages[alias] = current = Stage(alias, image)
        else:
            current.instructions.append(Instruction(name, rest.strip()))
    return stages


def needed(stages: dict[str, Stage], target: str) -> list[Stage]:
    """What must be built for ``target``, itself last: the stages it begins from or copies from."""
    wanted: list[Stage] = []

    def visit(name: str) -> None:
        stage = stages.get(name)
        if stage is None or stage in wanted:
            return
        visit(stage.image)
        for copy in stage.all("COPY"):
            visit(copy_source(copy))
        wanted.append(stage)

    visit(target)
    return wanted


def copy_source(copy: Instruction) -> str:
    """The stage that a COPY takes from; empty: the build's own folder."""
    found = re.match(r"--from=(\S+)", copy.text)
    return found[1] if found else ""


class Ignore:
    """A .dockerignore: the last line that matches a path or a folder above it decides."""

    def __init__(self, text: str) -> None:
        lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]
        self.rules = [(line.startswith("!"), _pattern(line.lstrip("!"))) for line in lines]

    def drops(self, path: str) -> bool:
        """Whether a file of this path, relative to the build's folder, stays out."""
        parts = path.split("/")
        above = ["/".join(parts[: end + 1]) for end in range(len(parts))]
        dropped = False
        for keeps, pattern in self.rules:
            if any(pattern.fullmatch(prefix) for prefix in above):
                dropped = not keeps
        return dropped


def _pattern(line: str) -> re.Pattern[str]:
    pieces = re.split(r"(\*\*/|\*|\[[^]]+\])", line)
    spoken = {"**/": "(?:.*/)?", "*": "[^/]*"}
    return re.compile("".join(spoken.get(p, p if p.startswith("[") else re.escape(p)) for p in pieces))
