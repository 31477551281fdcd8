"""`sawyer plan`: what a recipe takes, before anything is loaded."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sawyer.cli.options import RecipeArgument, SetOption

if TYPE_CHECKING:
    from rich.console import Console

    from sawyer.plan import Change, Device, Plan, StagePlan
    from sawyer.recipe import Recipe

GIGA = 1e9


def plan(
    recipe: RecipeArgument,
    gpu: Annotated[
        str | None, typer.Option("--gpu", metavar="24GB|T4|…", help="Card; default: the recipe's, else this machine's.")
    ] = None,
    device: Annotated[str | None, typer.Option("--device", metavar="cpu", help="Plan for this machine's CPU.")] = None,
    fit_it: Annotated[bool, typer.Option("--fit", help="Print a recipe that fits.")] = False,
    out: Annotated[Path | None, typer.Option("--out", help="With --fit: write that recipe to a file.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object; sizes in bytes.")] = False,
    overrides: SetOption = None,
) -> None:
    """Say what each stage of a recipe takes in memory and time: exit code 0 if it fits, 1 if it does not."""
    from sawyer.errors import UsageError
    from sawyer.plan import make_plan
    from sawyer.recipe import load_recipe

    if out is not None and not fit_it:
        raise UsageError("--out takes a recipe that fits: add --fit.")
    wanted = load_recipe(recipe, overrides or [])
    where = _device(wanted, gpu, device)
    if fit_it:
        _print_fitting(wanted.model_copy(update={"gpu": gpu}) if gpu else wanted, where, out)
        return
    made = make_plan(wanted, where)
    if as_json:
        _print_json(made)
    else:
        _print(made)
    raise typer.Exit(0 if made.fitting else 1)


def _device(recipe: "Recipe", gpu: str | None, device: str | None) -> "Device":
    from sawyer.errors import UsageError
    from sawyer.plan import find_device, this_cpu, this_machine

    if device is not None and device != "cpu":
        raise UsageError(f"--device takes cpu; given: {device!r}. A card is named with --gpu.")
    if device and gpu:
        raise UsageError("--device cpu and --gpu exclude each other: give one of them.")
    if device:
        return this_cpu()
    if gpu:
        return find_device(gpu)
    return find_device(recipe.gpu) if recipe.gpu else this_machine()


def _print_json(made: "Plan") -> None:
    from sawyer.plan import as_json, changes

    told = as_json(made)
    for stage in made.stages:
        if not made.fits(stage):
            told["stages"][stage.stage]["changes"] = [vars(change) for change in changes(made, stage.stage)]
    typer.echo(json.dumps(told))


def _print(made: "Plan") -> None:
    from rich.console import Console

    from sawyer.plan import changes

    console = Console()
    memory = f"{made.device.memory / GIGA:.1f} GB"
    console.print(f"{made.recipe.name} on {made.device.name}, {memory}", style="bold", markup=False, highlight=False)
    for stage in made.stages:
        _print_stage(console, made, stage)
    console.print("Estimates take a third of the data sheet's speed and rows that are as long as they may be.")
    for note in made.notes:
        console.print(note, markup=False, highlight=False, soft_wrap=True)
    for stage in made.stages:
        if not made.fits(stage):
            console.print(f"\n{stage.stage} does not fit. What saves memory, cheapest first:", highlight=False)
            for change in changes(made, stage.stage):
                console.print(f"  {_sentence(change)}", markup=False, highlight=False, soft_wrap=True)
    verdict = "Every stage fits." if made.fitting else "It does not fit; --fit prints a recipe that does."
    console.print(f"\n{verdict}", style="green" if made.fitting else "red", highlight=False)


def _print_stage(console: "Console", made: "Plan", stage: "StagePlan") -> None:
    from rich.table import Table

    ledger, fits = stage.ledger, made.fits(stage)
    table = Table(title=f"{stage.stage}: peak in {ledger.worst.name}", title_justify="left")
    table.add_column("what")
    table.add_column("GB", justify="right")
    table.add_column("from", overflow="fold")
    for item in ledger.items:
        table.add_row(item.name, f"{item.size / GIGA:.2f}", item.note)
    table.add_section()
    table.add_row(
        "peak", f"{ledger.peak / GIGA:.2f}", "fits" if fits else "does not fit", style="green" if fits else "red"
    )
    console.print(table)
    others = ", ".join(f"{moment.name} {moment.size / GIGA:.2f}" for moment in ledger.moments if moment != ledger.worst)
    if others:
        console.print(f"  at other moments: {others} GB", highlight=False)
    if stage.duration is not None:
        hours = stage.duration.hours
        whole = "" if hours is None else f"; the whole stage at most {hours:.1f} h"
        console.print(f"  estimate: {stage.duration.rate:,.2g} {stage.duration.unit} a second{whole}", highlight=False)


def _sentence(change: "Change") -> str:
    enough = "; enough by itself" if change.enough else ""
    return f"{change.key}={change.value}: saves {change.saves / GIGA:.2f} GB{enough} (costs: {change.cost})"


def _print_fitting(recipe: "Recipe", device: "Device", out: Path | None) -> None:
    import yaml

    from sawyer.plan import fit

    fitting, made = fit(recipe, device)
    head = [f"# {recipe.name}, made to fit {device.name} by sawyer plan --fit; changed:"]
    head += [f"#   {_sentence(change)}" for change in made] or ["#   nothing: it fits as it is"]
    body = yaml.safe_dump(fitting.model_dump(mode="json", exclude_unset=True), sort_keys=False, width=110)
    text = "\n".join(head) + "\n" + body
    if out is None:
        typer.echo(text, nl=False)
    else:
        out.write_text(text, encoding="utf-8")
        typer.echo(f"Written to {out}: {len(made)} changes.")
