"""What turns the rows of the local engine into tokens, a step at a time, on the engine's thread.

:class:`RaggedDecoder` takes rows on between any two steps; :class:`LockstepDecoder` serves what cannot run so (T5 and
its like): rows that wait when a batch has ended go into the next one together.
"""

import copy
import logging
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from sawyer.errors import ModelError
from serve.engine import Prepared
from serve.errors import ApiError, from_exception
from serve.local.rows import RunningRow
from serve.reply_text import ReplyText, TokenNames

if TYPE_CHECKING:  # torch takes seconds to import; the loading thread does it
    from sawyer.generation import Row, Token
    from sawyer.models import Policy

logger = logging.getLogger(__name__)

KEPT_ADAPTERS = 8  # older versions that were asked for stay until there are more than so many


class Decoder(Protocol):
    """The rows being decoded over one policy."""

    @property
    def running(self) -> int:
        """Rows that have joined and not ended."""

    def fits(self, row: RunningRow) -> bool:
        """Whether a row can join now."""

    def join(self, row: RunningRow) -> None:
        """Take a row on; one that cannot be begun is told so."""

    def step(self) -> None:
        """Make what comes next of every row and tell their readers; a fault fails every row and none later."""

    def load(self, adapters: Mapping[str, Path], current: Collection[str]) -> None:
        """Have these adapters, by name; others may be dropped for them, but not ``current`` ones or any in use.

        Raises:
            ModelError: one is not sound or was made for another backbone.
        """

    def fail(self, error: ApiError) -> None:
        """Tell every row that it cannot go on."""


def make_decoder(policy: "Policy", *, max_rows: int, max_tokens: int) -> Decoder:
    """The one that serves this policy."""
    from sawyer.ragged import can_run_ragged

    kind = RaggedDecoder if can_run_ragged(policy) else LockstepDecoder
    return kind(policy, max_rows=max_rows, max_tokens=max_tokens)


class _Rows:
    """What both decoders share: the open rows, their texts, and the adapters."""

    def __init__(self, policy: "Policy") -> None:
        self.policy = policy
        self._open: dict[int, RunningRow] = {}
        self._next = 0
        # A copy, because requests are tokenized on other threads while this one decodes.
        self._tokenizer = copy.deepcopy(policy.tokenizer)
        self._names = TokenNames(self._tokenizer)

    @property
    def running(self) -> int:
        return len(self._open)

    def fail(self, error: ApiError) -> None:
        for row in self._open.values():
            row.fail(error)
        self._open = {}

    def load(self, adapters: Mapping[str, Path], current: Collection[str]) -> None:
        for name, folder in adapters.items():
            if name not in self.policy.stages:
                self.policy.load_adapter(name, folder)
        used = {*adapters, *current, *(self._adapter(row.prepared) for row in self._open.values())}
        idle = [name for name in self.policy.stages if name not in {"base", *used}]
        for name in idle[: max(0, len(self.policy.stages) - 1 - KEPT_ADAPTERS)]:
            self.policy.drop_adapter(name)

    def _adapter(self, prepared: Prepared) -> str:
        """Under which name the policy holds what answers: the version's, or the stage's where versions have none."""
        stage, version = prepared.job.stage, prepared.version
        return version if stage != "base" and version in self.policy.stages else stage

    def _begin(self, row: RunningRow) -> tuple[int, "Row"]:
        """Its key, and what the decoder is asked for."""
        from sawyer.generation import Row

        prepared, sampling = row.prepared, row.prepared.sampling
        chat = prepared.job.prompt is None  # of a text that is continued, white space and roles are text as well
        own = self.policy.chat.stop_strings(prepared.job.stage) if chat else []
        row.text = ReplyText(self._tokenizer, [*sampling.stop, *own], strip=chat)
        key, self._next = self._next, self._next + 1
        self._open[key] = row
        # Stop texts are found here, on the exact text; the decoder is told by letting the row leave.
        return key, Row(
            prompt=prepared.ids,
            stage=self._adapter(prepared),
            max_tokens=sampling.max_tokens,
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            seed=sampling.seed or 0,
            top_logprobs=prepared.job.top_logprobs or 0,
        )

    def _advance(self, key: int, token: "Token") -> bool:
        """Tell a row's reader of a token; True when the row has ended."""
        row = self._open[key]
        ended = row.advance(token, token.id in self.policy.eos_ids, self._names)
        if ended:
            del self._open[key]
        return ended

    def _take_cancelled(self) -> list[int]:
        """End the rows whose reader has left; returns their keys."""
        gone = [key for key, row in self._open.items() if row.reply.cancelled]
        for key in gone:
            self._open.pop(key).end("cancelled")
        return gone


