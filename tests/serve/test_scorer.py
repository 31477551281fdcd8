"""Rewards come from a thread of their own, in batches, and never hold a reply up for long."""

import asyncio
import threading
from types import SimpleNamespace

from serve.scorer import BackgroundScorer, NoScorer, Scored

HI = [{"role": "user", "content": "hi"}]


class Counting:
    def __init__(self, value=1.0):
        self.value, self.batches = value, []

    def score(self, prompts, responses):
        self.batches.append(len(prompts))
        return [self.value + len(response) for response in responses]


def test_replies_that_wait_together_are_scored_together():
    gate, model = threading.Event(), Counting()

    def load():
        gate.wait(5)
        return model

    async def ask():
        scorer = BackgroundScorer(load)
        waiting = [asyncio.create_task(scorer.score(HI, "x" * n)) for n in range(20)]
        await asyncio.sleep(0.05)
        gate.set()
        values = await asyncio.gather(*waiting)
        scorer.close()
        return values

    assert asyncio.run(ask()) == [Scored(1.0 + n) for n in range(20)]
    assert model.batches == [16, 4]


def test_a_slow_reward_is_left_out():
    gate = threading.Event()

    async def ask():
        scorer = BackgroundScorer(lambda: gate.wait(5) or Counting(), patience=0.05)
        value = await scorer.score(HI, "x")
        gate.set()
        scorer.close()
        return value

    assert asyncio.run(ask()) is None


def test_what_is_no_number_is_left_out():
    async def ask(scorer):
        return await scorer.score(HI, "x")

    assert asyncio.run(ask(BackgroundScorer(lambda: Counting(float("nan"))))) is None
    assert asyncio.run(ask(NoScorer())) is None


def test_one_fault_does_not_end_scoring():
    class Fussy(Counting):
        def score(self, prompts, responses):
            if "bad" in responses:
                raise ValueError("bad text")
            return super().score(prompts, responses)

    async def ask():
        scorer = BackgroundScorer(Fussy)
        return [await scorer.score(HI, text) for text in ("bad", "good")]

    assert asyncio.run(ask()) == [None, Scored(5.0)]


def test_parts_come_with_their_sum_and_those_that_are_no_number_are_left_out():
    def explain(scorer, prompts, replies):
        raw = {"length": [float(len(reply)) for reply in replies], "nothing": [float("nan")] * len(replies)}
        return SimpleNamespace(total=[value * 2 for value in raw["length"]], raw=raw)

    async def ask():
        scorer = BackgroundScorer(Counting, explain=explain)
        try:
            return await scorer.score(HI, "four")
        finally:
            scorer.close()

    assert asyncio.run(ask()) == Scored(8.0, {"length": 4.0})
