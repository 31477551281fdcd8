"""A GPU that runs out of memory: the error names the keys to lower and points to the plan."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from sawyer.errors import TrainingError


@contextmanager
def enough_memory(recipe: str, lower: str) -> Iterator[None]:
    """Inside, torch's error of memory becomes ours; ``lower`` says which keys to change, ``recipe`` is its name.

    Raises:
        TrainingError: the device's memory does not suffice.
    """
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise TrainingError(
            f"The GPU's memory does not suffice ({str(error).split('.')[0]}): {lower}, and go on with --resume. "
            f"What each part takes: `sawyer plan {recipe}`."
        ) from error
