"""`sawyer reward-report`: what the reward model is worth, and whether a second one agrees."""

from pathlib import Path
from typing import Annotated, Any

import typer

from sawyer.cli.options import HomeOption, RecipeArgument, SetOption


def reward_report(
    recipe: RecipeArgument,
    rewardbench: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Pairs in RewardBench's format (JSON lines), scored as well.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder. Default: runs/RECIPE/reward-report in the home.")] = None,
    overrides: SetOption = None,
    home: HomeOption = None,
) -> None:
    """Study the reward model on held-out pairs: accuracy, length, prompts, calibration, agreement with the judge."""
    from rich.console import Console
    from rich.text import Text

    from sawyer.home import Home
    from sawyer.recipe import load_recipe
    from train.reward_study import study

    read, where = load_recipe(recipe, overrides or []), Home.find(home)
    folder = out or where.runs / read.name / "reward-report"
    found = study(read, where, folder, rewardbench)
    console = Console()
    console.print(_table(found))
    if found["agreement"]:
        told = found["agreement"]
        kappa = "–" if told["kappa"] is None else f"{told['kappa']:.2f}"
        console.print(f"{' and '.join(told['models'])} choose alike in {told['same_choice']:.1%} (kappa {kappa}).")
    for section, score in found.get("rewardbench", {}).get("sections", {}).items():
        console.print(f"RewardBench {section}: {score:.1%}")
    console.print(Text(f"Figures: {folder / 'reward.json'}"), soft_wrap=True)


def _table(found: dict[str, Any]) -> Any:
    from rich.table import Table

    table = Table(title=f"Reward models of {found['recipe']}, {found['n']} held-out pairs", title_justify="left")
    table.add_column("")
    models = list(found["models"].values())
    for name in found["models"]:
        table.add_column(name, justify="right")
    rows = {
        "accuracy": "overall",
        "replies of like length": "length_matched",
        "betting on length alone": "length_only",
        "under other prompts (0.5: it reads them)": "shuffled_prompt",
    }
    for label, key in rows.items():
        table.add_row(label, *(_accuracy(told.get(key)) for told in models))
    for source in models[0]["by_source"]:
        table.add_row(f"… {source}", *(_accuracy(told["by_source"].get(source)) for told in models))
    table.add_row("correlation with length", *(_number(told["reward_length_correlation"]) for told in models))
    table.add_row("calibration error", *(_number(told["calibration"]["expected_error"]) for told in models))
    return table


def _accuracy(part: dict[str, Any] | None) -> str:
    if not part or part["accuracy"] is None:
        return "–"
    low, high = part["interval"]
    return f"{part['accuracy']:.3f} [{low:.3f}, {high:.3f}], n {part['n']}"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
