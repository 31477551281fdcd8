"""A progress bar for long work: one live line in a terminal, a plain line now and then in a log file."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

PLAIN_EVERY_SECONDS = 30.0


class Tick(Protocol):
    """Called with the number of steps done and the figures to show."""

    def __call__(self, done: int, **figures: float | str) -> None: ...


@contextmanager
def progress(description: str, total: int) -> Iterator[Tick]:
    """Show the progress of ``total`` steps on standard error."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _plain(description, total)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, TimeRemainingColumn(), TextColumn("{task.fields[figures]}"), console=console) as bar:
        task = bar.add_task(description, total=total, figures="")

        def tick(done: int, **figures: float | str) -> None:
            bar.update(task, completed=done, figures=_show(figures))

        yield tick


def note(text: str) -> None:
    """Say something in passing on standard error."""
    Console(stderr=True).print(text, style="yellow", markup=False, highlight=False, soft_wrap=True)


def _plain(description: str, total: int) -> Tick:
    last = 0.0

    def tick(done: int, **figures: float | str) -> None:
        nonlocal last
        now = time.monotonic()
        if done >= total or now - last >= PLAIN_EVERY_SECONDS:
            last = now
            print(f"{description} {done}/{total} {_show(figures)}", file=sys.stderr, flush=True)

    return tick


def _show(figures: dict[str, float | str]) -> str:
    return "  ".join(f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in figures.items())
