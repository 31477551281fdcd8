"""`sawyer evaluate`: what the stages are worth on held-out prompts."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sawyer.cli.options import HomeOption, SetOption, typed

if TYPE_CHECKING:
    from sawyer.evaluation.judging.ask import JudgePlan
    from sawyer.home import Home
    from sawyer.store import FeedbackStore


def evaluate(
    names: Annotated[
        list[str], typer.Argument(metavar="RECIPE", help="Recipe file or name, such as nano; with --compare runs.")
    ],
    compare: Annotated[
        bool,
        typer.Option("--compare", help="Compare reports of runs, such as .sawyer/runs/nano/evaluate."),
    ] = False,
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

    from sawyer.errors import UsageError
    from sawyer.home import Home
    from sawyer.recipe import load_recipe

    if compare:
        compare_runs(names)
        return
    if len(names) != 1:
        raise UsageError(f"Evaluate one recipe at a time; given: {', '.join(names)}. Runs are compared with --compare.")
    read, where = load_recipe(names[0], overrides or []), Home.find(home)
    # Imported here: torch and transformers take seconds, and a wrong recipe is refused without them.
    from sawyer.evaluation import evaluate as run
    from sawyer.evaluation import print_report
    from sawyer.evaluation.benchmarks.ask import BenchmarkPlan
    from sawyer.evaluation.contestants import check_names
    from sawyer.evaluation.measure import Extras

    asked = None if stages is None else split(stages)
    if asked is not None:
        check_names(asked)
    extras = Extras(
        command=typed(),
        benchmarks=None if benchmarks is None else BenchmarkPlan(tuple(split(benchmarks)), benchmark_limit, fewshot),
        llm=llm_plan(llm_judge, llm_model, llm_limit, llm_template),
        votes=votes_of(where),
    )
    report = run(read, where, stages=asked, out=out, extras=extras)
    print_report(report)
    folder = out or where.runs / read.name / "evaluate"
    Console().print(Text(f"Report: {folder / 'report.html'}"), soft_wrap=True)


def compare_runs(runs: list[str]) -> None:
    """Print the runs' reports side by side. UsageError: fewer than two, or one has no report."""
    from sawyer.errors import UsageError
    from sawyer.evaluation.runs_compared import print_comparison, read_report

    if len(runs) < 2:
        raise UsageError("--compare needs at least two runs: `sawyer evaluate --compare RUN RUN`.")
    print_comparison([read_report(Path(run)) for run in runs])


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
