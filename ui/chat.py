"""What a visitor's page knows: turns, and in each turn the panes. Values, not widgets: every change is a new value."""

from dataclasses import dataclass, replace
from enum import StrEnum

from sawyer.types import VERDICTS, DeltaEvent, DoneEvent, EndEvent, ErrorEvent, Message, TurnEvent
from ui import texts
from ui.client import Event


class Status(StrEnum):
    """Where a pane stands."""

    WAITING = "waiting"
    STREAMING = "streaming"
    DONE = "done"
    FAILED = "failed"
    STOPPED = "stopped"


@dataclass(frozen=True)
class Pane:
    """One stage's answer to one question. ``stage`` is A, B or C in a blind comparison."""

    stage: str
    status: Status = Status.WAITING
    text: str = ""
    result: DoneEvent | None = None
    error: str = ""

    @property
    def open(self) -> bool:
        return self.status in (Status.WAITING, Status.STREAMING)

    @property
    def usable(self) -> bool:
        """Can the conversation go on from it? A stopped answer counts for what it had written."""
        return self.status is Status.DONE or (self.status is Status.STOPPED and bool(self.text.strip()))

    def fail(self, sentence: str) -> "Pane":
        return replace(self, status=Status.FAILED, error=sentence) if self.open else self

    def apply(self, event: DeltaEvent | DoneEvent | ErrorEvent) -> "Pane":
        if isinstance(event, DeltaEvent):
            return replace(self, status=Status.STREAMING, text=self.text + event.delta)
        if isinstance(event, DoneEvent):
            return replace(self, status=Status.DONE, result=event)
        return self.fail(event.error.message)


@dataclass(frozen=True)
class Turn:
    """One question and its answers. ``turn_id`` is known once the server has accepted the question."""

    question: str
    panes: tuple[Pane, ...]
    turn_id: str | None = None
    vote: str | None = None

    @property
    def open(self) -> bool:
        return any(pane.open for pane in self.panes)

    @property
    def votable(self) -> bool:
        return self.turn_id is not None and not self.open and any(p.status is Status.DONE for p in self.panes)

    @property
    def kept(self) -> Pane | None:
        """The answer the conversation goes on from: the voted one, else that of the last stage that answered."""
        usable = [pane for pane in self.panes if pane.usable]
        voted = [pane for pane in usable if pane.stage == self.vote]
        candidates = voted or usable
        return candidates[-1] if candidates else None

    def apply(self, event: Event) -> "Turn":
        """The turn after one event. Deltas of a stage that was never announced are ignored."""
        match event:
            case TurnEvent():
                return replace(self, turn_id=event.turn_id, panes=tuple(Pane(stage) for stage in event.stages))
            case EndEvent():
                return self.fail(texts.UNFINISHED)
            case ErrorEvent(stage=None):
                return self.fail(event.error.message)
            case _:
                return replace(
                    self,
                    panes=tuple(pane.apply(event) if pane.stage == event.stage else pane for pane in self.panes),
                )

    def fail(self, sentence: str) -> "Turn":
        """Panes that were still open failed; answers that had arrived stay."""
        return replace(self, panes=tuple(pane.fail(sentence) for pane in self.panes))

    def stop(self) -> "Turn":
        stopped = (replace(pane, status=Status.STOPPED) if pane.open else pane for pane in self.panes)
        return replace(self, panes=tuple(stopped))


@dataclass(frozen=True)
class Chat:
    """One conversation of one visitor.

    ``voter`` stays the same across new chats. ``notice`` is a sentence to show above the text box. ``unanswered`` is
    a question that got no answer and goes back into the box.
    """

    voter: str = ""
    turns: tuple[Turn, ...] = ()
    conversation_id: str | None = None
    notice: str = ""
    unanswered: str = ""

    @property
    def current(self) -> Turn | None:
        return self.turns[-1] if self.turns else None

    @property
    def busy(self) -> bool:
        return self.current is not None and self.current.open

    @property
    def parent_turn_id(self) -> str | None:
        """The turn the next question continues: the last one that has an answer to continue from."""
        return next((turn.turn_id for turn in reversed(self.turns) if turn.kept), None)

    def messages(self, question: str, system: str = "") -> list[Message]:
        """The shared history, ending with ``question``. Turns nobody answered are left out."""
        messages = [Message(role="system", content=system.strip())] if system.strip() else []
        for turn in self.turns:
            if turn.kept is not None:
                messages.append(Message(role="user", content=turn.question))
                messages.append(Message(role="assistant", content=turn.kept.text))
        return [*messages, Message(role="user", content=question)]

    def ask(self, question: str, stages: tuple[str, ...]) -> "Chat":
        """A new turn, waiting. An unanswered turn before it is dropped: its question went back into the box."""
        answered = tuple(turn for turn in self.turns if turn.kept)
        turn = Turn(question, tuple(Pane(stage) for stage in stages))
        return replace(self, turns=(*answered, turn), notice="", unanswered="")

    def apply(self, event: Event) -> "Chat":
        chat = self._with_current(self._asked().apply(event))
        return replace(chat, conversation_id=event.conversation_id) if isinstance(event, TurnEvent) else chat

    def fail(self, sentence: str) -> "Chat":
        """Refused before it began: the turn is withdrawn and ``sentence`` noted. Later: its open panes say why."""
        turn = self._asked()
        if turn.turn_id is None:
            return replace(self, turns=self.turns[:-1], notice=sentence, unanswered=turn.question)
        return self._with_current(turn.fail(sentence)).settle()

    def stop(self) -> "Chat":
        return self._with_current(self._asked().stop()).settle()

    def settle(self) -> "Chat":
        """After the last event: a question that nobody answered goes back to the visitor."""
        turn = self._asked()
        return self if turn.kept else replace(self, unanswered=turn.question)

    def vote(self, choice: str) -> "Chat":
        turn = self._asked()
        allowed = (*(pane.stage for pane in turn.panes), *VERDICTS)
        assert choice in allowed, f"vote {choice!r} is none of {allowed}"
        return replace(self._with_current(replace(turn, vote=choice)), notice="")

    def noting(self, notice: str) -> "Chat":
        return replace(self, notice=notice)

    def fresh(self) -> "Chat":
        """An empty conversation of the same visitor."""
        return Chat(voter=self.voter)

    def _asked(self) -> Turn:
        assert self.current is not None, "nothing was asked yet"
        return self.current

    def _with_current(self, turn: Turn) -> "Chat":
        return replace(self, turns=(*self.turns[:-1], turn))
