"""`sawyer feedback`: what people voted, as numbers and as training data."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, help="The preference data: the board, statistics and export.")
_TIMES = ["%Y-%m-%d", "%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S"]

HomeOption = Annotated[
    Path | None, typer.Option("--home", help="State folder.", show_default="$SAWYER_HOME or ./.sawyer")
]


@app.command()
def stats(
    home: HomeOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object instead of a table.")] = False,
) -> None:
    """Count what was asked, answered and voted."""
    from sawyer.home import Home
    from sawyer.store import FeedbackStore

    with FeedbackStore.open(Home.find(home).ensure().db_url) as store:
        numbers = store.stats()
        rows = {"preference": store.pairs(), "kto": store.kto_rows(), "sft": store.sft_rows()}
        numbers["training_rows"] = {form: sum(1 for _ in found) for form, found in rows.items()}
    if as_json:
        typer.echo(json.dumps(numbers))
    else:
        _print_table(numbers)


@app.command()
def board(
    by: Annotated[str, typer.Option(metavar="stage|version", help="What competes.")] = "stage",
    blind: Annotated[
        bool | None, typer.Option("--blind/--open", help="Blind or open votes alone.", show_default="all")
    ] = None,
    since: Annotated[datetime | None, typer.Option(formats=_TIMES, help="Votes from this time on (UTC).")] = None,
    until: Annotated[datetime | None, typer.Option(formats=_TIMES, help="Votes before this time (UTC).")] = None,
    home: HomeOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object instead of tables.")] = False,
) -> None:
    """Show win rates, strengths and what else the votes say, as GET /v1/feedback/board does."""
    import time

    from rich.console import Console

    from sawyer.cli.board import print_board
    from sawyer.errors import UsageError
    from sawyer.home import Home
    from sawyer.preferences import ballots, make_board
    from sawyer.store import FeedbackStore
    from sawyer.types import BoardQuery

    if by not in ("stage", "version"):
        raise UsageError(f"--by is {by!r}. Allowed: stage and version.")
    if since and until and since >= until:
        raise UsageError(f"--since {since} is not before --until {until}. Swap them or leave one out.")
    times = {name: at.replace(tzinfo=UTC).timestamp() for name, at in (("since", since), ("until", until)) if at}
    query = BoardQuery.model_validate({"by": by, "blind": blind} | times)
    with FeedbackStore.open(Home.find(home).ensure().db_url) as store:
        found = make_board(ballots(store.counting_votes()), query, updated=time.time())
    if as_json:
        typer.echo(found.model_dump_json())
    else:
        print_board(found, Console())


@app.command()
def export(
    out: Annotated[Path, typer.Argument(help="File to write; its ending chooses .jsonl or .parquet.")],
    form: Annotated[
        str,
        typer.Option(
            "--format",
            help="preference (prompt, chosen, rejected), kto (prompt, completion, label) or sft (messages).",
        ),
    ] = "preference",
    home: HomeOption = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file if it exists.")] = False,
) -> None:
    """Write the feedback in TRL's formats; datasets.load_dataset reads the file."""
    from sawyer.home import Home
    from sawyer.store import FeedbackStore
    from sawyer.store.export import export as write

    with FeedbackStore.open(Home.find(home).ensure().db_url) as store:
        count = write(store, out, form, overwrite=overwrite)
    typer.echo(f"{count} {form} rows written to {out}")


def _print_table(numbers: dict) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title="Feedback", show_header=False)
    for name, value in numbers.items():
        if isinstance(value, dict):
            parts = (f"{key} {count:.3f}" if isinstance(count, float) else f"{key} {count}"
                     for key, count in value.items())  # fmt: skip
            value = "  ".join(parts) or "none yet"
        table.add_row(name.replace("_", " "), str(value))
    Console().print(table)
