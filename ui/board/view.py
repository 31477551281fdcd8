"""What a visitor's board knows, and how it comes by it."""

from dataclasses import dataclass, replace
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from sawyer.types import Board
from ui.board import texts
from ui.client import ApiClient
from ui.failures import ApiFailure

By = Literal["stage", "version"]


@dataclass(frozen=True)
class View:
    """What is asked for, what came last, and why nothing newer came."""

    by: By = "stage"
    blind: bool | None = None
    board: Board | None = None
    notice: str = ""


class Look(BaseModel):
    """The page is being looked at: has anything changed?"""

    model_config = ConfigDict(extra="forbid")

    act: Literal["poll"] = "poll"


class Switch(BaseModel):
    """A switch was pressed; what it does not name stays as it is."""

    model_config = ConfigDict(extra="forbid")

    act: Literal["switch"]
    by: By | None = None
    votes: Literal["blind", "open", "all"] | None = None


Act = Annotated[Look | Switch, Field(discriminator="act")]


class Looking:
    """The board's one action on one API."""

    def __init__(self, client: ApiClient):
        self._client = client

    async def act(self, view: View, act: Look | Switch, visitor: str | None = None) -> View:
        """The view after an act: the same value when nothing changed, so that nothing need be drawn again."""
        if isinstance(act, Switch):
            view = switched(view, act)
        try:
            board = await self._client.board(view.by, view.blind, visitor)
        except ApiFailure as failure:
            return replace(view, notice=texts.AWAY.format(reason=failure) if view.board else str(failure))
        return replace(view, board=view.board if same(view.board, board) else board, notice="")


def switched(view: View, switch: Switch) -> View:
    """The view asking for something else. Figures of the old question are not shown under the new one."""
    blind = {"blind": True, "open": False, "all": None}.get(switch.votes or "", view.blind)
    after = replace(view, by=switch.by or view.by, blind=blind)
    return after if after == view else replace(after, board=None)


def same(before: Board | None, after: Board) -> bool:
    """Do two boards say the same, whenever they were counted?"""
    return before is not None and before.model_copy(update={"updated": after.updated}) == after
