"""Continuous batching: rows of any stage and sampling join and leave between steps, each with a place of its own.

A step reads a piece of the newcomers' prompts and then one token for every row that is decoding (iteration-level
scheduling: Yu et al. 2022, "Orca"; prompts in pieces: Agrawal et al. 2023, "SARATHI"). What a row has read stays at its
place after it has left, until another needs the place: a later prompt that begins with the same tokens under the same
adapter goes on from there. Keys and values depend on the adapter, so nothing is shared between stages.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from sawyer.generation import Row, Token, check_rows, choose, finish_reason, likeliest
from sawyer.models import Policy
from sawyer.ragged.forward import Forward, ModelForward
from sawyer.ragged.lean import LeanForward, can_run_lean
from sawyer.ragged.slots import Plan, Slots

SHARED = 16  # tokens in common that are worth waiting for while another row reads them


@dataclass(frozen=True)
class Arrival:
    """A row that wants to join. ``key`` is the caller's name for it; ``adapter`` None is the backbone alone."""

    key: Hashable
    row: Row
    adapter: str | None


class Step(NamedTuple):
    """What a step made for a row; ``token.row`` is its place and means nothing to the caller."""

    key: Hashable
    token: Token


@dataclass(eq=False)
class _Held:
    """What lies at a place: ``tokens[:length]`` have been read under ``adapter``; ``arrival`` None once it has left."""

    adapter: str | None
    tokens: list[int]
    length: int
    arrival: Arrival | None
    uniforms: Tensor
    made: list[int] = field(default_factory=list)
    used: int = 0  # the step in which it was last read

    @property
    def row(self) -> Row:
        assert self.arrival is not None
        return self.arrival.row

    @property
    def rest(self) -> int:
        """Tokens of the prompt that have not been read."""
        return len(self.row.prompt) - self.length

    @property
    def most(self) -> int:
        """Tokens it may come to hold."""
        return len(self.row.prompt) + self.row.max_tokens if self.arrival else self.length


