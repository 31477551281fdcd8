"""The packages keep their distance: forbidden imports between them fail here, and every module can be imported."""

import ast
import importlib
import pkgutil
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("sawyer", "train", "serve", "ui")


def imported(path: Path) -> set[str]:
    """Dotted names that a file imports anywhere, also inside functions."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names.add(node.module)
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def forbidden(path: Path, names: set[str]) -> set[str]:
    """The imports that the file's place does not allow."""
    package, *rest = path.relative_to(ROOT).parts
    tops = {name.split(".")[0] for name in names}
    if package == "sawyer" and rest[0] != "cli":
        return tops & {"train", "serve", "ui"}
    if package in ("train", "serve"):
        return tops & ({"train", "serve", "ui"} - {package})
    if package == "ui":
        ours = {name for name in names if name.split(".")[0] == "sawyer"}
        return {name for name in ours if not name.startswith("sawyer.types") and name != "sawyer"} | (
            tops & {"train", "serve", "torch", "transformers", "peft", "datasets"}
        )
    return set()


def modules() -> list[str]:
    return sorted(
        module.name
        for package in PACKAGES
        for module in pkgutil.walk_packages([str(ROOT / package)], prefix=f"{package}.")
        if "migrations.versions" not in module.name and not module.name.endswith(("migrations.env", "__main__"))
    )


@pytest.mark.parametrize("package", PACKAGES)
def test_no_forbidden_edge(package: str) -> None:
    found = {str(path.relative_to(ROOT)): forbidden(path, imported(path)) for path in (ROOT / package).rglob("*.py")}
    assert {path: edges for path, edges in found.items() if edges} == {}


def test_a_forbidden_edge_is_seen() -> None:
    """The walk itself works: a core module importing train, and a page importing torch, are caught."""
    assert forbidden(ROOT / "sawyer" / "data.py", {"train.base"}) == {"train"}
    assert forbidden(ROOT / "sawyer" / "cli" / "training.py", {"train.pipeline"}) == set()
    assert forbidden(ROOT / "serve" / "app.py", {"train.sft", "sawyer.data"}) == {"train"}
    assert forbidden(ROOT / "ui" / "page.py", {"sawyer.types", "sawyer.types.Message"}) == set()
    assert forbidden(ROOT / "ui" / "page.py", {"sawyer.data", "torch"}) == {"sawyer.data", "torch"}


@pytest.mark.parametrize("name", modules())
def test_every_module_can_be_imported(name: str) -> None:
    importlib.import_module(name)
