"""What several commands share: options, and the feedback store of a home."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from sawyer.store import FeedbackStore

HomeOption = Annotated[
    Path | None, typer.Option("--home", help="State folder.", show_default="$SAWYER_HOME or ./.sawyer")
]
RecipeArgument = Annotated[str, typer.Argument(metavar="RECIPE", help="Recipe file or name, such as nano.")]
SetOption = Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a recipe key.")]


def typed() -> str:
    """The command line as it was typed, for reports."""
    import shlex
    import sys

    return shlex.join(["sawyer", *sys.argv[1:]])


def open_store(home: Path | None) -> "FeedbackStore":
    """The feedback store of a home, made where there is none yet. Raises as `Home.ensure` and `FeedbackStore.open`."""
    from sawyer.home import Home
    from sawyer.store import FeedbackStore

    return FeedbackStore.open(Home.find(home).ensure().db_url)