class RaggedBatch:
    """The rows being decoded over one policy. One thread at a time.

    Args:
        policy: one for which ``can_run_ragged`` holds. Its layers are changed for good: it answers through this batch
            from now on, and no longer through ``Policy.using``.
        merged: a stage that answers alone, its adapter added to a copy of the weights; the policy stays as it is. Only
            where ``can_run_merged`` holds.
        max_rows: most rows at once. max_tokens: most that are held for them, in tokens of the cache.
        longest: most tokens of a row; the context, unless less is enough.
        piece: most tokens of prompts, padding included, that are read between two steps of decoding.
    """

    def __init__(
        self,
        policy: Policy,
        *,
        merged: str | None = None,
        max_rows: int = 24,
        max_tokens: int = 65_536,
        longest: int | None = None,
        piece: int = 512,
    ) -> None:
        self.policy, self._piece = policy, piece
        self.slots = Slots(longest or policy.context, max_places=max_rows, max_tokens=max_tokens)
        self._forward: Forward
        if merged is not None or can_run_lean(policy):
            self._forward = LeanForward(policy, self.slots, merged)
        else:
            self._forward = ModelForward(policy, self.slots)
        self._dtype = policy.model.dtype
        # Places: first the rows that decode, then those whose prompt is being read, then what was left behind.
        self._held: list[_Held] = []
        self._decoding = self._active = 0
        self._arriving: list[Arrival] = []
        self._clock = 0
        self.read_tokens = self.reused_tokens = 0  # of prompts

    @property
    def running(self) -> int:
        """Rows that have joined and not left."""
        return self._active + len(self._arriving)

    def fits(self, size: int) -> bool:
        """Whether a row that may come to hold so many tokens can join now; one alone always can."""
        ahead = [held.most for held in self._held[: self._active]]
        ahead += [len(other.row.prompt) + other.row.max_tokens for other in self._arriving]
        return self.slots.fits(len(ahead) + 1, max([*ahead, size]))

    def join(self, arrival: Arrival) -> None:
        """Take a row on; its first token comes with the step that has read its prompt.

        Raises:
            ModelError: an empty prompt, or one that leaves no room in the context.
        """
        check_rows(self.policy, [arrival.row])
        self._arriving.append(arrival)

    def leave(self, key: Hashable) -> None:
        """Let a row go before its end; nothing happens if it is not there."""
        self._arriving = [arrival for arrival in self._arriving if arrival.key != key]
        for place, held in enumerate(self._held[: self._active]):
            if held.arrival is not None and held.arrival.key == key:
                self._release(place)
                return

    def clear(self) -> None:
        """Let all rows go and forget what was read."""
        self._held, self._arriving = [], []
        self._decoding = self._active = 0

    @torch.inference_mode()
    def restack(self, adapters: Sequence[str]) -> None:
        """The policy's adapters are these now; what was read under others is forgotten."""
        self._forward.restack(adapters)
        kept = {None, *adapters}
        for held in self._held[self._active :]:
            if held.adapter not in kept:
                held.length = 0

    @torch.inference_mode()
    def step(self) -> list[Step]:
        """Read a piece of the prompts, then one more token of every row whose prompt was read before."""
        self._clock += 1
        self._settle()
        decoding = self._held[: self._decoding]
        made = self._read_piece()
        if decoding:
            made += self._decode(decoding)
        steps = [Step(held.arrival.key, token) for held, token in made if held.arrival]
        for held, token in made:
            if token.finish is not None:
                self._release(self._held.index(held))
        return steps

    # Joining

    def _settle(self) -> None:
        """Give arrivals their places, but for those that will find most of their prompt read in a moment."""
        waiting = []
        for arrival in self._arriving:
            filling = [held for held in self._held[self._decoding : self._active] if held.adapter == arrival.adapter]
            ahead = max((_common(held.row.prompt, arrival.row.prompt) for held in filling), default=0)
            found, best = self._longest_prefix(arrival)
            if ahead >= SHARED and ahead > best:
                waiting.append(arrival)
            else:
                self._place(arrival, found, best)
        self._arriving = waiting

    def _longest_prefix(self, arrival: Arrival) -> tuple[_Held | None, int]:
        """What has read most of the prompt already, and how much; the last token is always read, for its logits."""
        found, best = None, 0
        for held in self._held:
            if held.adapter == arrival.adapter:
                shared = min(_common(held.tokens[: held.length], arrival.row.prompt), len(arrival.row.prompt) - 1)
                if shared > best:
                    found, best = held, shared
        return found, best

    def _place(self, arrival: Arrival, found: _Held | None, shared: int) -> None:
        row = arrival.row
        longest = max(len(row.prompt) + row.max_tokens, *(held.most for held in self._held[: self._active]), 0)
        room = self.slots.reserve(self._active + 1, longest, [held.length for held in self._held])
        del self._held[room:]
        for held in self._held:
            held.length = min(held.length, self.slots.capacity)
        source = self._held.index(found) if found in self._held else -1
        shared = min(shared, self._held[source].length) if source >= 0 else 0
        place = self._free_place(source, shared, room)
        uniforms = torch.rand(row.max_tokens, generator=torch.Generator().manual_seed(row.seed))
        made = _Held(arrival.adapter, list(row.prompt), shared, arrival, uniforms, used=self._clock)
        if place == len(self._held):
            self._held.append(made)
        if source not in (-1, place):
            self.slots.copy(source, place, shared)
        self._held[place] = made
        self._swap(place, self._active)
        self._active += 1
        self.reused_tokens += shared

    def _free_place(self, source: int, shared: int, room: int) -> int:
        """Where to put a row: over what it goes on from, else at a new place, else over what was not read longest."""
        if source >= self._active and 2 * shared >= self._held[source].length:
            return source
        if len(self._held) < room:
            return len(self._held)
        return min(range(self._active, room), key=lambda place: self._held[place].used)

    def _release(self, place: int) -> None:
        """A row leaves; what it has read stays behind the active ones."""
        held = self._held[place]
        held.arrival, held.used = None, self._clock
        if place < self._decoding:
            self._swap(place, self._decoding - 1)
            place = self._decoding - 1
            self._decoding -= 1
        self._swap(place, self._active - 1)
        self._active -= 1

    def _swap(self, one: int, other: int) -> None:
        if one != other:
            self.slots.swap(one, other, max(self._held[one].length, self._held[other].length))
            self._held[one], self._held[other] = self._held[other], self._held[one]

    # Reading and writing

    def _read_piece(self) -> list[tuple[_Held, Token]]:
        """The next piece of the prompts being read; the first tokens of those read to their end."""
        part: list[_Held] = []
        width = 0
        for held in self._held[self._decoding : self._active]:
            wider = max(width, min(held.rest, self._piece))
            if part and wider * (len(part) + 1) > self._piece:
                break
            part.append(held)
            width = wider
        if not part:
            return []
        tokens = [held.row.prompt[held.length : held.length + width] for held in part]
        logits = self._run(part, tokens)
        self.read_tokens += sum(map(len, tokens))
        done = [number for number, held in enumerate(part) if not held.rest]
        if not done:
            return []
        for number in done:
            self._swap(self._held.index(part[number]), self._decoding)
            self._decoding += 1
        return self._draw([part[number] for number in done], logits[done])

    def _decode(self, rows: Sequence[_Held]) -> list[tuple[_Held, Token]]:
        # Their places are 0 .. n - 1 still: rows that have begun since come behind them.
        return self._draw(rows, self._run(rows, [held.made[-1:] for held in rows]))

    def _run(self, rows: Sequence[_Held], tokens: Sequence[Sequence[int]]) -> Tensor:
        """Logits ``[rows, V]`` after these tokens of each row."""
        places = range(len(rows)) if rows[0] is self._held[0] else [self._held.index(held) for held in rows]
        starts = [held.length for held in rows]
        plan = Plan.of(tokens, places, starts, dtype=self._dtype, device=self.policy.device)
        logits = self._forward(plan, [held.adapter for held in rows])
        for held, part in zip(rows, tokens, strict=True):
            held.length += len(part)
            held.used = self._clock
        return logits

    def _draw(self, held: Sequence[_Held], logits: Tensor) -> list[tuple[_Held, Token]]:
        rows = [each.row for each in held]
        uniform = torch.stack([each.uniforms[len(each.made)] for each in held]).to(logits.device)
        chosen, logprobs = choose(logits, rows, uniform)
        tops = likeliest(logits, rows)
        made = []
        for place, each in enumerate(held):
            each.made.append(chosen[place])
            each.tokens.append(chosen[place])
            finish = finish_reason(self.policy, rows[place], each.made)
            made.append((each, Token(place, chosen[place], logprobs[place], finish, tops[place])))
        return made


def _common(one: Sequence[int], other: Sequence[int]) -> int:
    """How many tokens two sequences begin with in common; by halves, because comparing slices is quick."""
    low, high = 0, min(len(one), len(other))
    one, other = list(one), list(other)
    while low < high:
        middle = (low + high + 1) // 2
        if one[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low
