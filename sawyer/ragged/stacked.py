"""Every adapter of a policy in one pair of products a layer, each row keeping the columns of its own.

With A stacked from the adapters' A (``[sum of ranks, in]``) and B from their scaled B (``[out, sum of ranks]``), the
output of a row is ``W x + B (m · (A x))``, where m is 1 on the ranks of its adapter and 0 elsewhere. A row of base has
m = 0, which leaves W x as it is to the last bit. One adapter or eight cost the same number of operations, unlike a loop
that takes the rows of each adapter apart (PEFT's ``adapter_names``; the idea is that of Punica and S-LoRA, Chen et al.
and Sheng et al. 2023, for whom kernels gather each row's own).
"""

from collections.abc import Sequence
from types import MethodType
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import linear

from sawyer.fused import lora_layers

Ranks = tuple[int, ...]


class StackedAdapters:
    """The adapters of a PEFT model, by name. ``install`` puts the stacked product into the model's own layers.

    Whoever runs the model calls ``choose`` before each pass; one thread at a time.
    """

    def __init__(self, model: Any, dtype: torch.dtype) -> None:
        self.dtype = dtype
        self._layers = lora_layers(model)
        self._pairs: dict[int, tuple[Tensor, Tensor, Ranks] | None] = {}
        self._masks: dict[Ranks, Tensor] = {}
        self._rows: list[int | None] = []
        self.names: tuple[str, ...] = ()
        self.stack(sorted({name for layer in self._layers for name in layer.lora_A}))

    def stack(self, names: Sequence[str]) -> None:
        """Take in these adapters and no others; to be called again when some have come or gone."""
        self.names, self._masks = tuple(names), {}
        self._pairs = {id(layer): self._stacked(layer) for layer in self._layers}

    def install(self) -> None:
        """Let every adapted layer of the model answer with the stacked product."""
        for layer in self._layers:
            layer.forward = MethodType(_Forward(self), layer)

    def pair(self, layer: Any) -> tuple[Tensor, Tensor, Ranks] | None:
        """A ``[R, in]``, scaled B ``[out, R]`` and the ranks R is the sum of; None for a layer without adapters."""
        return self._pairs.get(id(layer))

    def choose(self, names: Sequence[str | None]) -> None:
        """Whose columns the rows of the next pass keep; None is base."""
        rows = [None if name is None else self.names.index(name) for name in names]
        if rows != self._rows:
            self._rows, self._masks = rows, {}

    def mask(self, ranks: Ranks) -> Tensor:
        """m ``[B, 1, R]`` for layers with these ranks."""
        if ranks not in self._masks:
            made = torch.zeros(len(self._rows), 1, sum(ranks), dtype=self.dtype)
            for row, number in enumerate(self._rows):
                if number is not None:
                    start = sum(ranks[:number])
                    made[row, 0, start : start + ranks[number]] = 1
            self._masks[ranks] = made.to(self._layers[0].get_base_layer().weight.device)
        return self._masks[ranks]

    def product(self, layer: Any, x: Tensor) -> Tensor | None:
        """B (m · (A x)) for x ``[B, T, in]``; None where nothing is to be added."""
        found = self.pair(layer)
        if found is None or not any(number is not None for number in self._rows):
            return None
        a, b, ranks = found
        return linear(linear(x.to(self.dtype), a) * self.mask(ranks), b)

    @torch.no_grad()
    def _stacked(self, layer: Any) -> tuple[Tensor, Tensor, Ranks] | None:
        ranks = tuple(layer.r[name] if name in layer.lora_A else 0 for name in self.names)
        if not sum(ranks):
            return None
        parts = [name for name, rank in zip(self.names, ranks, strict=True) if rank]
        a = torch.cat([layer.lora_A[name].weight for name in parts])
        b = torch.cat([layer.lora_B[name].weight * layer.scaling[name] for name in parts], 1)
        return a.to(self.dtype), b.to(self.dtype), ranks


class _Forward:
    """The forward pass of an adapted layer."""

    def __init__(self, stacked: StackedAdapters) -> None:
        self._stacked = stacked

    def __call__(self, layer: Any, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        out = layer.base_layer(x, *args, **kwargs)
        more = self._stacked.product(layer, x)
        return out if more is None else out + more.to(out.dtype)
