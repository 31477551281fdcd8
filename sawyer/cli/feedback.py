"""`sawyer feedback`: what people voted, as numbers and as training data."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sawyer.cli import feedback_board, feedback_files, feedback_review
from sawyer.cli.feedback_filter import (
    BlindOption,
    ChoiceOption,
    EditedOption,
    FindingOption,
    SinceOption,
    StateOption,
    TextOption,
    UntilOption,
    VoterOption,
    make_filter,
)
from sawyer.cli.options import HomeOption, open_store

if TYPE_CHECKING:
    from sawyer.curation import Curation

app = typer.Typer(
    no_args_is_help=True, help="The preference data: the board, statistics, review, export, import, privacy."
)
app.command("board")(feedback_board.board)
app.add_typer(feedback_review.app, name="review")
app.command("voters")(feedback_review.voters)
app.command("forget")(feedback_review.forget)
app.command("import")(feedback_files.import_data)
app.command("backup")(feedback_files.backup)
app.command("restore")(feedback_files.restore)


@app.command()
def stats(
    home: HomeOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object instead of a table.")] = False,
) -> None:
    """Count what was asked, answered and voted, and the training rows it gives."""
    from sawyer.curation import curated_rows
    from sawyer.curation.rows import FORMS

    with open_store(home) as store:
        numbers = store.stats()
        numbers["training_rows"] = {form: len(curated_rows(store, form)) for form in FORMS}
    if as_json:
        typer.echo(json.dumps(numbers))
    else:
        _print_table(numbers)


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
    state: StateOption = None,
    choice: ChoiceOption = None,
    voter: VoterOption = None,
    finding: FindingOption = None,
    text: TextOption = None,
    blind: BlindOption = None,
    edited: EditedOption = None,
    since: SinceOption = None,
    until: UntilOption = None,
    trusted: Annotated[
        bool, typer.Option("--trusted", help="Leave out doubtful votes that nobody approved, as rounds do.")
    ] = False,
    split: Annotated[str, typer.Option(help="all, train or held_out, by hash of the first question.")] = "all",
    share: Annotated[float, typer.Option(min=0, max=1, help="Held-out share of the conversations.")] = 0.1,
    cap: Annotated[float, typer.Option(min=0.01, max=1, help="Largest share of the rows from one voter.")] = 0.2,
) -> None:
    """Write the feedback in TRL's formats, with a dataset card; datasets.load_dataset reads the file."""
    from sawyer.store.export import export as write

    wanted = make_filter(since, until, state=state, choice=choice, voter=voter, finding=finding, text=text, blind=blind,
                         edited=edited)  # fmt: skip
    curation = _curation(trusted, split, share, cap)
    with open_store(home) as store:
        count = write(store, out, form, overwrite=overwrite, wanted=wanted, curation=curation)  # type: ignore[arg-type]
    typer.echo(f"{count} {form} rows written to {out}")


def _curation(trusted: bool, split: str, share: float, cap: float) -> "Curation":
    from sawyer.curation import TRUSTED, Curation
    from sawyer.errors import UsageError

    if split not in ("all", "train", "held_out"):
        raise UsageError(f"Unknown --split {split!r}. Allowed: all, train, held_out.")
    return Curation(leave_out=TRUSTED if trusted else (), split=split, share=share, cap=cap)  # type: ignore[arg-type]


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
