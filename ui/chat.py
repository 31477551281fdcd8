"""What a visitor's page knows of one conversation. Values, not widgets: every change is a new value."""

from dataclasses import dataclass, replace

from sawyer.types import DoneEvent, Message, TurnEvent
from ui import texts
from ui.client import Event
from ui.turn import Pane, Turn


@dataclass(frozen=True)
class Chat:
    """One conversation of one visitor.

    ``notice`` is a sentence to show above the text box. ``unanswered`` is a question that got no answer and goes back
    into the box. ``revising``: the next question replaces the last one. ``editing`` names the pane whose answer is
    being written anew by the visitor.
    """

    id: str = ""
    turns: tuple[Turn, ...] = ()
    conversation_id: str | None = None
    notice: str = ""
    unanswered: str = ""
    revising: bool = False
    editing: str = ""

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

    def messages(self, prompt: str, system: str = "") -> list[Message]:
        """The shared history, ending with ``prompt``. Turns nobody answered are left out."""
        messages = [Message(role="system", content=system.strip())] if system.strip() else []
        for turn in self.turns:
            if turn.kept is not None:
                messages.append(Message(role="user", content=turn.prompt))
                messages.append(Message(role="assistant", content=turn.kept.final))
        return [*messages, Message(role="user", content=prompt)]

    def before(self) -> "Chat":
        """The conversation as it was before its last question."""
        rest = replace(self, turns=self.turns[:-1])
        return rest if rest.turns else replace(rest, conversation_id=None)

    def settled_for_next(self) -> "Chat":
        """What the next question continues: without a question that is revised, or that nobody answered."""
        chat = self.before() if self.revising and self.turns else self
        return replace(chat, turns=tuple(turn for turn in chat.turns if turn.kept), revising=False, editing="")

    def ask(self, question: str, stages: tuple[str, ...], *, sent: str = "", system: str = "") -> "Chat":
        """A new turn, waiting. Call it on ``settled_for_next()``."""
        turn = Turn(question, tuple(Pane(stage) for stage in stages), sent=sent, system=system)
        return replace(self, turns=(*self.turns, turn), notice="", unanswered="", editing="")

    def anew(self, stages: tuple[str, ...]) -> "Chat":
        """Panes of the last turn wait for another answer."""
        return replace(self._with_current(self._asked().anew(stages)), notice="", unanswered="", editing="")

    def apply(self, event: Event) -> "Chat":
        chat = self._with_current(self._asked().apply(event))
        return replace(chat, conversation_id=event.conversation_id) if isinstance(event, TurnEvent) else chat

    def fail(self, sentence: str) -> "Chat":
        """In mid-answer: the panes that were still open say why."""
        return self._with_current(self._asked().fail(sentence)).settle()

    def stop(self) -> "Chat":
        return self._with_current(self._asked().stop()).settle()

    def settle(self) -> "Chat":
        """After the last event: a question that nobody answered goes back to the visitor."""
        turn = self._asked()
        return self if turn.kept else replace(self, unanswered=turn.question)

    def vote(self, choice: str, *, comment: str = "", edited: str = "") -> "Chat":
        """The vote is stored. ``edited`` is what the chosen pane should have said."""
        turn = self._asked().voted(choice)
        panes = tuple(replace(pane, edited=edited if pane.stage == choice else "") for pane in turn.panes)
        return replace(self._with_current(replace(turn, panes=panes, comment=comment)), notice="", editing="")

    def reveal(self, stages: dict[str, str], versions: dict[str, str | None]) -> "Chat":
        return self._with_current(self._asked().reveal(stages, versions))

    def undo(self) -> "Chat":
        """The vote is taken back, and with it what the visitor had written for it."""
        turn = self._asked()
        panes = tuple(replace(pane, edited="") for pane in turn.panes)
        return replace(self._with_current(replace(turn, vote=None, comment="", panes=panes)), notice="")

    def thumb(self, stage: str, up: bool | None) -> "Chat":
        pane = self._asked().pane(stage)
        return self._with_current(self._asked().with_pane(replace(pane, thumb=up))) if pane else self

    def revise(self, on: bool) -> "Chat":
        return replace(self, revising=on, editing="", notice="")

    def edit(self, stage: str) -> "Chat":
        """Begin, or with no stage end, to write an answer anew."""
        return replace(self, editing=stage, notice="")

    def noting(self, notice: str) -> "Chat":
        return replace(self, notice=notice)

    def restored(self) -> "Chat":
        """As it comes back from the browser's memory: what was streaming then was cut off."""
        turns = tuple(turn.fail(texts.CUT_OFF) for turn in self.turns)
        return replace(self, turns=turns, notice="", unanswered="", revising=False, editing="")

    def as_copy(self) -> "Chat":
        """For somebody else: the texts and votes, without what only its own visitor may vote on and continue."""
        turns = []
        for turn in self.turns:
            panes = (replace(pane, result=_without_id(pane.result), thumb=None) for pane in turn.panes)
            turns.append(replace(turn, turn_id=None, comment="", panes=tuple(panes)))
        return Chat(turns=tuple(turns)).restored()

    def _asked(self) -> Turn:
        assert self.current is not None, "nothing was asked yet"
        return self.current

    def _with_current(self, turn: Turn) -> "Chat":
        return replace(self, turns=(*self.turns[:-1], turn))


def _without_id(result: DoneEvent | None) -> DoneEvent | None:
    return result.model_copy(update={"completion_id": ""}) if result else None
