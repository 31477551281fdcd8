"""`sawyer evaluate`: what the stages are worth on held-out prompts."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sawyer.cli.options import HomeOption, RecipeArgument, SetOption, typed

if TYPE_CHECKING:
    from sawyer.evaluation.judging.ask import JudgePlan
    from sawyer.home import Home
    from sawyer.store import FeedbackStore


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
    llm_judge: Annotated[
        str | None,
        typer.Option(metavar="URL", help="Judge pairs of replies by a model at this OpenAI-compatible URL."),
    ] = None,
    llm_model: Annotated[str | None, typer.Option(help="Its name there; its token in SAWYER_JUDGE_TOKEN.")] = None,
    llm_limit: Annotated[int | None, typer.Option(min=1, help="Prompts judged; default: all.")] = None,
    llm_template: Annotated[Path | None, typer.Option(help="File with another question to it.")] = None,
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
    from sawyer.evaluation.measure import Extras

    names = None if stages is None else split(stages)
    if names is not None:
        check_names(names)
    extras = Extras(
        command=typed(),
        benchmarks=None if benchmarks is None else BenchmarkPlan(tuple(split(benchmarks)), benchmark_limit, fewshot),
        llm=llm_plan(llm_judge, llm_model, llm_limit, llm_template),
        votes=votes_of(where),
    )
    report = run(read, where, stages=names, out=out, extras=extras)
    print_report(report)
    folder = out or where.runs / read.name / "evaluate"
    Console().print(Text(f"Report: {folder / 'report.html'}"), soft_wrap=True)


def split(listed: str) -> list[str]:
    """The names between the commas."""
    return [name.strip() for name in listed.split(",") if name.strip()]


def llm_plan(url: str | None, model: str | None, limit: int | None, template: Path | None) -> "JudgePlan | None":
    """The LLM judge that the options describe. UsageError: they do not fit together."""
    from sawyer.errors import UsageError
    from sawyer.evaluation.judging.ask import JudgePlan
    from sawyer.evaluation.judging.client import ChatJudge
    from sawyer.evaluation.judging.verdict import read_template

    if url is None and model is None:
        return None
    if url is None or model is None:
        raise UsageError("An LLM judge needs both --llm-judge URL and --llm-model NAME.")
    if not url.startswith(("http://", "https://")):
        raise UsageError(f"--llm-judge {url} is no address; give one such as http://127.0.0.1:8000/v1.")
    return JudgePlan(ChatJudge(url, model), read_template(template), limit)


def votes_of(home: "Home") -> "FeedbackStore | None":
    """The home's feedback store, where there is one: an evaluation makes none."""
    from sawyer.store import FeedbackStore

    if "SAWYER_DB" in os.environ or (home.root / "sawyer.db").exists():
        return FeedbackStore.open(home.db_url)
    return None
