"""`sawyer compare-methods`: the ways to train rlf side by side."""

from typing import Annotated

import typer

from sawyer.cli.options import HomeOption, RecipeArgument, SetOption

DEFAULT = "ppo,dpo,ipo,kto,orpo,spin"


def compare_methods(
    recipe: RecipeArgument,
    methods: Annotated[str, typer.Option(help="Of ppo, grpo, rloo, dpo, ipo, kto, orpo and spin.")] = DEFAULT,
    overrides: SetOption = None,
    home: HomeOption = None,
) -> None:
    """Train rlf by several methods from one SFT and compare the results; nothing is promoted. Run again to go on."""
    from rich.console import Console

    from sawyer.cli.training import alone
    from sawyer.home import Home
    from sawyer.recipe import load_recipe
    from train.method_table import print_comparison
    from train.methods import FOLDER, check_methods
    from train.methods import compare_methods as run

    names = [name.strip() for name in methods.split(",") if name.strip()]
    check_methods(names)
    read, where = load_recipe(recipe, overrides or []), Home.find(home).ensure()
    with alone(read, where):
        comparison = run(read, where, names)
    print_comparison(comparison)
    folder = where.runs / read.name / FOLDER
    Console().print(f"Table: {folder / 'comparison.md'}. Promote one with `sawyer models promote`.", soft_wrap=True)
    raise typer.Exit(int(any(row.error for row in comparison.rows)))
