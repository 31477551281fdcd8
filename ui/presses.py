"""What a press on one of the page's own buttons does that needs no stream: votes, thumbs, edits, past chats."""

from dataclasses import dataclass, replace
from typing import Any

from pydantic import TypeAdapter, ValidationError

from ui import history
from ui.chat import Chat
from ui.handlers import Caller, Handlers
from ui.turn import Pane
from ui.visitor import Visitor


@dataclass(frozen=True)
class Press:
    """A button's data as the browser sent it; see ``ui.markup.button``."""

    do: str = ""
    slot: int | None = None
    choice: str = ""
    id: str = ""

    @classmethod
    def read(cls, data: Any) -> "Press":
        """Anything that is not a button's data presses nothing."""
        try:
            return TypeAdapter(cls).validate_python(data)
        except ValidationError:
            return cls()

    def pane(self, chat: Chat) -> Pane | None:
        """The pane whose button it was."""
        panes = chat.current.panes if chat.current else ()
        return panes[self.slot] if self.slot is not None and 0 <= self.slot < len(panes) else None

    def example(self, examples: tuple[str, ...]) -> str:
        """The example whose button it was; empty where there is none such."""
        return examples[self.slot] if self.slot is not None and 0 <= self.slot < len(examples) else ""

    def panes(self, chat: Chat) -> tuple[str, ...]:
        """The pane to be answered anew; none: all of them."""
        pane = self.pane(chat)
        return (pane.stage,) if pane else ()


@dataclass(frozen=True)
class State:
    """What a press may change. ``box`` and ``edit`` are new texts of the two boxes, None leaves them alone."""

    chat: Chat
    visitor: Visitor
    chats: Any
    box: str | None = None
    edit: str | None = None


async def act(handlers: Handlers, press: Press, state: State, address: str | None) -> State:
    """The state after the press; the same one when the button no longer fits what is shown."""
    chat, pane, caller = state.chat, press.pane(state.chat), Caller(state.visitor, address)
    if press.do in ("open", "forget", "seen"):
        return _of_the_browser(press, state)
    if chat.current is None or chat.busy:
        return state
    match press.do:
        case "vote":
            choice = press.choice or (pane.stage if pane else "")
            return replace(state, chat=await handlers.vote(chat, choice, caller))
        case "undo":
            return replace(state, chat=await handlers.undo(chat, caller))
        case "up" | "down" if pane:
            return replace(state, chat=await handlers.thumb(chat, pane.stage, press.do == "up", caller))
        case "edit" if pane:
            return replace(state, chat=chat.edit(pane.stage), edit=pane.final)
        case "revise":
            return replace(state, chat=chat.revise(True), box=chat.current.question)
        case "unrevise":
            return replace(state, chat=chat.revise(False), box="")
        case _:
            return state


def _of_the_browser(press: Press, state: State) -> State:
    if press.do == "seen":
        return replace(state, visitor=replace(state.visitor, seen_hint=True))
    if press.do == "forget":
        return replace(state, chats=history.remove(state.chats, press.id))
    found = None if state.chat.busy else history.find(state.chats, press.id)
    return replace(state, chat=found, box="") if found else state
