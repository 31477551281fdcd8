"""What a reviewer can do, as the page's script reports it. Forms send text; what it must be is checked here."""

from datetime import UTC, datetime
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from sawyer.types import ReviewState

Tab = Literal["feedback", "voters", "rounds", "versions"]
ExportFormat = Literal["preference", "kto", "sft"]


class _Act(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


def _split(ids: object) -> object:
    """Ids come as one text, a line each, as the script joins them."""
    return [one for one in ids.split("\n") if one] if isinstance(ids, str) else ids


def _blank(text: object) -> object:
    """A field that was left empty says nothing."""
    return None if isinstance(text, str) and not text.strip() else text


Given = Annotated[str | None, BeforeValidator(_blank)]


class Enter(_Act):
    act: Literal["enter"]
    key: str = ""


class Leave(_Act):
    act: Literal["leave"]


class Show(_Act):
    act: Literal["show"]
    tab: Tab


class Find(_Act):
    """The filter's form, every field as text."""

    act: Literal["find"]
    state: Given = None
    choice: Given = None
    finding: Given = None
    blind: Given = None
    edited: Given = None
    voter: Given = None
    text: Given = None
    since: Given = None
    until: Given = None


class Read(_Act):
    """The votes of one voter, whatever their state."""

    act: Literal["read"]
    voter: str


class More(_Act):
    act: Literal["more"]


class Decide(_Act):
    act: Literal["decide"]
    state: ReviewState
    ids: Annotated[list[str], BeforeValidator(_split)]
    note: Given = None


class Redact(_Act):
    act: Literal["redact"]
    conversation: str
    text: str
    note: Given = None


class Export(_Act):
    act: Literal["export"]
    format: ExportFormat


class Open(_Act):
    """Look at one round; 0 goes back to the list."""

    act: Literal["open"]
    number: int


class Start(_Act):
    act: Literal["start"]
    method: Literal["ppo", "dpo", "ipo", "kto"]
    dry_run: bool = False


class Stop(_Act):
    act: Literal["stop"]
    number: int


class Promote(_Act):
    act: Literal["promote"]
    ref: str


class Rollback(_Act):
    act: Literal["rollback"]
    stage: Literal["base", "sft", "rlf", "reward"]


class Poll(_Act):
    act: Literal["poll"]


Act = Annotated[
    Enter
    | Leave
    | Show
    | Find
    | Read
    | More
    | Decide
    | Redact
    | Export
    | Open
    | Start
    | Stop
    | Promote
    | Rollback
    | Poll,
    Field(discriminator="act"),
]


def seconds(day: str, *, end: bool = False) -> float:
    """An ISO day (UTC) as seconds since the epoch: its beginning, or its end.

    Raises:
        ValueError: it is no day.
    """
    return datetime.fromisoformat(day).replace(tzinfo=UTC).timestamp() + (86_400 if end else 0)
