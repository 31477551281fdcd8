"""Python functions as scorers: ``module:name`` or ``file.py:name`` from a recipe."""

import importlib
import importlib.util
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from sawyer.data_formats import Message
from sawyer.errors import TrainingError, UsageError
from sawyer.scoring.text import as_scores


class FunctionScorer:
    """A function ``f(prompts, responses)`` as a scorer.

    The function gets a list of message lists and a list of texts of the same length, and returns one number a
    response. It runs in this process with all its rights: name only code you trust.

    Args:
        path: ``module:name`` or ``file.py:name``.

    Raises:
        UsageError: there is no such module, file or function.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._function = load_function(path)

    def score(self, prompts: Sequence[Sequence[Message]], responses: Sequence[str]) -> np.ndarray:
        """What the function returns, float32 ``[n]``.

        Raises:
            TrainingError: the function raises, or returns something else than one number a response.
        """
        try:
            answer = self._function([list(prompt) for prompt in prompts], list(responses))
        except Exception as error:  # whatever somebody else's function does wrong
            raise TrainingError(
                f"The reward function {self.path} raised {type(error).__name__}: {error} (line {_line(error)}). "
                "Mend it, or name another in the key function of ppo.reward; the checkpoints so far are kept."
            ) from error
        return as_scores(answer, len(responses), f"The reward function {self.path}")


def load_function(path: str) -> Callable[[list[list[Message]], list[str]], Any]:
    """Import the function that ``module:name`` or ``file.py:name`` names. Raises UsageError if there is none."""
    place, _, name = path.rpartition(":")
    try:
        module = _from_file(Path(place)) if place.endswith(".py") else importlib.import_module(place)
    except Exception as error:  # importing runs foreign code, which may fail in any way
        raise UsageError(
            f"The reward function {path} cannot be imported: {type(error).__name__}: {error}. Write it as module:name "
            "or file.py:name; paths are relative to the working directory."
        ) from error
    function = getattr(module, name, None)
    if not callable(function):
        there = sorted(key for key, value in vars(module).items() if callable(value) and not key.startswith("_"))
        raise UsageError(
            f"{place} has no function {name!r}; it has: {', '.join(there[:12]) or 'none'}. Correct the key function."
        )
    return function


def _from_file(file: Path) -> ModuleType:
    if not file.is_file():
        raise FileNotFoundError(f"there is no file {file}")
    name = f"sawyer_reward_{file.stem}"
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up there
    spec.loader.exec_module(module)
    return module


def _line(error: BaseException) -> str:
    """Where the exception was raised, as file:line."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return f"{Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}" if trace is not None else "?"
