"""A progress bar for long work: one live line in a terminal, a plain line now and then in a log file."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

PLAIN_EVERY_SECONDS = 30.0

Watcher = Callable[[str, int, int], None]
"""Told what is being done, how many steps of it are done, and how many there are."""

_watcher: ContextVar[Watcher | None] = ContextVar("watcher", default=None)


class Tick(Protocol):
    """Called with the number of steps done and the figures to show."""

    def __call__(self, done: int, **figures: float | str) -> None: ...


@contextmanager
def watched(watcher: Watcher) -> Iterator[None]:
    """Inside, in this thread, ``watcher`` is told of all progress as well."""
    token = _watcher.set(watcher)
    try:
        yield
    finally:
        _watcher.reset(token)


@contextmanager
def progress(description: str, total: int) -> Iterator[Tick]:
    """Show the progress of ``total`` steps on standard error."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _told(_plain(description, total), description, total)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, TimeRemainingColumn(), TextColumn("{task.fields[figures]}"), console=console) as bar:
        task = bar.add_task(description, total=total, figures="")

        def tick(done: int, **figures: float | str) -> None:
            bar.update(task, completed=done, figures=_show(figures))

        yield _told(tick, description, total)


def _told(show: Tick, description: str, total: int) -> Tick:
    """``show``, and the watcher told, if there is one."""
    watcher = _watcher.get()
    if watcher is None:
        return show

    def tick(done: int, **figures: float | str) -> None:
        show(done, **figures)
        watcher(description, done, total)

    return tick


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
