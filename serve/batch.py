"""One batch on the engine's thread: its rows, what they tell their readers, and the loop that decodes them."""

import asyncio
import copy
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from serve.engine import Delta, Event, Failed, Finished, Prepared, TokenLogprob
from serve.errors import ApiError, NotReady, from_exception
from serve.reply_text import ReplyText, TokenNames

if TYPE_CHECKING:  # torch takes seconds to import; the loading thread does it
    from sawyer.generation import Row, Token
    from sawyer.models import Policy

logger = logging.getLogger(__name__)

CLOSING = "The server is shutting down. Try again when it is back."


class LocalReply:
    """The events of one request, on their way from the engine's thread to an event loop."""

    def __init__(self, rows: int, wake: Callable[[], None]) -> None:
        self._loop, self._wake = asyncio.get_running_loop(), wake
        self._events: asyncio.Queue[Event] = asyncio.Queue()
        self._open = set(range(rows))
        self.cancelled = False

    def __aiter__(self) -> "LocalReply":
        return self

    async def __anext__(self) -> Event:
        if not self._open and self._events.empty():
            raise StopAsyncIteration
        event = await self._events.get()
        if not isinstance(event, Delta):
            self._open.discard(event.row)
        return event

    def cancel(self) -> None:
        self.cancelled = True
        self._wake()

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

    @property
    def size(self) -> int:
        """Places it may take in the cache, in tokens."""
        return len(self.prepared.ids) + self.prepared.sampling.max_tokens

    def end(self, reason: Literal["stop", "length", "cancelled"]) -> None:
        """Tell what was held back of the text, and that it is the end."""
        if self.text is not None:
            self._tell(self.text.finish())
        text, seconds = self.text.text if self.text else "", time.monotonic() - self.submitted
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


class BatchDecoder:
    """Runs batches over one policy and tells each row's reader what happens to it."""

    def __init__(self, policy: "Policy") -> None:
        self.policy = policy
        # A copy, because requests are tokenized on other threads while this one decodes.
        self.tokenizer = copy.deepcopy(policy.tokenizer)
        self.names = TokenNames(self.tokenizer)
        self.eos_ids = policy.eos_ids

    def run(self, rows: Sequence[RunningRow], closing: Callable[[], bool]) -> None:
        """Decode until every row has ended, was cancelled, or has failed."""
        from sawyer.generation import decode

        open_rows = dict(enumerate(rows))
        try:
            gone: set[int] = set()
            for step in decode(self.policy, [self._begin(row) for row in rows], gone):
                for token in step:
                    ended = open_rows[token.row].advance(token, token.id in self.eos_ids, self.names)
                    if ended:
                        del open_rows[token.row]
                        gone.add(token.row)
                for place, row in list(open_rows.items()):
                    if row.reply.cancelled:
                        open_rows.pop(place).end("cancelled")
                        gone.add(place)
                if closing():
                    break
            for row in open_rows.values():
                row.fail(NotReady(CLOSING))
        except Exception as error:
            told = self._explain(error)
            for row in open_rows.values():
                row.fail(told)

    def _begin(self, row: RunningRow) -> "Row":
        from sawyer.generation import Row

        prepared, sampling = row.prepared, row.prepared.sampling
        stop = [*sampling.stop, *self.policy.chat.stop_strings(prepared.job.stage)]
        row.text = ReplyText(self.tokenizer, stop)
        # Stop texts are found here, on the exact text; the decoder is told by cancelling the row.
        return Row(
            prompt=prepared.ids,
            stage=prepared.job.stage,
            max_tokens=sampling.max_tokens,
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            seed=sampling.seed or 0,
            top_logprobs=prepared.job.top_logprobs or 0,
        )

    @staticmethod
    def _explain(error: Exception) -> ApiError:
        import torch

        if isinstance(error, torch.OutOfMemoryError):
            logger.error("out of memory while decoding: %s", error)
            text = "The server's memory is used up. Try again with a shorter conversation or a smaller max_tokens."
            return ApiError(503, text, code="out_of_memory", retry_after=5)
        return from_exception(error)
