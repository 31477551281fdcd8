"""Modules of which an adapter has a copy of its own, trained whole beside LoRA: PEFT's ``modules_to_save``."""

from types import MethodType
from typing import Any

import torch
from torch import Tensor


def whole_modules(model: Any) -> list[Any]:
    """PEFT's wrappers of such modules in a model."""
    from peft.utils import ModulesToSaveWrapper

    return [module for module in model.modules() if isinstance(module, ModulesToSaveWrapper)]


def let_rows_differ(model: Any) -> None:
    """Let every row of a batch be answered by the copy of its own adapter, whatever the kind of module.

    PEFT does so for linear layers, embeddings and convolutions alone, and refuses norms.
    """
    for module in whole_modules(model):
        module._mixed_batch_forward = MethodType(_by_row, module)


def _by_row(self: Any, given: Tensor, *args: Any, adapter_names: list[str], **kwargs: Any) -> Tensor:
    copies = dict(self.modules_to_save.items())
    made: list[Any] = [None] * len(adapter_names)
    for name in dict.fromkeys(adapter_names):
        rows = [row for row, wanted in enumerate(adapter_names) if wanted == name]
        module = copies.get(name, self.original_module)
        for row, answer in zip(rows, module(given[rows], *args, **kwargs), strict=True):
            made[row] = answer
    return torch.stack(made)
