"""`sawyer keys`: who may use a served model."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sawyer.cli.options import HomeOption

if TYPE_CHECKING:
    from serve.keys import KeyFile

app = typer.Typer(no_args_is_help=True, help="API keys of the server of a home.")


@app.command()
def add(
    role: Annotated[
        str, typer.Option(help="reader (asks), voter (and gives feedback) or admin (and everything else).")
    ] = "voter",
    label: Annotated[str, typer.Option(help="Whose it is, for the list.")] = "",
    page: Annotated[
        bool, typer.Option("--page", help="For a page (sawyer ui): it may name its visitors, each with limits.")
    ] = False,
    home: HomeOption = None,
) -> None:
    """Make a key and show it, this once: only a digest is kept."""
    key, text = _file(home).add(role, label, page=page)
    typer.echo(text)
    typer.echo(
        f"Key {key.id} has role {key.role}. Keep it now; it cannot be shown again. Send it as `Authorization: Bearer "
        "…`, or as api_key of the openai client. A server that started without any key asks for keys once restarted.",
        err=True,
    )


@app.command("list")
def list_keys(home: HomeOption = None) -> None:
    """Show the keys' names and roles."""
    from datetime import datetime

    from rich.console import Console
    from rich.table import Table

    table = Table()
    for heading in ("id", "role", "label", "for", "made"):
        table.add_column(heading, overflow="fold")
    for key in _file(home).load():
        made = datetime.fromtimestamp(key.created).astimezone().strftime("%Y-%m-%d %H:%M")
        table.add_row(key.id, key.role, key.label, "a page" if key.page else "a client", made)
    if table.row_count:
        Console().print(table)
    else:
        typer.echo("There are no keys: sawyer keys add --role voter makes one.")


@app.command()
def revoke(key_id: Annotated[str, typer.Argument(metavar="ID")], home: HomeOption = None) -> None:
    """Take a key back; a running server refuses it from its next request on."""
    key = _file(home).revoke(key_id)
    typer.echo(f"Key {key.id} ({key.role}{', ' + key.label if key.label else ''}) is revoked.")


def _file(home: Path | None) -> "KeyFile":
    from sawyer.home import Home
    from serve.keys import KeyFile

    return KeyFile(Home.find(home).root)
