"""`sawyer feedback review`, `voters`, `forget`: reading votes through, deciding on them, removing a person."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sawyer.cli.feedback_filter import (
    BlindOption,
    ChoiceOption,
    EditedOption,
    FindingOption,
    StateOption,
    TextOption,
    VoterOption,
    make_filter,
)
from sawyer.cli.options import HomeOption, open_store

if TYPE_CHECKING:
    from sawyer.store import FeedbackStore, Turn, Vote
    from sawyer.types import FeedbackFilter, Finding

app = typer.Typer(no_args_is_help=True, help="Read votes through; approve, reject or flag them.")

VotesArgument = Annotated[
    list[str] | None, typer.Argument(metavar="[VOTE]...", help="Ids of votes, or their first characters.")
]
NoteOption = Annotated[str | None, typer.Option(help="Why.")]
YesOption = Annotated[bool, typer.Option("--yes", help="Do not ask.")]


@app.command("list")
def list_votes(
    state: StateOption = None,
    choice: ChoiceOption = None,
    voter: VoterOption = None,
    finding: FindingOption = None,
    text: TextOption = None,
    blind: BlindOption = None,
    edited: EditedOption = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many, the newest.")] = 20,
    home: HomeOption = None,
) -> None:
    """Show votes, newest first, with what a machine noticed about them."""
    from itertools import islice

    from rich.console import Console
    from rich.panel import Panel

    wanted = make_filter(
        state=state, choice=choice, voter=voter, finding=finding, text=text, blind=blind, edited=edited
    )
    console = Console()
    with open_store(home) as store:
        shown = 0
        for vote, turn, found in islice(_matching(store, wanted), limit):
            shown += 1
            console.print(Panel(_told(vote, turn, found), title=vote.id, title_align="left", style=_STYLES[vote.state]))
    console.print(f"{shown} votes shown" if shown else "No votes match.")


def _decision(state: str) -> Callable[..., None]:
    """The command that brings votes into a state."""

    def decide(
        votes: VotesArgument = None,
        note: NoteOption = None,
        finding: FindingOption = None,
        voter: VoterOption = None,
        home: HomeOption = None,
        yes: YesOption = False,
    ) -> None:
        _decide(state, votes, note, finding, voter, home, yes)

    return decide


app.command("approve", help="Approve votes: they teach, whatever a machine noticed.")(_decision("approved"))
app.command("reject", help="Reject votes: they count nowhere and teach nothing.")(_decision("rejected"))
app.command("flag", help="Flag votes for a later decision: they count, and teach nothing until then.")(
    _decision("flagged")
)


def voters(home: HomeOption = None) -> None:
    """List who voted, the most suspicious first."""
    from rich.console import Console
    from rich.table import Table

    from sawyer.curation import analyse
    from sawyer.store.browse import standing_votes

    table = Table("voter", "name", "votes", "median seconds", "favourite place", "agrees with others", "findings")
    with open_store(home) as store:
        for each in analyse(standing_votes(store)).voters:
            seconds = "–" if each.median_seconds is None else f"{each.median_seconds:.1f}"
            share = "–" if each.favourite_share is None else f"{each.favourite_position} ({each.favourite_share:.0%})"
            agreed = "–" if each.agreement is None else f"{each.agreement:.0%}"
            cells = (each.voter or "(anonymous)", each.name or "", str(each.votes), seconds, share, agreed)
            table.add_row(*map(_plain, cells), ", ".join(each.findings))
    Console().print(table)


def forget(
    voter: Annotated[str, typer.Argument(help="Whose data to remove (`sawyer feedback voters` lists them).")],
    home: HomeOption = None,
    yes: YesOption = False,
) -> None:
    """Remove a person's votes, thumbs and chats from the database and from files that were made of it."""
    from sawyer.store.forget import forget as remove

    with open_store(home) as store:
        if not yes:
            typer.confirm(f"Remove everything of {voter}? This cannot be undone", abort=True)
        done = remove(store, voter)
    typer.echo(
        f"Removed {done.votes} votes, {done.ratings} thumbs and {done.conversations} conversations. Files rewritten: "
        f"{', '.join(map(str, done.files)) or 'none'}. Backups, downloads and models trained before are not changed."
    )


_STYLES = {"pending": "", "approved": "green", "rejected": "red", "flagged": "yellow"}


def _decide(
    state: str,
    ids: list[str] | None,
    note: str | None,
    finding: str | None,
    voter: str | None,
    home: Path | None,
    yes: bool,
) -> None:
    from sawyer.errors import UsageError

    if bool(ids) == (finding is not None or voter is not None):
        raise UsageError("Name votes by their ids, or choose them by --finding or --voter: one of the two.")
    with open_store(home) as store:
        if ids:
            chosen = [_full(store, given) for given in ids]
        else:
            wanted = make_filter(finding=finding, voter=voter)
            chosen = [vote.id for vote, _, _ in _matching(store, wanted) if vote.state != state]
            if not chosen:
                typer.echo("No votes match.")
                return
            if not yes:
                typer.confirm(f"{len(chosen)} votes become {state}", abort=True)
        count = store.review(chosen, state, reviewer="terminal", note=note)
    typer.echo(f"{count} votes {state}")


def _full(store: "FeedbackStore", given: str) -> str:
    """The id of the one vote that begins so."""
    from sawyer.errors import UsageError

    found = [vote.id for vote in store.votes(newest_only=False) if vote.id.startswith(given)]
    if len(found) != 1:
        raise UsageError(f"{len(found)} votes have an id that begins with {given!r}. Give more of it.")
    return found[0]


def _matching(store: "FeedbackStore", wanted: "FeedbackFilter") -> "list[tuple[Vote, Turn, list[Finding]]]":
    from sawyer.curation import analyse
    from sawyer.store.browse import standing_votes

    found = analyse(standing_votes(store)).findings
    votes = standing_votes(store, wanted, found, newest_first=True)
    return [(vote, turn, found.get(vote.id, [])) for vote, turn in votes]


def _told(vote: "Vote", turn: "Turn", found: "list[Finding]") -> str:
    """A vote in lines. What people and models wrote is shown as it is, without terminal codes or markup."""
    from datetime import datetime

    from sawyer.store import contestant

    when = datetime.fromtimestamp(vote.created).strftime("%Y-%m-%d %H:%M")
    who = vote.name or vote.voter or "anonymous"
    lines = [f"{vote.choice} by {who}, {when}, {vote.state}" + (f", {', '.join(found)}" if found else "")]
    lines.append(f"asked: {turn.messages[-1]['content']}")
    for answer in turn.completions:
        if answer.id in vote.shown:
            lines.append(f"{'>' if answer.id == vote.completion_id else ' '} {contestant(answer)}: {answer.text}")
    lines += [f"{label}: {text}" for label, text in (("edited", vote.edited), ("comment", vote.comment)) if text]
    return "\n".join(map(_plain, lines))


def _plain(text: str) -> str:
    """Text that neither the terminal nor rich takes for a command."""
    from rich.markup import escape

    shown = "".join(character if character.isprintable() else " " for character in text)
    return escape(shown if len(shown) <= 400 else shown[:399] + "…")