class RaggedDecoder(_Rows):
    """Continuous batching; see ``sawyer.ragged``."""

    def __init__(self, policy: "Policy", *, max_rows: int, max_tokens: int) -> None:
        from sawyer.ragged import RaggedBatch

        super().__init__(policy)
        self.batch = RaggedBatch(policy, max_rows=max_rows, max_tokens=max_tokens)

    def fits(self, row: RunningRow) -> bool:
        return self.batch.fits(row.size)

    def join(self, row: RunningRow) -> None:
        from sawyer.ragged import Arrival

        try:
            key, asked = self._begin(row)
            self.batch.join(Arrival(key, asked, None if asked.stage == "base" else asked.stage))
        except Exception as error:
            self._open = {key: each for key, each in self._open.items() if each is not row}
            row.fail(explain(error))

    def step(self) -> None:
        try:
            for gone in self._take_cancelled():
                self.batch.leave(gone)
            for key, token in self.batch.step():
                assert isinstance(key, int)
                if self._advance(key, token) and token.finish is None:  # at a stop text
                    self.batch.leave(key)
        except Exception as error:
            self.batch.clear()
            self.fail(explain(error))

    def load(self, adapters: Mapping[str, Path], current: Collection[str]) -> None:
        from sawyer.ragged import can_run_ragged

        before = self.policy.stages
        try:
            super().load(adapters, current)
            if not can_run_ragged(self.policy):
                for name in set(adapters) - set(before):
                    self.policy.drop_adapter(name)
                raise ModelError(
                    f"{', '.join(adapters)} does more than add low-rank products (DoRA, biases, whole modules), which "
                    "cannot be taken in while others are served. Promote it and start the server again."
                )
        finally:
            if self.policy.stages != before:
                self.batch.restack([name for name in self.policy.stages if name != "base"])

    def fail(self, error: ApiError) -> None:
        super().fail(error)
        self.batch.clear()


class LockstepDecoder(_Rows):
    """One batch after the other; see ``sawyer.generation.decode``."""

    def __init__(self, policy: "Policy", *, max_rows: int, max_tokens: int) -> None:
        super().__init__(policy)
        self._max_rows, self._max_tokens = max_rows, max_tokens
        self._waiting: list[tuple[int, Row]] = []
        self._steps: Iterator[list[Token]] | None = None
        self._keys: list[int] = []  # of the rows of the batch, in its order
        self._gone: set[int] = set()  # places in the batch that are to be left out

    def fits(self, row: RunningRow) -> bool:
        if self._steps is not None:
            return False
        size = row.size + sum(other.size for other in self._open.values())
        return not self._open or (len(self._open) < self._max_rows and size <= self._max_tokens)

    def join(self, row: RunningRow) -> None:
        self._waiting.append(self._begin(row))

    def step(self) -> None:
        from sawyer.generation import decode

        gone = self._take_cancelled()
        try:
            if self._steps is None:
                begun = [(key, row) for key, row in self._waiting if key in self._open]
                self._waiting, self._gone, self._keys = [], set(), [key for key, _ in begun]
                self._steps = decode(self.policy, [row for _, row in begun], self._gone)
            self._gone |= {self._keys.index(key) for key in gone if key in self._keys}
            for token in next(self._steps, ()):
                key = self._keys[token.row]
                if key in self._open and self._advance(key, token):
                    self._gone.add(token.row)
            if not self._open:
                self._steps = None
        except Exception as error:
            self._steps = None
            self.fail(explain(error))


def explain(error: Exception) -> ApiError:
    """A fault while decoding, as the rows' readers see it."""
    import torch

    if isinstance(error, torch.OutOfMemoryError):
        logger.error("out of memory while decoding: %s", error)
        text = "The server's memory is used up. Try again with a shorter conversation or a smaller max_tokens."
        return ApiError(503, text, code="out_of_memory", retry_after=5)
    return from_exception(error)
