"""What happens on each click: from the chat and the inputs to the next chat. No widgets in here."""

import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace

from pydantic import ValidationError

from sawyer.types import CompareRequest, VoteRequest
from ui import failures, texts
from ui.chat import Chat
from ui.client import ApiClient
from ui.connection import Connection
from ui.failures import ApiFailure
from ui.pacing import StopSwitches, batches


@dataclass(frozen=True)
class Settings:
    """The folded sampling settings. None leaves a value to the server."""

    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    seed: int | None = None
    system: str = ""


class Handlers:
    """The page's actions on one API. Chats belong to visitors and pass through; only stop switches live here."""

    def __init__(self, client: ApiClient):
        self._client = client
        self._switches = StopSwitches()

    async def connect(self, before: Connection) -> Connection:
        """Who answers, and is it ready? Runs when the page opens and again until the server is ready."""
        try:
            info = await self._client.info()
            return Connection(info, "" if info.ready else await self._why_not_ready())
        except ApiFailure as failure:
            return Connection(before.info, texts.SERVER_AWAY_ON_LOAD if failure.status is None else str(failure))

    async def ask(
        self,
        chat: Chat,
        question: str,
        *,
        stages: tuple[str, ...],
        settings: Settings,
        visitor: str | None = None,
    ) -> AsyncIterator[Chat]:
        """The chat as the answers come in, paced for the browser. Failures end in the chat, never in an exception.

        ``stages`` are the panes to show until the server names its own. ``visitor`` is the address of the person.
        """
        question = question.strip()
        if not question:
            yield chat.noting(texts.NOTHING_TO_ASK)
            return
        try:
            request = _request(chat, question, settings)
        except ValidationError as error:
            yield chat.noting(str(failures.from_validation(error)))
            return
        chat = replace(chat, voter=chat.voter or uuid.uuid4().hex).ask(question, stages)
        yield chat
        switch = self._switches.arm(chat.voter)
        try:
            async for batch in batches(self._client.compare(request, visitor), switch):
                for event in batch:
                    chat = chat.apply(event)
                yield chat
            chat = chat.stop() if switch.is_set() else chat.settle()
        except ApiFailure as failure:
            chat = chat.fail(str(failure))
        finally:
            self._switches.disarm(chat.voter, switch)
        yield chat

    def stop(self, chat: Chat) -> None:
        """Ends the streaming of this visitor; ``ask`` then yields the stopped chat."""
        self._switches.throw(chat.voter)

    async def vote(self, chat: Chat, choice: str, visitor: str | None = None) -> Chat:
        """The chat with the vote in it, once the server has it on disk; else with the reason why not."""
        turn = chat.current
        if turn is None or not turn.votable or turn.turn_id is None:
            return chat
        vote = VoteRequest.model_validate({"turn_id": turn.turn_id, "choice": choice, "voter": chat.voter or None})
        try:
            await self._client.vote(vote, key=uuid.uuid4().hex, visitor=visitor)
        except ApiFailure as failure:
            return chat.noting(texts.VOTE_FAILED.format(reason=failure))
        return chat.vote(choice)

    @staticmethod
    def pick(chat: Chat, slot: int) -> str:
        """The stage that stands in a slot, as a vote."""
        assert chat.current is not None, "there is nothing to pick from"
        return chat.current.panes[slot].stage

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
    """The unanswered question back in the text box, unless the visitor is already writing something else."""
    return chat.unanswered if chat.unanswered and not box.strip() else box


def _request(chat: Chat, question: str, settings: Settings) -> CompareRequest:
    return CompareRequest(
        blind=False,
        messages=chat.messages(question, settings.system),
        conversation_id=chat.conversation_id,
        parent_turn_id=chat.parent_turn_id,
        max_tokens=settings.max_tokens,
        temperature=settings.temperature,
        top_p=settings.top_p,
        seed=settings.seed,
    )
