"""Which click calls which handler. No logic: inputs go in by name, what changed comes out by name."""

import time
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import gradio as gr

from ui import history
from ui.arrival import arrive
from ui.chat import Chat
from ui.connection import Connection
from ui.handlers import Caller, Handlers, Settings, accepted, box_afterwards
from ui.layout import Widgets
from ui.menus import past_html
from ui.mode import Mode
from ui.presses import Press, State, act
from ui.screen import SLOTS, Scene, Screen, difference, screen, settings_defaults, together
from ui.theme import javascript
from ui.visitor import Visitor

Updates = dict[Any, Any]

SETTINGS = ("max_tokens", "temperature", "top_p", "seed", "system")
PRESSED = ("hint", "past", "transcript", *(f"pane_{slot}" for slot in range(SLOTS)), "verdicts", "revising")
STREAMED = (*(f"pane_{slot}" for slot in range(SLOTS)), "verdicts", "examples")
# Gradio's own progress veil would hide the answers while they stream; nothing here is public API.
QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
# Whatever answers in one piece does so in one request. On Gradio's queue it could get lost: an event that joins while
# the stream of the one before is being closed is never heard of again, and its button stays dead. "multiple": Gradio
# would also drop a press while the one before is on its way.
AT_ONCE = QUIET | {"queue": False, "trigger_mode": "multiple"}


