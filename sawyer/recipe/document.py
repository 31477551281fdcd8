"""Documentation of every recipe key from the models: ``python -m sawyer.recipe.document > docs/recipes.md``."""

from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from sawyer.recipe.load import model_in
from sawyer.recipe.spec import Recipe

HEAD = """# Recipe keys

A recipe is one YAML file. Unknown keys are refused and all faults are reported at once. Any key can be overridden
on the command line: `--set ppo.lr=1e-5`. A section that is left out is a step that is not run. This page is made by
`python -m sawyer.recipe.document`.
"""


def document() -> str:
    """The page as Markdown: one table a section, in the order in which sections are first named."""
    sections: list[tuple[str, type[BaseModel]]] = [("recipe", Recipe)]
    done: set[type[BaseModel]] = {Recipe}
    page = [HEAD]
    while sections:
        name, model = sections.pop(0)
        page.append(f"## {name}\n\n{_summary(model)}\n\n| key | type | default | meaning |\n|---|---|---|---|")
        for key, field in model.model_fields.items():
            inner = model_in(field.annotation)
            if inner is not None and inner not in done:
                done.add(inner)
                sections.append((key if name == "recipe" else f"{name}.{key}", inner))
            page.append(f"| `{key}` | {_type(field.annotation)} | {_default(field)} | {field.description or ''} |")
        page.append("")
    return "\n".join(page)


def _summary(model: type[BaseModel]) -> str:
    return (model.__doc__ or "").strip().split("\n\n")[0]


def _type(annotation: Any) -> str:
    """A type as a reader of YAML would say it."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _type(arguments[0])
    if origin is Literal:
        return " or ".join(str(argument) for argument in arguments)
    if origin in (Union, UnionType):
        return " or ".join(_type(argument) for argument in arguments if argument is not NoneType)
    if origin is list:
        return f"list of {_type(arguments[0])}"
    if origin is dict:
        return f"{_type(arguments[0])} to {_type(arguments[1])}"
    return {"str": "text", "bool": "true or false", "int": "whole number", "float": "number"}.get(
        annotation.__name__, annotation.__name__.removesuffix("Spec").lower()
    )


def _default(field: Any) -> str:
    if field.is_required():
        return "required"
    value = field.default
    if value is PydanticUndefined:
        return "see the class"
    if value is None:
        return "none"
    return "its defaults" if isinstance(value, BaseModel) else f"`{value!r}`"


if __name__ == "__main__":
    print(document(), end="")
