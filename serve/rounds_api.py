"""Feedback rounds over HTTP: which there were, starting one, watching it, stopping it.

A round is the work of a process of its own, which ``start`` begins; this server only reads what that process writes. It
therefore goes on when the server ends, and is seen again when one is started anew.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from fastapi import APIRouter
from starlette.concurrency import run_in_threadpool

from sawyer.errors import CheckpointError, UsageError
from sawyer.rounds import RoundBook, RoundRunning
from sawyer.types import RoundDetail, RoundList, RoundSummary, StartRound
from serve.errors import ApiError

Starter = Callable[[StartRound], RoundSummary]

CANNOT = "This server cannot start rounds. Run `sawyer round` on the machine that trains."


def make_router(book: RoundBook, start: Starter | None) -> APIRouter:
    """Routes under ``/v1/admin/rounds``.

    Args:
        start: begins a round and returns at once; None where this server cannot.
    """
    router = APIRouter(prefix="/v1/admin/rounds")

    @router.get("", summary="All rounds, newest first, and whether one can be started")
    async def rounds() -> RoundList:
        found = await run_in_threadpool(book.listing)
        return found if start is not None else found.model_copy(update={"can_start": CANNOT})

    @router.post("", status_code=202, summary="Start a round; 409 while one runs")
    async def begin(body: StartRound) -> RoundSummary:
        if start is None:
            raise ApiError(503, CANNOT, code="rounds_elsewhere")
        with _explained():
            return await run_in_threadpool(start, body)

    @router.get("/{number}", summary="A round: its steps, its gate, samples, the last lines of its log")
    async def one(number: int) -> RoundDetail:
        await run_in_threadpool(_require, book, number)
        with _explained():
            return await run_in_threadpool(book.detail, number)

    @router.post("/{number}/stop", summary="Stop a running round; `sawyer round --resume` goes on with it")
    async def stop(number: int) -> RoundSummary:
        await run_in_threadpool(_require, book, number)
        with _explained():
            return await run_in_threadpool(book.stop, number)

    return router


def _require(book: RoundBook, number: int) -> None:
    known = book.numbers()
    if number not in known:
        there = ", ".join(map(str, known)) or "none"
        raise ApiError(404, f"There is no round {number}; there are: {there}.", code="not_found", param="number")


@contextmanager
def _explained() -> Iterator[None]:
    """What the rounds refuse, as the answer that says so."""
    try:
        yield
    except RoundRunning as error:
        raise ApiError(409, str(error), code="round_running") from error
    except UsageError as error:
        raise ApiError(409, str(error), code="round_refused") from error
    except (CheckpointError, OSError) as error:
        raise ApiError(500, str(error), code="round_failed") from error
