"""`sawyer models`: the versions of each stage and which of them are current."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sawyer.cli.options import HomeOption, RecipeArgument

if TYPE_CHECKING:
    from sawyer.registry import Registry

app = typer.Typer(no_args_is_help=True, help="The versions of the trained stages.")


@app.command("list")
def list_versions(recipe: RecipeArgument, home: HomeOption = None) -> None:
    """Show every version of a recipe's stages; a star marks the current ones."""
    from rich.console import Console
    from rich.table import Table

    registry = _registry(recipe, home)
    table = Table(title=f"Versions of {registry.recipe_name}")
    for heading in ("", "version", "created", "about", "folder"):
        table.add_column(heading, overflow="fold")
    for version in registry.versions():
        created = version.created.astimezone().strftime("%Y-%m-%d %H:%M")
        star = "*" if version.current else ""
        table.add_row(star, version.ref, created, _about(version.info), str(version.path))
    console = Console()
    if table.row_count:
        console.print(table)
    else:
        console.print(f"Recipe {registry.recipe_name} has no versions yet: sawyer pipeline {recipe} makes some.")
    for sentence in registry.damaged():
        console.print(f"Damaged: {sentence}", style="red", markup=False)


@app.command()
def promote(
    recipe: RecipeArgument,
    versions: Annotated[list[str], typer.Argument(help="stage@number, one per stage, such as sft@2 rlf@3.")],
    home: HomeOption = None,
) -> None:
    """Make versions current, all at once."""
    registry = _registry(recipe, home)
    before = _current(registry)
    registry.promote(*versions)
    _print_changes(before, _current(registry))


@app.command()
def rollback(
    recipe: RecipeArgument,
    stage: Annotated[str, typer.Argument(help="base, sft, rlf or reward.")],
    home: HomeOption = None,
) -> None:
    """Make the version current that was current before."""
    registry = _registry(recipe, home)
    before = _current(registry)
    registry.rollback(stage)
    _print_changes(before, _current(registry))


@app.command()
def push(
    recipe: RecipeArgument,
    version: Annotated[str, typer.Argument(help="stage or stage@number: sft, rlf@3, base, reward.")],
    repository: Annotated[str, typer.Argument(metavar="OWNER/NAME", help="The hub's repository; made if absent.")],
    backbone: Annotated[
        str | None, typer.Option(help="Hub id of an adapter's base, where the recipe trains its own.")
    ] = None,
    public: Annotated[bool, typer.Option("--public", help="Make a new repository public; otherwise private.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Write the folder that would be pushed, list it, end.")
    ] = False,
    home: HomeOption = None,
) -> None:
    """Publish a version as a model repository: weights, card, report. The token: HF_TOKEN or `hf auth login`."""
    from sawyer.home import Home
    from sawyer.publishing import plan, write_repo
    from sawyer.publishing import push as push_folder
    from sawyer.recipe import load_recipe
    from sawyer.registry import Registry

    loaded, place = load_recipe(recipe), Home.find(home).ensure()
    publication = plan(loaded, Registry.of(loaded, place).get(version), repository, backbone)
    folder = write_repo(publication, place)
    for file in sorted(file for file in folder.rglob("*") if file.is_file()):
        typer.echo(f"{file.stat().st_size:>14,}  {file.relative_to(folder)}")
    if dry_run:
        typer.echo(f"{publication.version.ref} is in {folder}. Nothing was pushed.")
        return
    typer.echo(f"Pushed: {push_folder(publication, folder, private=not public)}")


def _registry(recipe: str, home: Path | None) -> "Registry":
    from sawyer.home import Home
    from sawyer.recipe import load_recipe
    from sawyer.registry import Registry

    return Registry.of(load_recipe(recipe), Home.find(home))


def _current(registry: "Registry") -> dict[str, str]:
    return {version.stage: version.ref for version in registry.versions() if version.current}


def _print_changes(before: dict[str, str], after: dict[str, str]) -> None:
    for stage in sorted(before | after):
        was, now = before.get(stage, "none"), after.get(stage, "none")
        typer.echo(f"{stage}: {now} (as before)" if was == now else f"{stage}: {was} -> {now}")


def _about(info: dict) -> str:
    return ", ".join(f"{key} {_short(value)}" for key, value in info.items())


def _short(value: object) -> str:
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    return text if len(text) <= 16 else text[:12] + "…"
