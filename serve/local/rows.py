"""Rows on their way through the local engine, and what they tell their readers."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from serve.engine import Delta, Event, Failed, Finished, Prepared, Queued, TokenLogprob
from serve.errors import ApiError
from serve.reply_text import ReplyText, TokenNames
from serve.row_events import RowEvents

if TYPE_CHECKING:  # torch takes seconds to import; the loading thread does it
    from sawyer.generation import Token


class LocalReply(RowEvents):
    """The events of one request, on their way from the engine's thread to an event loop."""

    def __init__(self, rows: int, wake: Callable[[], None]) -> None:
        super().__init__(rows)
        self._wake = wake
        self.cancelled = False
        self.begun = 0  # rows that were given a place: those with fewest come first
        self._place: int | None = None

    def cancel(self) -> None:
        self.cancelled = True
        self._wake()

    def tell_place(self, ahead: int) -> None:
        """How many requests come before this one, if that is news; from the engine's thread."""
        if ahead != self._place:
            self._place = ahead
            self.send(Queued(ahead))

    def send(self, event: Event) -> None:
        """Hand over an event; from the engine's thread."""
        try:
            self._loop.call_soon_threadsafe(self._events.put_nowait, event)
        except RuntimeError:  # the event loop is closed: nobody listens any more
            self.cancelled = True


@dataclass(eq=False)
class RunningRow:
    """A row that was taken on, and what has been made of it."""

    reply: LocalReply
    index: int
    prepared: Prepared
    submitted: float = field(default_factory=time.monotonic)
    text: ReplyText | None = None
    tokens: int = 0
    on_end: Callable[[float], None] | None = None  # told the seconds from submission to the end

    @property
    def size(self) -> int:
        """Places it may take in the cache, in tokens."""
        return len(self.prepared.ids) + self.prepared.sampling.max_tokens

    def end(self, reason: Literal["stop", "length", "cancelled"]) -> None:
        """Tell what was held back of the text, and that it is the end."""
        if self.text is not None:
            self._tell(self.text.finish())
        text, seconds = self.text.text if self.text else "", time.monotonic() - self.submitted
        if self.on_end is not None:
            self.on_end(seconds)
        self.reply.send(Finished(self.index, text, self.tokens, reason, seconds))

    def fail(self, error: ApiError) -> None:
        """Tell that the row cannot go on."""
        self.reply.send(Failed(self.index, error))

    def advance(self, token: "Token", is_end: bool, names: TokenNames) -> bool:
        """Take in a token, tell what is new, and say whether the row has ended. ``is_end``: the token is an EOS."""
        assert self.text is not None
        self.tokens += 1
        if not is_end:
            new = self.text.push(token.id)
            self._tell(new, () if self.text.stopped else self._logprobs(token, names))
        if is_end or self.text.stopped:
            self.end("stop")
        elif token.finish == "length":
            self.end("length")
        else:
            return False
        return True

    def _tell(self, text: str, logprobs: tuple[TokenLogprob, ...] = ()) -> None:
        if text or logprobs:
            self.reply.send(Delta(self.index, text, logprobs))

    def _logprobs(self, token: "Token", names: TokenNames) -> tuple[TokenLogprob, ...]:
        if self.prepared.job.top_logprobs is None:
            return ()
        top = [(*names.describe(other), value) for other, value in token.top]
        return (TokenLogprob(*names.describe(token.id), token.logprob, top),)
