"""What a run tells while Hugging Face's Trainer works: progress, metrics, held-out figures, samples.

Everything here leaves the random generators as it found them, or a resumed run would differ from one that was never
interrupted.
"""

import random
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import torch
from transformers import TrainerCallback

from sawyer.progress import Tick, progress
from sawyer.runs import Run

# The Trainer's name of a figure -> ours.
NAMES = {"loss": "loss", "learning_rate": "lr", "grad_norm": "grad_norm"}


@contextmanager
def untouched_generators() -> Iterator[None]:
    """Put Python's, NumPy's and torch's random generators back as they were."""
    python, numpy = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)


class Reporter(TrainerCallback):
    """Shows progress, logs figures to the run, evaluates each epoch and takes samples.

    Args:
        run: receives metrics and samples.
        tokens: number of tokens trained on so far, for the rate.
        evaluate: gives held-out figures; called before the first step and after each epoch.
        sample: gives sample rows; called every ``sample_every`` steps and at the end.
        names: more of the Trainer's figures to pass on, with our names for them.
    """

    def __init__(
        self,
        run: Run,
        *,
        tokens: Callable[[], int],
        evaluate: Callable[[], dict[str, float]] | None = None,
        sample: Callable[[], list[dict[str, Any]]] | None = None,
        sample_every: int = 0,
        title: str | None = None,
        names: Mapping[str, str] | None = None,
    ) -> None:
        self.names = NAMES | dict(names or {})
        self.run, self.tokens, self.evaluate, self.sample = run, tokens, evaluate, sample
        self.sample_every, self.title = sample_every, title or run.step
        self._stack = ExitStack()
        self._tick: Tick | None = None
        self._since = (0.0, 0)

    def on_train_begin(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
        """Open the bar; before the very first step, log where the model starts from."""
        self._tick = self._stack.enter_context(progress(self.title, state.max_steps))
        if state.global_step == 0:
            self._evaluate(0, rest["model"])
        self._since = (time.monotonic(), self.tokens())

    def on_step_end(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
        """Evaluate and sample before the Trainer saves, so that a checkpoint never lacks its figures."""
        assert self._tick is not None
        self._tick(state.global_step)
        last = state.global_step >= state.max_steps
        if last or float(state.epoch).is_integer():
            self._evaluate(state.global_step, rest["model"])
        if self.sample and (last or (self.sample_every and state.global_step % self.sample_every == 0)):
            with _evaluating(rest["model"]):
                self.run.save_samples(state.global_step, self.sample())

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float], **rest: Any) -> None:
        """Pass the Trainer's figures on under our names, with the rate since the line before."""
        figures = {ours: float(logs[theirs]) for theirs, ours in self.names.items() if theirs in logs}
        if "loss" not in figures:
            return  # the Trainer's closing summary
        now, tokens = time.monotonic(), self.tokens()
        rate = (tokens - self._since[1]) / max(now - self._since[0], 1e-9)
        self._since = (now, tokens)
        self.run.log(state.global_step, **figures, epoch=float(state.epoch), tokens_per_second=rate)
        if self._tick is not None:
            self._tick(state.global_step, loss=figures["loss"], tokens_per_second=round(rate))

    def on_train_end(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
        """Close the bar."""
        self.close()

    def close(self) -> None:
        """Close the bar; needed when training ended with an error."""
        self._stack.close()

    def _evaluate(self, step: int, model: Any) -> None:
        if self.evaluate:
            with _evaluating(model):
                figures = self.evaluate()
            if figures:
                self.run.log(step, **figures)


@contextmanager
def _evaluating(model: Any) -> Iterator[None]:
    """Evaluation mode without gradients; mode and generators are restored."""
    was_training = model.training
    model.eval()
    with untouched_generators(), torch.no_grad():
        yield
    model.train(was_training)
