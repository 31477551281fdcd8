"""Votes that come while the disk is busy are stored together, and each is told what became of it alone."""

import asyncio
import gc
import threading

import pytest

from sawyer.errors import StoreError
from sawyer.store import CastVote, Conflict, FeedbackStore, Invalid, NotFound
from serve.heap import settle_heap
from serve.vote_queue import VoteQueue


def ask(store: FeedbackStore) -> str:
    turn = store.add_turn(store.add_conversation(), [{"role": "user", "content": "Tea?"}])
    for stage in ("base", "sft", "rlf"):
        store.add_completion(turn, stage, prompt_text="", text=stage, tokens=1)
    return turn


class Slow:
    """A store whose first group waits until it is let go."""

    def __init__(self, store: FeedbackStore, failing: bool = False) -> None:
        self.store, self.failing = store, failing
        self.groups: list[int] = []
        self.may_go = threading.Event()

    def add_votes(self, casts):
        self.groups.append(len(casts))
        assert self.may_go.wait(20)
        if self.failing and len(self.groups) > 1:
            raise StoreError("The database is gone.")
        return self.store.add_votes(casts)


async def together(slow: Slow, casts: list[CastVote]) -> list[object]:
    """What becomes of votes of which the first is being stored while the others come."""
    queue = VoteQueue(slow)  # type: ignore[arg-type]
    waiting = [asyncio.create_task(queue.add(cast)) for cast in casts[:1]]
    while not slow.groups:
        await asyncio.sleep(0.001)
    waiting += [asyncio.create_task(queue.add(cast)) for cast in casts[1:]]
    await asyncio.sleep(0.01)
    slow.may_go.set()
    return await asyncio.gather(*waiting, return_exceptions=True)


def test_votes_that_wait_share_a_transaction_and_not_each_others_faults(store):
    turn, slow = ask(store), Slow(store)
    casts = [CastVote.of(turn, "rlf", f"v{number}", idempotency_key=f"k{number}") for number in range(30)]
    casts[7] = CastVote.of("absent", "rlf", "v7")
    casts[9] = CastVote.of(turn, "base", "v9", idempotency_key="k8")  # the key of a vote in the same group
    casts[11] = CastVote.of(turn, "rlf", "v10", idempotency_key="k10")  # the same request again, in the same group
    casts[13] = CastVote.undo(turn, "v12", None)  # of a vote in the same group
    casts[15] = CastVote.undo(turn, "nobody", None)
    casts[17] = CastVote.of(turn, "A", "v17", as_shown=True)
    told = asyncio.run(together(slow, casts))
    assert slow.groups == [1, 29]
    wrong = {number: type(each) for number, each in enumerate(told) if isinstance(each, Exception)}
    assert set(wrong) == {7, 9, 15, 17} and issubclass(wrong[17], Invalid)
    assert (wrong[7], wrong[9], wrong[15]) == (NotFound, Conflict, NotFound)
    assert told[11].vote_id == told[10].vote_id and (told[10].created, told[11].created) == (True, False)
    rows = store.votes(newest_only=False)
    assert [row.id for row in rows] == [e.vote_id for n, e in enumerate(told) if n not in wrong and n != 11]
    assert "v12" not in {vote.voter for vote in store.votes()} and store.count_votes() == store.stats()["votes"] == 23


def test_a_group_that_cannot_be_stored_is_told_and_the_next_one_tries_again(store):
    turn, slow = ask(store), Slow(store, failing=True)
    casts = [CastVote.of(turn, "rlf", f"v{number}") for number in range(5)]
    told = asyncio.run(together(slow, casts))
    assert [isinstance(each, StoreError) for each in told] == [False, True, True, True, True]
    slow.failing = False
    assert asyncio.run(together(slow, casts[1:2]))[0].created
    assert [vote.voter for vote in store.votes()] == ["v0", "v1"]


def test_a_client_that_leaves_takes_nobodys_vote_with_it(store):
    turn, slow = ask(store), Slow(store)

    async def leaving():
        queue = VoteQueue(slow)
        tasks = [asyncio.create_task(queue.add(CastVote.of(turn, "rlf", f"v{number}"))) for number in range(3)]
        while not slow.groups:
            await asyncio.sleep(0.001)
        tasks[1].cancel()
        slow.may_go.set()
        return await asyncio.gather(*tasks, return_exceptions=True)

    told = asyncio.run(leaving())
    assert isinstance(told[1], asyncio.CancelledError) and told[0].created and told[2].created
    assert {vote.voter for vote in store.votes()} >= {"v0", "v2"}


@pytest.fixture
def thawed():
    yield
    gc.unfreeze()


def test_what_was_loaded_is_not_searched_for_garbage_again(thawed):
    settle_heap()
    assert gc.get_freeze_count() > 10_000 and len(gc.get_objects()) < 5_000