class Wiring:
    """The events of one page; ``widgets`` are its components by name."""

    def __init__(self, widgets: Widgets, handlers: Handlers, mode: Mode):
        self._widgets = widgets
        self._handlers = handlers
        self._mode = mode

    def attach(self, page: gr.Blocks) -> None:
        """Connect every event. Called once, inside the page's context."""
        w = self._widgets
        state = {name: w[name] for name in ("chat", "connection", "visitor", "chats")}
        settings = {name: w[name] for name in SETTINGS}
        out = list(w.values())
        arriving = {"where": w["where"], "tab": w["tab"]} | state
        page.load(self.arrive, inputs_kwargs=arriving, outputs=out, js=arriving_script(), **AT_ONCE)
        w["retry"].tick(self.connect, inputs_kwargs=state, outputs=out, **AT_ONCE)
        asking = state | settings | {"question": w["box"]}
        self._streaming([w["ask"].click, w["box"].submit], self.ask, asking)
        self._streaming([w[name].submit for name in STREAMED], self.stream, state | settings)
        w["stop"].click(self.stop, inputs_kwargs={"chat": w["chat"]}, outputs=[], **AT_ONCE)
        gr.on([w[name].click for name in PRESSED], self.press, inputs_kwargs=state, outputs=out, **AT_ONCE)
        w["new_chat"].click(self.new_chat, inputs_kwargs=state, outputs=out, **AT_ONCE)
        edited, said = state | {"text": w["edit_box"]}, state | {"text": w["comment"]}
        w["edit_save"].click(self.save_edit, inputs_kwargs=edited, outputs=out, **AT_ONCE)
        w["edit_cancel"].click(self.cancel_edit, inputs_kwargs=state, outputs=out, **AT_ONCE)
        gr.on([w["comment_send"].click, w["comment"].submit], self.comment, inputs_kwargs=said, outputs=out, **AT_ONCE)
        voter = {"visitor": w["visitor"], "name": w["name"], "consent": w["consent"]}
        gr.on([w["name"].blur, w["consent"].input], self.voter, inputs_kwargs=voter, outputs=w["visitor"], **AT_ONCE)
        wanted = state | {"wanted": w["wanted"]}
        w["chats"].input(self.elsewhere, inputs_kwargs=state, outputs=w["past"], **AT_ONCE)
        w["wanted"].input(self.want, inputs_kwargs=wanted, outputs=out, **AT_ONCE)

    async def arrive(
        self, where: str, tab: str, chat: Chat, connection: Connection, visitor: Any, chats: Any
    ) -> Updates:
        who, after = Visitor.read(visitor), await self._handlers.connect(connection)
        blank = self._scene(Chat(), Connection(), Visitor(seen_hint=True))
        shown = arrive(where, tab, chats)
        changed = difference(screen(blank), screen(self._scene(shown, after, who))) | settings_defaults(after)
        changed |= {"name": {"value": who.name}, "consent": {"value": who.consent}}
        # No change of the past chats, but now that Gradio has set everything up, memory.js can hand them to it.
        states = {"chat": shown, "connection": after, "visitor": who.dump(), "chats": history.change([], [])}
        return self._shown(changed | self._past(chats, shown)) | self._states(**states)

    async def connect(self, chat: Chat, connection: Connection, visitor: Any, chats: Any) -> Updates:
        after = await self._handlers.connect(connection)
        who = Visitor.read(visitor)
        changed = difference(screen(self._scene(chat, connection, who)), screen(self._scene(chat, after, who)))
        if connection.info is None:
            changed |= settings_defaults(after)
        return self._shown(changed) | self._states(connection=after)

    async def ask(
        self,
        request: gr.Request,
        *,
        chat: Chat,
        connection: Connection,
        visitor: Any,
        chats: Any,
        question: str,
        **given: Any,
    ) -> AsyncIterator[Updates]:
        who, settings = Visitor.read(visitor), Settings(**given)
        answers = self._handlers.ask(
            chat,
            question,
            connection=connection,
            mode=connection.mode(self._mode),
            settings=settings,
            caller=Caller(who, address(request)),
        )
        async for updates in self._follow(answers, chat, connection, who, chats):
            yield updates

    async def stream(
        self,
        request: gr.Request,
        event: gr.EventData,
        *,
        chat: Chat,
        connection: Connection,
        visitor: Any,
        chats: Any,
        **given: Any,
    ) -> AsyncIterator[Updates]:
        press, who, settings = Press.read(event._data), Visitor.read(visitor), Settings(**given)
        caller = Caller(who, address(request))
        if press.do == "example":
            mode, question = connection.mode(self._mode), press.example(connection.examples)
            answers = self._handlers.ask(
                chat, question, connection=connection, mode=mode, settings=settings, caller=caller
            )
        else:
            answers = self._handlers.anew(chat, press.panes(chat), settings=settings, caller=caller)
        async for updates in self._follow(answers, chat, connection, who, chats):
            yield updates

    def stop(self, chat: Chat) -> None:
        self._handlers.stop(chat)

    async def press(
        self, request: gr.Request, event: gr.EventData, *, chat: Chat, connection: Connection, visitor: Any, chats: Any
    ) -> Updates:
        before = State(chat, Visitor.read(visitor), chats)
        after = await act(self._handlers, Press.read(event._data), before, address(request))
        texts = {} if after.box is None else {"box": {"value": after.box}}
        texts |= {} if after.edit is None else {"edit_box": {"value": after.edit}}
        return self._moved(before, after, connection, texts)

    def new_chat(self, chat: Chat, connection: Connection, visitor: Any, chats: Any) -> Updates:
        before = State(chat, Visitor.read(visitor), chats)
        return self._moved(before, replace(before, chat=Chat()), connection, {})

    async def save_edit(
        self, request: gr.Request, *, chat: Chat, connection: Connection, visitor: Any, chats: Any, text: str
    ) -> Updates:
        before = State(chat, Visitor.read(visitor), chats)
        after = await self._handlers.save_edit(chat, text, Caller(before.visitor, address(request)))
        return self._moved(before, replace(before, chat=after), connection, {})

    def cancel_edit(self, chat: Chat, connection: Connection, visitor: Any, chats: Any) -> Updates:
        before = State(chat, Visitor.read(visitor), chats)
        return self._moved(before, replace(before, chat=chat.edit("")), connection, {})

    async def comment(
        self, request: gr.Request, *, chat: Chat, connection: Connection, visitor: Any, chats: Any, text: str
    ) -> Updates:
        before = State(chat, Visitor.read(visitor), chats)
        after = await self._handlers.comment(chat, text, Caller(before.visitor, address(request)))
        return self._moved(before, replace(before, chat=after), connection, {"comment": {"value": ""}})

    def voter(self, visitor: Any, name: str, consent: bool) -> dict[str, Any]:
        return replace(Visitor.read(visitor).called(name), consent=consent).dump()

    def want(self, chat: Chat, connection: Connection, visitor: Any, chats: Any, wanted: list[str]) -> Updates:
        after, who = replace(connection, wanted=tuple(wanted)), Visitor.read(visitor)
        changed = difference(screen(self._scene(chat, connection, who)), screen(self._scene(chat, after, who)))
        return self._shown(changed) | self._states(connection=after)

    def elsewhere(self, chat: Chat, connection: Connection, visitor: Any, chats: Any) -> Updates:
        return self._shown(self._past(chats, chat))

    def settle(self, chat: Chat, connection: Connection, visitor: Any, chats: Any, box: str) -> Updates:
        # Untouched where nothing is to be done: what is typed meanwhile would be overwritten.
        after = box_afterwards(chat, box)
        known = self._shown(self._past(chats, chat))
        return known | {self._widgets["box"]: gr.skip() if after == box else gr.update(value=after)}

    def _streaming(self, triggers: list[Any], what: Any, inputs: Widgets) -> None:
        w = self._widgets
        asked = gr.on(triggers, what, inputs_kwargs=inputs, outputs=list(w.values()), **QUIET)
        state = {name: inputs[name] for name in ("chat", "connection", "visitor", "chats")}
        asked.then(self.settle, inputs_kwargs=state | {"box": w["box"]}, outputs=[w["box"], w["past"]], **AT_ONCE)

    async def _follow(
        self, answers: AsyncIterator[Chat], chat: Chat, connection: Connection, who: Visitor, chats: Any
    ) -> AsyncIterator[Updates]:
        """Each chat as what it changed since the stream began; it is put among the past ones at its begin and end.

        Not only what the last event changed: Gradio's browser part changes the message before the one that comes, so
        that a slow browser would find what only the earlier one said gone. What stays the same costs nothing on the
        way. The text box alone is emptied once, since the visitor may be typing already.
        """
        sent: Screen = {}
        states: dict[str, Any] = {}
        async for after in answers:
            before, now = self._scene(chat, connection, who), self._scene(after, connection, who)
            sent = together(sent, difference(screen(before), screen(now)))
            began, states["chat"] = accepted(chat, after), after
            if began or (chat.busy and not after.busy):
                known, chats = chats, self._kept(chats, after)
                sent |= self._past(chats, after)
                states["chats"] = history.change(known, chats)
            chat = after
            emptied: Screen = {"box": {"value": ""}} if began else {}
            yield self._shown(sent | emptied) | self._states(**states)

    def _moved(self, before: State, after: State, connection: Connection, more: Screen) -> Updates:
        changed = difference(
            screen(self._scene(before.chat, connection, before.visitor)),
            screen(self._scene(after.chat, connection, after.visitor)),
        )
        chats, states = after.chats, {"chat": after.chat}
        if after.chat != before.chat and after.chat.turns:
            chats = self._kept(chats, after.chat)
        if chats != before.chats:
            states["chats"] = history.change(before.chats, chats)
        if after.visitor != before.visitor:
            states["visitor"] = after.visitor.dump()
        return self._shown(changed | self._past(chats, after.chat) | more) | self._states(**states)

    def _kept(self, chats: Any, chat: Chat) -> list[history.Saved]:
        return history.keep(chats, chat, self._mode.path, time.time())

    def _past(self, chats: Any, chat: Chat) -> Screen:
        return {"past": {"value": past_html(history.held_on(chats, self._mode.path), chat.id)}}

    def _scene(self, chat: Chat, connection: Connection, visitor: Visitor) -> Scene:
        return Scene(chat, connection, visitor, self._mode)

    def _shown(self, changed: Screen) -> Updates:
        return {self._widgets[name]: gr.update(**properties) for name, properties in changed.items()}

    def _states(self, **values: Any) -> Updates:
        return {self._widgets[name]: value for name, value in values.items()}


def arriving_script() -> str:
    """What the browser adds to the inputs when the page opens."""
    return javascript("arrive.js").replace("$MEMORY", history.MEMORY)


def address(request: gr.Request) -> str | None:
    """Where the person sits, as far as the web server knows."""
    return request.client.host if request.client else None
