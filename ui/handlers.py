"""What happens on each click: from the chat and the inputs to the next chat. No widgets in here."""

import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from typing import Any

from pydantic import ValidationError

from sawyer.types import VERDICTS, CompareRequest, RatingRequest, TurnEvent, UndoRequest, VoteRequest
from ui import failures, texts
from ui.chat import Chat
from ui.client import ApiClient
from ui.connection import Connection
from ui.failures import ApiFailure
from ui.mode import Mode
from ui.pacing import StopSwitches, batches
from ui.turn import Status, Turn
from ui.visitor import Visitor

MAX_COMMENT = 4000  # as VoteRequest.comment


@dataclass(frozen=True)
class Settings:
    """The folded sampling settings. None leaves a value to the server."""

    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    seed: int | None = None
    system: str = ""


@dataclass(frozen=True)
class Caller:
    """Whose click it is: the visitor, and the address they sit at, for the server's limits."""

    visitor: Visitor
    address: str | None = None


class Handlers:
    """The page's actions on one API. Chats belong to visitors and pass through; only stop switches live here."""

    def __init__(self, client: ApiClient):
        self._client = client
        self._switches = StopSwitches()

    async def connect(self, before: Connection) -> Connection:
        """Who answers, and is it ready? Runs when the page opens and again until the server is ready."""
        try:
            info = await self._client.info()
            return replace(before, info=info, notice="" if info.ready else await self._why_not_ready())
        except ApiFailure as failure:
            return replace(before, notice=texts.SERVER_AWAY_ON_LOAD if failure.status is None else str(failure))

    async def ask(
        self, chat: Chat, question: str, *, connection: Connection, mode: Mode, settings: Settings, caller: Caller
    ) -> AsyncIterator[Chat]:
        """The chat as the answers come in, paced for the browser. Failures end in the chat, never in an exception."""
        question = question.strip()
        if not question:
            yield chat.noting(texts.NOTHING_TO_ASK)
            return
        before = Chat(id=chat.id, revising=chat.revising) if mode.single else chat.settled_for_next()
        if not before.turns:  # each conversation has a place of its own among the past ones
            before = replace(before, id=chat.id if chat.revising and chat.id else uuid.uuid4().hex)
        system, sent = settings.system.strip(), connection.prompt(question)
        stages = connection.stages if mode.blind else connection.panes
        try:
            request = _request(
                before,
                sent,
                settings,
                conversation_id=before.conversation_id,
                parent_turn_id=before.parent_turn_id,
                blind=mode.blind,
                stages=None if stages == connection.stages else list(stages),
            )
        except ValidationError as error:
            yield chat.noting(str(failures.from_validation(error)))
            return
        asked = before.ask(question, stages, sent="" if sent == question else sent, system=system)
        async for after in self._answers(asked, request, replace(chat, unanswered=question), caller):
            yield after

    async def anew(
        self, chat: Chat, panes: tuple[str, ...], *, settings: Settings, caller: Caller
    ) -> AsyncIterator[Chat]:
        """Panes of the last turn answered once more, with another draw; no panes: all of them."""
        turn = chat.current
        if turn is None or turn.open or turn.turn_id is None:
            yield chat.noting(texts.CANNOT_ANSWER_ANEW)
            return
        stages = tuple(pane.stage for pane in turn.panes if not panes or pane.stage in panes)
        try:
            request = _request(
                replace(chat, turns=chat.turns[:-1]),
                turn.prompt,
                replace(settings, seed=None, system=turn.system),
                turn_id=turn.turn_id,
                stages=list(stages),
            )
        except ValidationError as error:
            yield chat.noting(str(failures.from_validation(error)))
            return
        async for after in self._answers(chat.anew(stages), request, chat, caller):
            yield after

    def stop(self, chat: Chat) -> None:
        """Ends the streaming of this chat; ``ask`` then yields the stopped one."""
        self._switches.throw(chat.id)

    async def vote(self, chat: Chat, choice: str, caller: Caller) -> Chat:
        """The chat with the vote in it, once the server has it on disk; else with the reason why not."""
        turn = chat.current
        allowed = (*(pane.stage for pane in turn.panes if pane.status is Status.DONE), *VERDICTS) if turn else ()
        if turn is None or not turn.votable or choice == turn.vote or choice not in allowed:
            return chat
        return await self._vote(chat, turn, choice, caller, edited="")

    async def save_edit(self, chat: Chat, text: str, caller: Caller) -> Chat:
        """The visitor's own words for the answer being edited: a vote for it, with what it should have said."""
        turn, text = chat.current, text.strip()
        pane = turn.pane(chat.editing) if turn else None
        if turn is None or pane is None:
            return chat
        if not text or text == pane.text.strip():
            return chat.noting(texts.EDIT_SAME)
        return await self._vote(chat, turn, pane.stage, caller, edited=text)

    async def comment(self, chat: Chat, comment: str, caller: Caller) -> Chat:
        """A comment on the vote that was cast, as the same vote once more with it."""
        turn = chat.current
        if turn is None or turn.vote is None:
            return chat
        chosen = turn.pane(turn.vote)
        edited = chosen.edited if chosen else ""
        return await self._vote(chat, turn, turn.vote, caller, edited=edited, comment=comment.strip()[:MAX_COMMENT])

    async def undo(self, chat: Chat, caller: Caller) -> Chat:
        """The vote taken back, once the server has that on disk."""
        turn = chat.current
        if turn is None or turn.turn_id is None or turn.vote is None:
            return chat
        undo = UndoRequest(turn_id=turn.turn_id, voter=caller.visitor.voter)
        try:
            await self._client.undo(undo, key=uuid.uuid4().hex, visitor=caller.address)
        except ApiFailure as failure:
            return chat.noting(texts.UNDO_FAILED.format(reason=failure))
        return chat.undo()

    async def thumb(self, chat: Chat, stage: str, up: bool, caller: Caller) -> Chat:
        """A thumb for one answer; the same one again takes it back."""
        pane = chat.current.pane(stage) if chat.current else None
        if pane is None or pane.result is None or not pane.result.completion_id:
            return chat
        after = None if pane.thumb is up else up
        rating = RatingRequest(
            completion_id=pane.result.completion_id,
            up=after,
            voter=caller.visitor.voter,
            consent=caller.visitor.consent,
        )
        try:
            await self._client.rate(rating, key=uuid.uuid4().hex, visitor=caller.address)
        except ApiFailure as failure:
            return chat.noting(texts.THUMB_FAILED.format(reason=failure))
        return chat.thumb(stage, after).noting("")

    async def _answers(self, chat: Chat, request: CompareRequest, refused: Chat, caller: Caller) -> AsyncIterator[Chat]:
        """``refused`` is what is shown, with the reason, when the server does not even begin."""
        yield chat
        begun, switch = False, self._switches.arm(chat.id)
        try:
            async for batch in batches(self._client.compare(request, caller.address), switch):
                for event in batch:
                    begun = begun or isinstance(event, TurnEvent)
                    chat = chat.apply(event)
                yield chat
            chat = chat.stop() if switch.is_set() else chat.settle()
            if switch.is_set() and not begun:
                chat = refused
        except ApiFailure as failure:
            chat = chat.fail(str(failure)) if begun else refused.noting(str(failure))
        finally:
            self._switches.disarm(chat.id, switch)
        yield chat

    async def _vote(
        self, chat: Chat, turn: Turn, choice: str, caller: Caller, *, edited: str, comment: str = ""
    ) -> Chat:
        visitor = caller.visitor
        try:
            vote = VoteRequest.model_validate(
                {
                    "turn_id": turn.turn_id,
                    "choice": choice,
                    "position": turn.place(choice),
                    "voter": visitor.voter,
                    "name": visitor.name or None,
                    "consent": visitor.consent,
                    "comment": comment or None,
                    "edited": edited or None,
                }
            )
            stored = await self._client.vote(vote, key=uuid.uuid4().hex, visitor=caller.address)
        except ValidationError as error:
            return chat.noting(str(failures.from_validation(error)))
        except ApiFailure as failure:
            return chat.noting(texts.VOTE_FAILED.format(reason=failure))
        return chat.vote(choice, comment=comment, edited=edited).reveal(dict(stored.panes), stored.versions)

    async def _why_not_ready(self) -> str:
        health = await self._client.readiness()
        if health.status == "failed":
            return texts.SERVER_FAILED.format(detail=health.detail or "")
        if health.status == "draining":
            return health.detail or texts.SERVER_AWAY
        return texts.SERVER_LOADING


def accepted(before: Chat, after: Chat) -> bool:
    """Has the server just taken the question? Only then is the text box emptied."""
    if after.current is None or after.current.turn_id is None:
        return False
    return before.current is None or before.current.turn_id != after.current.turn_id


def box_afterwards(chat: Chat, box: str) -> str:
    """The unanswered question back in the text box, unless the visitor is already writing something else.

    An answered one goes, should a slow browser still show it.
    """
    if chat.unanswered:
        return box if box.strip() else chat.unanswered
    answered = chat.current is not None and chat.current.kept is not None and chat.current.turn_id is not None
    return "" if answered and chat.current is not None and box.strip() == chat.current.question else box


def _request(chat: Chat, prompt: str, settings: Settings, **more: Any) -> CompareRequest:
    return CompareRequest(
        messages=chat.messages(prompt, settings.system),
        max_tokens=settings.max_tokens,
        temperature=settings.temperature,
        top_p=settings.top_p,
        seed=settings.seed,
        **more,
    )
