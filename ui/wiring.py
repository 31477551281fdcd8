"""Which click calls which handler. No logic: inputs go in by name, what changed comes out by name."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import gradio as gr

from ui.chat import Chat
from ui.connection import Connection
from ui.handlers import Handlers, Settings, accepted, box_afterwards
from ui.screen import EXAMPLE_SLOTS, SLOTS, Screen, difference, screen, settings_defaults

Widgets = dict[str, Any]
Updates = dict[Any, Any]

SETTINGS = ("max_tokens", "temperature", "top_p", "seed", "system")
# Gradio's own progress veil would hide the answers while they stream; nothing here is public API.
QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
# Whatever answers in one piece does so in one request. On Gradio's queue it could get lost: an event that joins while
# the stream of the one before is being closed is never heard of again, and its button stays dead.
AT_ONCE = QUIET | {"queue": False}


class Wiring:
    """The events of one page; ``widgets`` are its components by name."""

    def __init__(self, widgets: Widgets, handlers: Handlers):
        self._widgets = widgets
        self._handlers = handlers

    def attach(self, page: gr.Blocks) -> None:
        """Connect every event. Called once, inside the page's context."""
        w = self._widgets
        state = {name: w[name] for name in ("chat", "connection")}
        everything = list(w.values())
        gr.on([page.load, w["retry"].tick], self.connect, inputs_kwargs=state, outputs=everything, **AT_ONCE)
        settings = {name: w[name] for name in SETTINGS}
        self._ask_on([w["ask"].click, w["box"].submit], w["box"], state | settings)
        for slot in range(EXAMPLE_SLOTS):
            example = w[f"example_{slot}"]
            self._ask_on([example.click], example, state | settings)
        w["stop"].click(self.stop, inputs_kwargs={"chat": w["chat"]}, outputs=[], **AT_ONCE)
        for slot in range(SLOTS):
            w[f"pick_{slot}"].click(self._pick(slot), inputs_kwargs=state, outputs=everything, **AT_ONCE)
        for verdict in ("tie", "bad"):
            w[verdict].click(self._verdict(verdict), inputs_kwargs=state, outputs=everything, **AT_ONCE)
        w["new_chat"].click(self.new_chat, inputs_kwargs=state, outputs=everything, **AT_ONCE)

    async def connect(self, chat: Chat, connection: Connection) -> Updates:
        after = await self._handlers.connect(connection)
        changed = difference(screen(chat, connection), screen(chat, after))
        if connection.info is None:
            changed |= settings_defaults(after)
        return self._shown(changed) | {self._widgets["connection"]: after}

    async def ask(
        self, request: gr.Request, *, chat: Chat, connection: Connection, question: str, **settings: Any
    ) -> AsyncIterator[Updates]:
        answers = self._handlers.ask(
            chat,
            question,
            stages=connection.stages,
            settings=Settings(**settings),
            visitor=address(request),
        )
        async for after in answers:
            changed = difference(screen(chat, connection), screen(after, connection))
            if accepted(chat, after):
                changed["box"] = {"value": ""}
            chat = after
            yield self._shown(changed) | {self._widgets["chat"]: chat}

    def stop(self, chat: Chat) -> None:
        self._handlers.stop(chat)

    def new_chat(self, chat: Chat, connection: Connection) -> Updates:
        return self._moved(chat, chat.fresh(), connection)

    def restore(self, chat: Chat, box: str) -> Updates:
        return {self._widgets["box"]: gr.update(value=box_afterwards(chat, box))}

    def _ask_on(self, triggers: list[Any], question: Any, inputs: Widgets) -> None:
        w = self._widgets
        asked = gr.on(
            triggers,
            self.ask,
            inputs_kwargs=inputs | {"question": question},
            outputs=list(w.values()),
            **QUIET,
        )
        asked.then(self.restore, inputs_kwargs={"chat": w["chat"], "box": w["box"]}, outputs=w["box"], **AT_ONCE)

    def _pick(self, slot: int) -> Callable[..., Awaitable[Updates]]:
        async def pick(request: gr.Request, *, chat: Chat, connection: Connection) -> Updates:
            choice = self._handlers.pick(chat, slot)
            return self._moved(chat, await self._handlers.vote(chat, choice, address(request)), connection)

        return pick

    def _verdict(self, choice: str) -> Callable[..., Awaitable[Updates]]:
        async def verdict(request: gr.Request, *, chat: Chat, connection: Connection) -> Updates:
            return self._moved(chat, await self._handlers.vote(chat, choice, address(request)), connection)

        return verdict

    def _moved(self, before: Chat, after: Chat, connection: Connection) -> Updates:
        changed = difference(screen(before, connection), screen(after, connection))
        return self._shown(changed) | {self._widgets["chat"]: after}

    def _shown(self, changed: Screen) -> Updates:
        return {self._widgets[name]: gr.update(**properties) for name, properties in changed.items()}


def address(request: gr.Request) -> str | None:
    """Where the person sits, as far as the web server knows."""
    return request.client.host if request.client else None
