"""The state of rounds on the disk: numbers, records, who runs, who is interrupted, and the lock between processes."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from sawyer.cli import rounds as cli
from sawyer.errors import CheckpointError, UsageError
from sawyer.home import Home
from sawyer.progress import progress
from sawyer.recipe import Recipe
from sawyer.rounds import Diary, RoundBook, RoundRecord, RoundRunning
from sawyer.store import FeedbackStore
from sawyer.types import RoundDetail

RECIPE = Recipe.model_validate({"name": "trial", "model": {"backbone": "nowhere"}})
# Holds the lock of round 1 until it is told to end, as the process of a round does.
HOLDER = """
import sys, time
from sawyer.home import Home
from sawyer.rounds import RoundBook
book = RoundBook(Home.find(sys.argv[1]), "trial")
import os
with book.lock.held() as file:
    book.lock.sign(file, os.getpid(), 1)
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def book(tmp_path: Path) -> RoundBook:
    return RoundBook(Home(tmp_path / "home").ensure(), "trial")


def begin(book: RoundBook, method: str = "ppo") -> RoundRecord:
    with book.lock.held():
        return book.create(RECIPE, method, dry_run=False)


def test_a_round_is_numbered_recorded_and_interrupted_once_its_process_is_gone(book: RoundBook) -> None:
    assert book.listing().rounds == [] and book.listing().can_start is None and book.unfinished() is None
    with book.lock.held() as file:
        record = book.create(RECIPE, "ppo", dry_run=True)
        book.lock.sign(file, os.getpid(), record.number)
        assert book.record(1).state == "running"
        assert str(os.getpid()) in (book.listing().can_start or "")
    assert book.record(1).state == "interrupted" and book.listing().can_start is None
    unfinished = book.unfinished()
    assert unfinished is not None and (unfinished.number, unfinished.dry_run) == (1, True)
    assert begin(book, "dpo").number == 2
    assert [(r.number, r.method) for r in book.summaries()] == [(2, "dpo"), (1, "ppo")]
    assert (book.folder(1) / "recipe.yaml").exists()


def test_a_second_process_is_refused_until_the_first_is_gone(book: RoundBook) -> None:
    begin(book)
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(book.home.root)], stdout=subprocess.PIPE, text=True
    )  # fmt: skip
    try:
        assert process.stdout is not None and process.stdout.readline() == "held\n"
        with pytest.raises(RoundRunning, match=f"Round 1 of trial is running.*process {process.pid}"), book.lock.held():
            pass
        assert book.record(1).state == "running"
        assert book.stop(1).state == "interrupted"
        assert process.wait(10) == -signal.SIGTERM
    finally:
        process.kill()
        process.wait()
    with book.lock.held():
        pass
    with pytest.raises(UsageError, match="Round 1 of trial does not run: it is interrupted"):
        book.stop(1)


def test_the_lock_can_be_handed_over_and_is_never_free_between(book: RoundBook) -> None:
    """As a server does it: the new process gets the open file, and the server closes its own."""
    child = "import sys, time; print('here', flush=True); time.sleep(60)"
    with book.lock.held() as file:
        process = subprocess.Popen([sys.executable, "-c", child], stdout=subprocess.PIPE, pass_fds=[file])
    try:
        assert book.lock.holder() is not None
        handed = os.open(book.lock.path, os.O_RDWR)
        with pytest.raises(UsageError, match="cannot be used"), book.lock.adopted(handed):
            pass  # another opening of the same file is not the one that was handed over
        os.close(handed)
    finally:
        process.kill()
        process.wait()
    assert book.lock.holder() is None


def test_asking_who_runs_does_not_keep_a_round_from_starting(book: RoundBook) -> None:
    import threading

    stop = threading.Event()
    begin(book)

    def look() -> None:
        while not stop.is_set():
            book.listing()

    watchers = [threading.Thread(target=look) for _ in range(3)]
    for watcher in watchers:
        watcher.start()
    try:
        for _ in range(20):
            with book.lock.held():
                pass
    finally:
        stop.set()
        for watcher in watchers:
            watcher.join()


def test_what_a_watcher_sees_while_a_step_runs_and_after_it_failed(book: RoundBook) -> None:
    record = begin(book)
    with book.lock.held() as file:
        book.lock.sign(file, os.getpid(), 1)
        diary = Diary(book, record)
        with pytest.raises(ValueError), diary.step("reward"):
            with progress("pairs", 4) as tick:
                tick(1)
                seen = book.detail(1)
                step = next(each for each in seen.steps if each.name == "reward")
                assert (step.state, step.progress, step.detail, seen.state) == ("running", 0.25, "pairs", "running")
            raise ValueError
        diary.end("failed", ["it broke"])
    seen = book.detail(1)
    assert (seen.state, seen.step, seen.reasons, seen.ended is not None) == ("failed", "reward", ["it broke"], True)
    assert [step.state for step in seen.steps][:3] == ["waiting", "failed", "waiting"]
    assert any("reward begins" in line for line in seen.log)
    assert RoundDetail.model_validate_json(seen.model_dump_json()) == seen


def test_a_damaged_record_is_said_and_hides_no_other(book: RoundBook) -> None:
    begin(book)
    begin(book)
    (book.folder(1) / "round.json").write_text('{"number": 1,')
    assert [(r.number, r.state) for r in book.summaries()] == [(2, "interrupted"), (1, "failed")]
    assert "is damaged" in book.summaries()[1].reasons[0]
    with pytest.raises(CheckpointError, match="is damaged"):
        book.detail(1)
    with pytest.raises(UsageError, match="no round 7; there are: 1, 2"):
        book.detail(7)


def test_votes_seen_are_those_of_the_newest_snapshot(book: RoundBook) -> None:
    assert book.votes_seen() == 0
    for cast in (120, 0):
        Diary(book, begin(book)).update(cast=cast)
    assert book.votes_seen() == 120


def test_a_record_is_replaced_whole(book: RoundBook, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed while writing: the record of before is there, not half of the new one."""
    diary = Diary(book, begin(book))

    def die(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(json, "dump", die)
    with pytest.raises(OSError):
        diary.update(votes=7)
    monkeypatch.undo()
    assert book.record(1).votes == 0
    diary.update(votes=8)
    assert book.record(1).votes == 8 and time.time() >= book.record(1).created


def test_waiting_for_votes_counts_only_what_is_new(book: RoundBook, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli, "WAIT", 0.01)
    counted: list[int] = []

    def counting(self: FeedbackStore, real: Callable[[FeedbackStore], int] = FeedbackStore.count_votes) -> int:
        counted.append(real(self))
        return counted[-1]

    monkeypatch.setattr(FeedbackStore, "count_votes", counting)
    waiting = threading.Thread(target=cli._wait_for_votes, args=(RECIPE, book.home, 2), daemon=True)
    with FeedbackStore.open(book.home.db_url) as store:
        turn = store.add_turn(store.add_conversation(), [{"role": "user", "content": "Tea?"}])
        store.add_completion(turn, "rlf", prompt_text="", text="Yes.", tokens=1)
        waiting.start()
        for voter in ("ann", "bob"):
            time.sleep(0.4)  # dozens of looks
            assert waiting.is_alive()
            store.add_vote(turn, "rlf", voter)
    waiting.join(20)
    assert not waiting.is_alive() and counted == [0, 1, 2]
