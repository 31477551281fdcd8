"""`sawyer feedback board`: what the votes say, from the store, without a server."""

from datetime import UTC, datetime
from typing import Annotated

import typer

from sawyer.cli.options import HomeOption, open_store

_TIMES = ["%Y-%m-%d", "%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S"]


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

    from sawyer.cli.board_table import print_board
    from sawyer.errors import UsageError
    from sawyer.home import Home
    from sawyer.preferences import ballots, make_board
    from sawyer.rounds import every_round
    from sawyer.types import BoardQuery

    if by not in ("stage", "version"):
        raise UsageError(f"--by is {by!r}. Allowed: stage and version.")
    if since and until and since >= until:
        raise UsageError(f"--since {since} is not before --until {until}. Swap them or leave one out.")
    times = {name: at.replace(tzinfo=UTC).timestamp() for name, at in (("since", since), ("until", until)) if at}
    query = BoardQuery.model_validate({"by": by, "blind": blind} | times)
    with open_store(home) as store:
        found = make_board(ballots(store.counting_votes()), query, updated=time.time())
    found = found.model_copy(update={"rounds": every_round(Home.find(home))})
    if as_json:
        typer.echo(found.model_dump_json())
    else:
        print_board(found, Console())
