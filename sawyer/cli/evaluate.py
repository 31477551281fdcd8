"""`sawyer evaluate`: what the stages are worth on held-out prompts."""

from pathlib import Path
from typing import Annotated

import typer

from sawyer.cli.options import HomeOption, RecipeArgument, SetOption, typed


def evaluate(
    recipe: RecipeArgument,
    stages: Annotated[
        str | None,
        typer.Option(help="Stages or versions in the order of comparison, such as base,sft,rlf@1,rlf@2. Default: all."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the report. Default: runs/RECIPE/evaluate in the home.")
    ] = None,
    benchmarks: Annotated[
        str | None,
        typer.Option(help="Benchmarks of lm-evaluation-harness: truthfulqa, mmlu, mmlu_SUBJECT or any of its tasks."),
    ] = None,
    benchmark_limit: Annotated[int | None, typer.Option(min=1, help="Questions of each; default: all.")] = None,
    fewshot: Annotated[int | None, typer.Option(min=0, help="Examples before each question of a benchmark.")] = None,
    overrides: SetOption = None,
    home: HomeOption = None,
) -> None:
    """Compare the stages on held-out prompts: rewards, tests, KL, length, variety, samples, plots."""
    from rich.console import Console
    from rich.text import Text

    from sawyer.home import Home
    from sawyer.recipe import load_recipe

    read, where = load_recipe(recipe, overrides or []), Home.find(home)
    # Imported here: torch and transformers take seconds, and a wrong recipe is refused without them.
    from sawyer.evaluation import evaluate as run
    from sawyer.evaluation import print_report
    from sawyer.evaluation.benchmarks.ask import BenchmarkPlan
    from sawyer.evaluation.contestants import check_names

    names = None if stages is None else split(stages)
    if names is not None:
        check_names(names)
    plan = None if benchmarks is None else BenchmarkPlan(tuple(split(benchmarks)), benchmark_limit, fewshot)
    report = run(read, where, stages=names, out=out, command=typed(), benchmarks=plan)
    print_report(report)
    folder = out or where.runs / read.name / "evaluate"
    Console().print(Text(f"Report: {folder / 'report.html'}"), soft_wrap=True)


def split(listed: str) -> list[str]:
    """The names between the commas."""
    return [name.strip() for name in listed.split(",") if name.strip()]
