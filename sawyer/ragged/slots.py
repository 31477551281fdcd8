"""Keys and values of many rows, each with a length of its own: one buffer for each layer, one place for each row.

Rows that decode lie side by side from place 0 on, so that a step reads them as a view; what moves when a row leaves
is the last of them, once, not the whole batch at every step.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

FIRST_CAPACITY, FIRST_PLACES = 256, 4


@dataclass(frozen=True)
class Plan:
    """What one forward pass reads and where its keys and values go.

    Attributes:
        ids, positions: int64 ``[B, T]``; rows are padded on the right with anything.
        places: of the rows, in order.
        starts, counts: how many positions of each row are there already, and how many of the T are its own.
        mask: ``[B, 1, T, S]``, 0 where a position may look and the most negative number where not; S is the longest
            row's length after this pass.
        side_by_side: the rows lie at places 0 .. B - 1 and T is 1.
    """

    ids: Tensor
    positions: Tensor
    places: Sequence[int]
    starts: Sequence[int]
    counts: Sequence[int]
    mask: Tensor
    side_by_side: bool

    @classmethod
    def of(
        cls,
        tokens: Sequence[Sequence[int]],
        places: Sequence[int],
        starts: Sequence[int],
        *,
        dtype: torch.dtype,
        device: torch.device,
    ) -> "Plan":
        """A pass over ``tokens`` of each row, which come after the ``starts`` that are there."""
        counts = [len(part) for part in tokens]
        width, length = max(counts), max(start + count for start, count in zip(starts, counts, strict=True))
        ids = torch.tensor([[*part, *[0] * (width - len(part))] for part in tokens], device=device)
        positions = torch.tensor(starts, device=device)[:, None] + torch.arange(width, device=device)
        ahead = torch.arange(length, device=device) > positions[:, :, None]
        mask = torch.zeros(ahead.shape, dtype=dtype, device=device).masked_fill_(ahead, torch.finfo(dtype).min)
        together = width == 1 and list(places) == list(range(len(places)))
        # Padding must not ask for positions that the model does not have.
        last = torch.tensor([start + count - 1 for start, count in zip(starts, counts, strict=True)], device=device)
        positions = positions.minimum(last[:, None])
        return cls(ids, positions, places, starts, counts, mask.unsqueeze(1), together)

    @property
    def length(self) -> int:
        """S."""
        return self.mask.shape[-1]


class Slots:
    """The buffers ``[places, capacity, heads * width]``, two for each layer; both sizes grow by doubling.

    Args:
        context: longest row. max_tokens: most places times capacity. max_places: most rows.
    """

    def __init__(self, context: int, *, max_places: int, max_tokens: int) -> None:
        self.context, self.max_places, self.max_tokens = context, max_places, max_tokens
        self.capacity, self.places = min(FIRST_CAPACITY, context), min(FIRST_PLACES, max_places)
        self._buffers: dict[int, tuple[Tensor, Tensor]] = {}
        self._shapes: dict[int, tuple[tuple[int, int], tuple[int, int]]] = {}  # heads and width, of keys and values
        self._plan: Plan | None = None
        self._index = torch.empty(0)  # where the plan's tokens go, of rows that lie side by side

    def fits(self, places: int, longest: int) -> bool:
        """Whether so many rows can be held when the longest of them has so many tokens."""
        return places <= self.max_places and (places <= 1 or places * self._rounded(longest) <= self.max_tokens)

    @torch.inference_mode()
    def reserve(self, places: int, longest: int, lengths: Sequence[int]) -> int:
        """Make room for so many rows of up to ``longest`` tokens; returns how many places there are now.

        Args:
            lengths: of what the places hold from 0 on; what lies at places that no longer exist, or beyond a capacity
                that had to shrink, is lost.
        """
        capacity = max(self.capacity, self._rounded(longest))
        if places * capacity > self.max_tokens:
            capacity = self._rounded(longest)
        wanted = max(self.places, places)
        if wanted > self.places:
            wanted = min(self.max_places, max(wanted, 2 * self.places))
        while wanted > places and wanted * capacity > self.max_tokens:
            wanted -= 1
        if (wanted, capacity) != (self.places, self.capacity):
            self._resize(wanted, capacity, lengths)
        return self.places

    @torch.inference_mode()
    def update(self, layer: int, plan: Plan, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Write new positions and return all that the rows hold.

        Args:
            keys, values: ``[B, T, heads, width]``.

        Returns:
            Both as ``[B, heads, S, width]``, what lies behind a row's own length being undefined but finite.
        """
        if layer not in self._buffers:
            self._allocate(layer, keys, values)
        if plan is not self._plan:
            self._plan = plan
            rows = torch.arange(len(plan.places), device=keys.device)
            self._index = rows * self.capacity + plan.positions[:, 0]
        return self._write(layer, 0, plan, keys), self._write(layer, 1, plan, values)

    def held(self, layer: int) -> tuple[Tensor, Tensor] | None:
        """The layer's buffers of keys and values, to be read and written in place; None before its first update."""
        return self._buffers.get(layer)

    @torch.inference_mode()
    def copy(self, source: int, target: int, length: int) -> None:
        """Give ``target`` the first ``length`` positions of ``source``."""
        for pair in self._buffers.values():
            for buffer in pair:
                buffer[target, :length] = buffer[source, :length]

    @torch.inference_mode()
    def swap(self, one: int, other: int, length: int) -> None:
        """Exchange two places, of which the longer one holds ``length`` positions."""
        for pair in self._buffers.values():
            for buffer in pair:
                kept = buffer[one, :length].clone()
                buffer[one, :length] = buffer[other, :length]
                buffer[other, :length] = kept

    def _rounded(self, longest: int) -> int:
        size = min(FIRST_CAPACITY, self.context)
        while size < longest:
            size *= 2
        return min(size, max(self.context, longest))

    def _write(self, layer: int, which: int, plan: Plan, new: Tensor) -> Tensor:
        buffer = self._buffers[layer][which]
        rows = new.flatten(2)
        if plan.side_by_side:
            buffer.view(-1, buffer.shape[-1]).index_copy_(0, self._index, rows[:, 0])
            held = buffer[: len(plan.places), : plan.length]
        else:
            for row, (place, start, count) in enumerate(zip(plan.places, plan.starts, plan.counts, strict=True)):
                buffer[place, start : start + count] = rows[row, :count]
            held = buffer[list(plan.places), : plan.length]
        return held.unflatten(-1, self._shapes[layer][which]).transpose(1, 2)

    def _allocate(self, layer: int, keys: Tensor, values: Tensor) -> None:
        self._shapes[layer] = (tuple(keys.shape[2:]), tuple(values.shape[2:]))  # type: ignore[assignment]
        size = (self.places, self.capacity)
        # Zeros: what is masked is still multiplied (by 0), and 0 times NaN is NaN.
        self._buffers[layer] = (
            keys.new_zeros(*size, keys.shape[2:].numel()),
            values.new_zeros(*size, values.shape[2:].numel()),
        )

    def _resize(self, places: int, capacity: int, lengths: Sequence[int]) -> None:
        for layer, pair in self._buffers.items():
            made = []
            for buffer in pair:
                grown = buffer.new_zeros(places, capacity, buffer.shape[-1])
                for place, length in enumerate(lengths[:places]):
                    kept = min(length, capacity)
                    grown[place, :kept] = buffer[place, :kept]
                made.append(grown)
            self._buffers[layer] = (made[0], made[1])
        self.places, self.capacity = places, capacity
