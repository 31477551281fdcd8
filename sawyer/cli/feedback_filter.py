"""The filter options that several commands of `sawyer feedback` share."""

from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from sawyer.types import FeedbackFilter

StateOption = Annotated[
    str | None, typer.Option(help="Only votes in this state: pending, approved, rejected, flagged.")
]
ChoiceOption = Annotated[str | None, typer.Option(help="Only votes for base, sft, rlf, tie or bad.")]
VoterOption = Annotated[str | None, typer.Option(help="Only votes of this voter.")]
FindingOption = Annotated[
    str | None,
    typer.Option(help="Only votes found duplicate, too_fast, one_position, contradicts or disagrees."),
]
TextOption = Annotated[str | None, typer.Option(help="Only where this stands in questions, answers, edits, comments.")]
BlindOption = Annotated[bool | None, typer.Option("--blind/--open", help="Only blind votes, or only open ones.")]
EditedOption = Annotated[bool | None, typer.Option("--edited/--unedited", help="Only votes with an edit, or without.")]
SinceOption = Annotated[datetime | None, typer.Option(help="Only votes since then (local time).")]
UntilOption = Annotated[datetime | None, typer.Option(help="Only votes until then (local time).")]


def make_filter(since: datetime | None = None, until: datetime | None = None, **given: object) -> "FeedbackFilter":
    """The filter of these options. Raises UsageError: a value that is not allowed."""
    from pydantic import ValidationError

    from sawyer.errors import UsageError
    from sawyer.types import FeedbackFilter

    times = {"since": since.timestamp() if since else None, "until": until.timestamp() if until else None}
    try:
        return FeedbackFilter.model_validate(given | times)
    except ValidationError as error:
        faults = (f"--{problem['loc'][0]} {problem['input']!r}: {problem['msg']}" for problem in error.errors())
        raise UsageError("; ".join(faults) + ".") from error
