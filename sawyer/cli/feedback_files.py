"""`sawyer feedback import`, `backup`, `restore`: data of others, and copies of one's own."""

from pathlib import Path
from typing import Annotated

import typer

from sawyer.cli.options import HomeOption

OverwriteOption = Annotated[bool, typer.Option("--overwrite", help="Replace what is there.")]


def import_data(
    source: Annotated[str, typer.Argument(help="File (.jsonl, .json, .csv, .parquet) or dataset of the hub.")],
    name: Annotated[
        str | None, typer.Option(help="Name of the folder to make.", show_default="the file's name")
    ] = None,
    split: Annotated[str, typer.Option(help="Split of a hub dataset.")] = "train",
    subset: Annotated[str | None, typer.Option(help="Subset of a hub dataset.")] = None,
    home: HomeOption = None,
    overwrite: OverwriteOption = False,
) -> None:
    """Bring HH-RLHF, UltraFeedback, Argilla or TRL data into a folder that recipes name as a source."""
    from sawyer.home import Home
    from sawyer.importing import import_records, write_folder

    found = import_records(source, split=split, subset=subset)
    name = name or Path(source).name.split(".")[0]
    folder = write_folder(found, name, source, Home.find(home).ensure().data, overwrite=overwrite)
    typer.echo(f"{len(found.rows)} {found.form} rows from {found.read} records written to {folder}")
    if found.duplicates:
        typer.echo(f"{found.duplicates} exact duplicates were left out.")
    if found.contradictions:
        typer.echo(f"{found.contradictions} pairs say the opposite of an earlier one; they were kept.")
    if found.skipped:
        typer.echo(
            f"{found.skipped} records had no usable prompt and replies, the first is record {found.first_skipped}."
        )
    typer.echo(f"In a recipe: - name: {folder}")


def backup(
    out: Annotated[Path, typer.Argument(help="File to write.")],
    home: HomeOption = None,
    overwrite: OverwriteOption = False,
) -> None:
    """Copy the feedback database, also while it is in use."""
    from sawyer.home import Home
    from sawyer.store.backup import backup as copy

    count = copy(Home.find(home).db_url, out, overwrite=overwrite)
    typer.echo(f"The feedback database with {count} votes was copied to {out}")


def restore(source: Annotated[Path, typer.Argument(help="The backup.")], home: HomeOption = None) -> None:
    """Put a backup in the place of the feedback database; what was there is kept beside it."""
    from sawyer.home import Home
    from sawyer.store.backup import restore as put_back

    kept = put_back(Home.find(home).ensure().db_url, source)
    typer.echo(f"Restored from {source}" + (f"; what was there before is in {kept}" if kept else ""))
