"""Reading a recipe: YAML, ``--set`` overrides, every fault reported at once, the resolved recipe saved."""

import difflib
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from sawyer.errors import RecipeError
from sawyer.recipe.spec import Recipe


def load_recipe(path: str | Path, overrides: list[str] | None = None) -> Recipe:
    """Read and check a recipe.

    Args:
        path: a YAML file, or the name of a recipe in ``recipes/`` or in the package (``nano``).
        overrides: ``a.b=value`` strings; the value is read as YAML.

    Raises:
        RecipeError: naming every wrong key with what was given and what is allowed.
    """
    file = _find(path)
    try:
        data = yaml.safe_load(file.read_text(encoding="utf-8"))
    except UnicodeDecodeError as error:
        raise RecipeError(f"The recipe {file} is not UTF-8 text ({error.reason} at byte {error.start}).") from error
    except yaml.YAMLError as error:
        raise RecipeError(f"The recipe {file} is not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(data, dict):
        raise RecipeError(f"The recipe {file} must be a mapping of keys to values, not {type(data).__name__}.")
    for keys, value in parse_overrides(overrides or []):
        _assign(data, keys, value)
    try:
        return Recipe.model_validate(data)
    except ValidationError as error:
        raise RecipeError(_explain(file, error)) from error


def parse_overrides(overrides: list[str]) -> list[tuple[list[str], Any]]:
    """Split ``a.b=value`` strings into key paths and YAML values.

    Raises:
        RecipeError: for a string without ``=`` or with an empty key.
    """
    parsed = []
    for text in overrides:
        key, equals, raw = text.partition("=")
        if not equals or not all(key.split(".")):
            raise RecipeError(f"--set takes key=value with a dotted key, such as ppo.lr=1e-5; given: {text!r}.")
        try:
            value = yaml.safe_load(raw)
        except yaml.YAMLError as error:
            raise RecipeError(f"--set {key}: {raw!r} is not a YAML value.") from error
        parsed.append((key.split("."), _number(value)))
    return parsed


def save_resolved(recipe: Recipe, path: Path) -> None:
    """Write the recipe with every default filled in, so that a run can be repeated from its own folder."""
    path.write_text(yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False, width=110), encoding="utf-8")


def _find(path: str | Path) -> Path:
    """Return the recipe's file; a bare name is looked up beside the working directory's and the package's recipes."""
    given = Path(path)
    shipped = Path(__file__).resolve().parents[2] / "recipes"
    packaged = Path(__file__).resolve().parents[1] / "assets" / "recipes"
    candidates = [given, *(folder / f"{path}.yaml" for folder in (Path("recipes"), shipped, packaged))]
    candidates += [folder / given.name for folder in (shipped, packaged)]
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    known = sorted({file.stem for folder in (Path("recipes"), shipped, packaged) for file in folder.glob("*.yaml")})
    raise RecipeError(f"There is no recipe {str(path)!r}. Give the path of a YAML file or one of: {', '.join(known)}.")


def _number(value: Any) -> Any:
    """YAML 1.1 reads ``1e-5`` as text: a float is what was meant."""
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    return value


def _assign(data: dict[str, Any], keys: list[str], value: Any) -> None:
    for key in keys[:-1]:
        inner = data.get(key)
        # A copy: sections that share a YAML anchor are one object.
        data[key] = dict(inner) if isinstance(inner, dict) else {}
        data = data[key]
    data[keys[-1]] = value


def _explain(file: Path, error: ValidationError) -> str:
    """One line a fault: the key, what was given, what is allowed."""
    faults = error.errors()
    lines = [f"The recipe {file} has {len(faults)} fault{'s' * (len(faults) > 1)}:"]
    for fault in faults:
        key = ".".join(str(part) for part in fault["loc"]) or "recipe"
        if fault["type"] == "extra_forbidden":
            allowed = _siblings(fault["loc"])
            near = difflib.get_close_matches(str(fault["loc"][-1]), allowed, n=1)
            hint = f"did you mean {near[0]}? " if near else ""
            lines.append(f"  {key}: there is no such key; {hint}allowed here: {', '.join(allowed)}")
        elif fault["type"] == "missing":
            lines.append(f"  {key}: this key is required but missing")
        else:
            given = "" if isinstance(fault["input"], dict) else f" (given: {fault['input']!r})"
            message = fault["msg"].removeprefix("Value error, ")
            lines.append(f"  {key}: {message[0].lower()}{message[1:]}{given}")
    return "\n".join(lines)


def _siblings(location: tuple[int | str, ...]) -> list[str]:
    """The keys allowed beside the one at ``location``."""
    model: type[BaseModel] | None = Recipe
    for part in location[:-1]:
        if isinstance(part, int):
            continue
        field = model.model_fields.get(part) if model is not None else None
        if field is None:
            return []
        model = model_in(field.annotation)
    return sorted(model.model_fields) if model is not None else []


def model_in(annotation: Any) -> type[BaseModel] | None:
    """The pydantic model inside an annotation such as ``list[X] | None``."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for argument in getattr(annotation, "__args__", ()):
        found = model_in(argument)
        if found is not None:
            return found
    return None
