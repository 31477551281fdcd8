"""One question and its panes, as values: every event, vote and edit makes a new one."""

from dataclasses import dataclass, replace
from enum import StrEnum

from sawyer.types import BLIND_PANES, VERDICTS, DeltaEvent, DoneEvent, EndEvent, ErrorEvent, QueuedEvent, TurnEvent
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
    """One answer. ``stage`` is what the pane is called: a stage, a version of one (``rlf@2``), or a letter when blind.

    ``edited`` is what it should have said, in the visitor's words. ``behind`` and ``version`` are what a vote revealed
    of a blind pane; an open one knows its version when it is done.
    """

    stage: str
    status: Status = Status.WAITING
    text: str = ""
    result: DoneEvent | None = None
    error: str = ""
    edited: str = ""
    thumb: bool | None = None
    behind: str = ""
    version: str | None = None

    @property
    def open(self) -> bool:
        return self.status in (Status.WAITING, Status.STREAMING)

    @property
    def usable(self) -> bool:
        """Can the conversation go on from it? A stopped answer counts for what it had written."""
        return self.status is Status.DONE or (self.status is Status.STOPPED and bool(self.text.strip()))

    @property
    def final(self) -> str:
        """What the conversation goes on from."""
        return self.edited or self.text

    @property
    def hidden(self) -> bool:
        """A blind pane that no vote has revealed yet: its reward would give it away."""
        return self.stage in BLIND_PANES and not self.behind

    def anew(self) -> "Pane":
        """The same place, waiting for another answer."""
        return Pane(self.stage, behind=self.behind, version=self.version if self.behind else None)

    def fail(self, sentence: str) -> "Pane":
        return replace(self, status=Status.FAILED, error=sentence) if self.open else self

    def apply(self, event: DeltaEvent | DoneEvent | ErrorEvent) -> "Pane":
        if isinstance(event, DeltaEvent):
            return replace(self, status=Status.STREAMING, text=self.text + event.delta)
        if isinstance(event, DoneEvent):
            return replace(self, status=Status.DONE, result=event, version=event.version or self.version)
        return self.fail(event.error.message)


@dataclass(frozen=True)
class Turn:
    """One question and its answers. ``turn_id`` is known once the server has accepted the question.

    ``sent`` is what went to the model where that is more than the question (a summary's instruction); ``system`` the
    system prompt it went with. ``ahead`` counts the replies of others that come first, while the panes wait.
    """

    question: str
    panes: tuple[Pane, ...]
    turn_id: str | None = None
    vote: str | None = None
    comment: str = ""
    sent: str = ""
    system: str = ""
    ahead: int | None = None

    @property
    def prompt(self) -> str:
        return self.sent or self.question

    @property
    def open(self) -> bool:
        return any(pane.open for pane in self.panes)

    @property
    def answered(self) -> bool:
        """There is something to say of it: the server knows the turn, and an answer is complete."""
        return self.turn_id is not None and not self.open and any(p.status is Status.DONE for p in self.panes)

    @property
    def revealed(self) -> bool:
        return any(pane.behind for pane in self.panes)

    @property
    def votable(self) -> bool:
        """Once revealed, a blind turn takes no other vote: it would not be blind."""
        return self.answered and not self.revealed

    @property
    def kept(self) -> Pane | None:
        """The answer the conversation goes on from: the voted one, else that of the last stage that answered."""
        usable = [pane for pane in self.panes if pane.usable]
        voted = [pane for pane in usable if pane.stage == self.vote]
        candidates = voted or usable
        return candidates[-1] if candidates else None

    def pane(self, stage: str) -> Pane | None:
        return next((pane for pane in self.panes if pane.stage == stage), None)

    def place(self, stage: str) -> int | None:
        """Where the pane stands, from 0."""
        return next((slot for slot, pane in enumerate(self.panes) if pane.stage == stage), None)

    def apply(self, event: Event) -> "Turn":
        """The turn after one event. Deltas of a stage that was never announced are ignored."""
        match event:
            case TurnEvent():
                if event.turn_id == self.turn_id:  # panes of it are answered anew
                    return self
                return replace(self, turn_id=event.turn_id, panes=tuple(Pane(stage) for stage in event.stages))
            case QueuedEvent():
                return replace(self, ahead=event.ahead)
            case EndEvent():
                return self.fail(texts.UNFINISHED)
            case ErrorEvent(stage=None):
                return self.fail(event.error.message)
            case _:
                panes = (pane.apply(event) if pane.stage == event.stage else pane for pane in self.panes)
                return replace(self, ahead=None, panes=tuple(panes))

    def anew(self, stages: tuple[str, ...]) -> "Turn":
        """These panes wait for another answer; a vote on the old ones no longer stands here."""
        panes = tuple(pane.anew() if pane.stage in stages else pane for pane in self.panes)
        return replace(self, panes=panes, vote=None, comment="", ahead=None)

    def with_pane(self, changed: Pane) -> "Turn":
        return replace(self, panes=tuple(changed if pane.stage == changed.stage else pane for pane in self.panes))

    def voted(self, choice: str) -> "Turn":
        allowed = (*(pane.stage for pane in self.panes), *VERDICTS)
        assert choice in allowed, f"vote {choice!r} is none of {allowed}"
        return replace(self, vote=choice)

    def reveal(self, stages: dict[str, str], versions: dict[str, str | None]) -> "Turn":
        """What stands behind the letters of a blind turn."""
        panes = (
            replace(pane, behind=stages[pane.stage], version=versions.get(pane.stage))
            if pane.stage in BLIND_PANES and pane.stage in stages
            else pane
            for pane in self.panes
        )
        return replace(self, panes=tuple(panes))

    def fail(self, sentence: str) -> "Turn":
        """Panes that were still open failed; answers that had arrived stay."""
        return replace(self, ahead=None, panes=tuple(pane.fail(sentence) for pane in self.panes))

    def stop(self) -> "Turn":
        stopped = (replace(pane, status=Status.STOPPED) if pane.open else pane for pane in self.panes)
        return replace(self, ahead=None, panes=tuple(stopped))
