"""`sawyer round`: from votes to a better version, or to a refusal; and how a server starts one beside itself."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import typer

from sawyer.cli.options import HomeOption, RecipeArgument, SetOption
from sawyer.errors import GateRefused, StoreError, UsageError

if TYPE_CHECKING:
    from sawyer.home import Home
    from sawyer.recipe import Recipe
    from sawyer.types.rounds import RoundSummary, StartRound

WAIT = 5.0  # seconds between two looks at the votes
NICE = 10  # a round that a server has started leaves the processor to it


def round_(
    recipe: RecipeArgument,
    method: Annotated[str, typer.Option(help="How rlf is trained: ppo, or another method of `sawyer train`.")] = "ppo",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Do everything but promote.")] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the round that was interrupted.")] = False,
    every: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Wait for N new votes, run a round, and again, for ever.")
    ] = None,
    overrides: SetOption = None,
    home: HomeOption = None,
    begun: Annotated[int | None, typer.Option(hidden=True, help="A round that a server has begun.")] = None,
    lock: Annotated[int | None, typer.Option(hidden=True, help="The open file of its lock.")] = None,
) -> None:
    """Learn from the votes: reward model, new rlf, evaluation, gate. Exit code 3: the gate refused it."""
    from sawyer.home import Home
    from sawyer.processes import require_one_process
    from sawyer.recipe import load_recipe

    require_one_process()
    where = Home.find(home).ensure()
    if begun is not None and lock is not None:
        _go_on(where, recipe, begun, lock)
        return
    read = load_recipe(recipe, overrides or [])
    if every is None:
        _one(read, where, method=method, dry_run=dry_run, resume=resume)
        return
    if resume:
        raise UsageError("--every begins rounds, and --resume ends one: finish that one first, then start --every.")
    _again_and_again(read, where, every, method=method, dry_run=dry_run)


def _one(recipe: "Recipe", home: "Home", *, method: str, dry_run: bool, resume: bool = False) -> None:
    from rich.console import Console

    from sawyer.cli.round_table import print_round
    from train.round import run_round

    print_round(run_round(recipe, home, method=method, dry_run=dry_run, resume=resume), Console())


def _go_on(home: "Home", recipe_name: str, number: int, lock: int) -> None:
    """Work on a round that a server has begun, holding the lock that it handed over."""
    from sawyer.rounds import RoundBook

    os.nice(NICE)
    book = RoundBook(home, recipe_name)
    with book.lock.adopted(lock) as file:
        record = book.record(number)
        from train.round import continue_round

        continue_round(book, record, file)


def _again_and_again(recipe: "Recipe", home: "Home", every: int, *, method: str, dry_run: bool) -> None:
    """Rounds without end, each once ``every`` votes have come since the newest one began. A refusal ends nothing."""
    from rich.console import Console

    from sawyer.rounds import RoundRunning
    from train.round import check_recipe

    check_recipe(recipe, home, method)
    console = Console(stderr=True)
    while True:
        _wait_for_votes(recipe, home, every)
        try:
            _one(recipe, home, method=method, dry_run=dry_run)
        except GateRefused as refused:
            console.print(f"Refused: {refused}", markup=False, highlight=False, soft_wrap=True)
        except RoundRunning:
            time.sleep(WAIT)  # somebody else's: the votes are counted anew from its snapshot


def _wait_for_votes(recipe: "Recipe", home: "Home", every: int) -> None:
    from sawyer.progress import note, progress
    from sawyer.rounds import RoundBook
    from sawyer.store import FeedbackStore

    book = RoundBook(home, recipe.name)
    revision, count = None, 0
    with FeedbackStore.open(home.db_url) as store, progress("new votes", every) as tick:
        while True:
            try:
                # Counting reads every vote; whether there is anything new to count is told by the newest alone.
                if (now := store.revision()) != revision:
                    revision, count = now, store.count_votes()
            except StoreError as error:  # a database may be gone for a minute
                note(f"{error} Trying again.")
            new = count - book.votes_seen()
            tick(min(every, max(0, new)))
            if new >= every:
                return
            time.sleep(WAIT)


def starter(recipe: "Recipe", home: "Home") -> "Callable[[StartRound], RoundSummary]":
    """What a server calls to start a round: it is begun here, and a process of its own works on it.

    That process has a session of its own, so that the server's end is not its end. The lock is taken here and handed
    over as an open file: at no moment is it free, and the round is never seen without a process.
    """
    from sawyer.rounds import RoundBook
    from sawyer.types.rounds import RoundSummary

    def start(asked: "StartRound") -> RoundSummary:
        book = RoundBook(home, recipe.name)
        with book.lock.held() as file:
            record = book.create(recipe, asked.method, dry_run=asked.dry_run)
            command = [sys.executable, "-m", "sawyer.cli.app", "round", recipe.name, "--home", str(home.root)]
            command += ["--begun", str(record.number), "--lock", str(file)]
            with (book.folder(record.number) / "process.log").open("ab") as log:
                process = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    pass_fds=[file],
                    start_new_session=True,
                )
            book.lock.sign(file, process.pid, record.number)
        # Whoever starts a process must ask for its end, or the system keeps its entry.
        threading.Thread(target=process.wait, daemon=True, name=f"round {record.number}").start()
        return RoundSummary.model_validate(record.model_dump())

    return start
