"""`sawyer evaluate`: what the stages are worth on held-out prompts."""

from pathlib import Path
from typing import Annotated

import typer

from sawyer.cli.options import HomeOption, RecipeArgument, SetOption


def evaluate(
    recipe: RecipeArgument,
    stages: Annotated[
        str | None,
        typer.Option(help="Stages or versions in the order of comparison, such as base,sft,rlf@1,rlf@2. Default: all."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the report. Default: runs/RECIPE/evaluate in the home.")
    ] = None,
    overrides: SetOption = None,
    home: HomeOption = None,
) -> None:
    """Compare the stages on held-out prompts: rewards, tests, KL, length, variety, samples, plots."""
    from rich.console import Console
    from rich.text import Text

    from sawyer.home import Home
    from sawyer.recipe import load_recipe

    read, where = load_recipe(recipe, overrides or []), Home.find(home)
    names = None if stages is None else [name.strip() for name in stages.split(",") if name.strip()]
    # Imported here: torch and transformers take seconds, and a wrong recipe is refused without them.
    from sawyer.evaluation import evaluate as run
    from sawyer.evaluation import print_report
    from sawyer.evaluation.contestants import check_names

    if names is not None:
        check_names(names)
    report = run(read, where, stages=names, out=out)
    print_report(report)
    folder = out or where.runs / read.name / "evaluate"
    Console().print(Text(f"Report: {folder / 'report.html'}"), soft_wrap=True)
