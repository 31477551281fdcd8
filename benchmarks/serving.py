"""The local engine on the shipped nano model: one comparison, many chats, a newcomer among them, a second turn.

    python benchmarks/serving.py           # a table
    python benchmarks/serving.py --json    # one JSON object

Everything is measured in one run, the sides in alternating rounds. Replies have exactly 64 tokens: no token ends
them, and the prompt is continued as it is, without the stages' stop texts. Run it on an idle machine.
"""

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run as a file, it finds its neighbours all the same

from benchmarks.outcome import machine

STAGES = ("base", "sft", "rlf")
QUESTION = "How do I boil an egg so that it is soft inside, and how long does it take when it is cold from the fridge?"
TOKENS = 64
PAUSE = 0.5  # seconds between two measurements


class Peer:
    """The other sides, in a process of their own: with two of a process's threads calling torch, both become slower."""

    def __init__(self, home: Path) -> None:
        from sawyer.home import Home
        from sawyer.recipe import load_recipe
        from sawyer.registry import Registry
        from serve.app import load_policy

        recipe = load_recipe("nano")
        loaded = _endless(load_policy(recipe, Registry.of(recipe, Home(home).ensure())))
        self.policy = loaded.policy
        self.names = {stage: stage if stage == "base" else loaded.versions[stage] for stage in STAGES}
        self.ids = self.policy.chat.encode_raw(f"1. {QUESTION}")

    def three_generate_calls(self) -> None:
        """transformers' generate, one stage after the other, PEFT's adapter switched between."""
        import torch

        ids = torch.tensor([self.ids])
        for stage in STAGES:
            with self.policy.using(self.names[stage]) as model, torch.inference_mode():
                made = model.generate(
                    input_ids=ids, attention_mask=torch.ones_like(ids), do_sample=False, pad_token_id=0,
                    min_new_tokens=TOKENS, max_new_tokens=TOKENS,
                )  # fmt: skip
            assert made.shape[1] == len(self.ids) + TOKENS

    def peft_mixed_batch(self) -> None:
        """One batch of three rows, PEFT multiplying each row with its own adapter."""
        from sawyer.generation import Row, decode

        rows = [Row(self.ids, self.names[stage], TOKENS, 0.0) for stage in STAGES]
        assert sum(1 for _ in decode(self.policy, rows)) == TOKENS


_peers: list[Peer] = []


def start_peer(home: Path) -> None:
    """In the peer's process: load."""
    _peers.append(Peer(home))


def ask_peer(name: str) -> float:
    """In the peer's process: seconds that one of its sides takes."""
    return timed(getattr(_peers[0], name))


class Bench:
    """An engine of the shipped nano model."""

    def __init__(self, home: Path) -> None:
        from sawyer.home import Home
        from sawyer.recipe import load_recipe
        from sawyer.registry import Registry
        from serve.app import load_policy
        from serve.kernels import keep_few_kernels
        from serve.local.engine import LocalEngine

        keep_few_kernels()  # as the server does
        recipe = load_recipe("nano")
        registry = Registry.of(recipe, Home(home).ensure())
        self.steps = 0  # of the engine
        self.asked = 0  # every prompt begins with a number of its own: nothing of it has been read before
        self.engine = LocalEngine(
            lambda: _endless(load_policy(recipe, registry)), context=recipe.model.context, on_step=self._count
        )
        self.engine.start()
        while self.engine.status()[0] == "loading":
            time.sleep(0.05)

    # One comparison of three stages

    def engine_turn(self) -> None:
        """The engine, from the request to the last event."""
        question = self._new()
        texts, tokens = asyncio.run(self._ask([self._job(stage, question) for stage in STAGES]))
        assert tokens == [TOKENS] * 3 and all(texts)

    # Many chats, a newcomer, a second turn

    def chats(self, count: int) -> float:
        """Tokens a second of so many chats with different questions, all at once."""
        time.sleep(PAUSE)
        jobs = [self._job("rlf", self._new()) for _ in range(count)]

        async def ask() -> float:
            prepared = await self.engine.prepare(jobs)
            started = time.perf_counter()
            await asyncio.gather(*(_follow(self.engine.submit([each])) for each in prepared))
            return count * TOKENS / (time.perf_counter() - started)

        return asyncio.run(ask())

    def newcomer(self) -> dict[str, float]:
        """Steps and seconds from a request to its first text while eight others stream."""

        async def ask() -> dict[str, float]:
            crowd = await self.engine.prepare([self._job("sft", self._new(), 120) for _ in range(8)])
            running = [asyncio.create_task(_follow(self.engine.submit([each]))) for each in crowd]
            prepared = await self.engine.prepare([self._job("rlf", self._new())])
            while self.engine.running < 8:
                await asyncio.sleep(0.005)
            await asyncio.sleep(0.2)
            begun, started = self.steps, time.perf_counter()
            reply = self.engine.submit(prepared)
            await anext(aiter(reply))
            found = {"steps": self.steps - begun, "seconds": time.perf_counter() - started}
            assert self.engine.running == 9
            reply.cancel()
            await asyncio.gather(*running)
            return found

        return asyncio.run(ask())

    def second_turn(self, fresh: bool) -> float:
        """Seconds to the first text of a question that continues a long conversation, read before or not."""
        history = " ".join([self._new()] * 12)
        if not fresh:
            asyncio.run(self._ask([self._job("rlf", history, 2)]))

        async def ask() -> float:
            prepared = await self.engine.prepare([self._job("rlf", f"{history} And for two?")])
            started = time.perf_counter()
            reply = self.engine.submit(prepared)
            await anext(aiter(reply))
            seconds = time.perf_counter() - started
            reply.cancel()
            return seconds

        return asyncio.run(ask())

    def _new(self) -> str:
        self.asked += 1
        return f"{self.asked}. {QUESTION}"

    def _count(self, rows: int, seconds: float) -> None:
        self.steps += 1

    def _job(self, stage: str, prompt: str, tokens: int = TOKENS) -> Any:
        from sawyer.types import Sampling
        from serve.engine import Job

        sampling = Sampling(max_tokens=tokens, temperature=0, top_p=1, seed=1)
        return Job(stage, (), sampling, prompt=prompt)  # type: ignore[arg-type]

    async def _ask(self, jobs: Sequence[Any]) -> tuple[list[str], list[int]]:
        return await _follow(self.engine.submit(await self.engine.prepare(jobs)))


def _endless(loaded: Any) -> Any:
    """The same, but no token ends a reply."""
    loaded.policy.chat.eos_id = -1
    loaded.policy.model.generation_config.eos_token_id = None
    return loaded


async def _follow(reply: Any) -> tuple[list[str], list[int]]:
    from serve.engine import Delta, Finished

    texts: dict[int, str] = {}
    tokens: dict[int, int] = {}
    async for event in reply:
        if isinstance(event, Delta):
            texts[event.row] = texts.get(event.row, "") + event.text
        else:
            assert isinstance(event, Finished), event
            tokens[event.row] = event.tokens
    return [texts.get(row, "") for row in sorted(tokens)], [tokens[row] for row in sorted(tokens)]


def timed(work: Callable[[], Any]) -> float:
    """Seconds that something takes, after a pause in which the threads of what was measured last come to rest."""
    time.sleep(PAUSE)
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def measure(rounds: int) -> dict[str, Any]:
    """Everything, as one JSON object; figures are medians over the rounds."""
    where = machine()
    if where["load_before"] > 0.5:
        print(f"Other work is running here (load {where['load_before']:.1f}): times will say little.", file=sys.stderr)
    found: dict[str, list[float]] = {}

    def note(name: str, value: float) -> None:
        found.setdefault(name, []).append(value)

    with (
        tempfile.TemporaryDirectory(prefix="sawyer-benchmark-") as folder,
        ProcessPoolExecutor(1, get_context("spawn"), start_peer, (Path(folder) / "peer",)) as peer,
    ):
        bench = Bench(Path(folder) / "ours")
        for number in range(rounds + 1):  # the first one warms up
            kept = dict(found) if number else {}
            note("three_generate_calls_seconds", peer.submit(ask_peer, "three_generate_calls").result())
            note("peft_mixed_batch_seconds", peer.submit(ask_peer, "peft_mixed_batch").result())
            note("engine_turn_seconds", timed(bench.engine_turn))
            note("one_chat_tokens_per_second", bench.chats(1))
            note("sixteen_chats_tokens_per_second", bench.chats(16))
            newcomer = bench.newcomer()
            note("first_token_steps", newcomer["steps"])
            note("first_token_seconds", newcomer["seconds"])
            note("second_turn_seconds", bench.second_turn(fresh=False))
            note("second_turn_read_anew_seconds", bench.second_turn(fresh=True))
            if not number:
                found = kept
        bench.engine.close()
    middle = {name: round(statistics.median(values), 4) for name, values in found.items()}
    ratios = {
        "three_stage_time_ratio": middle["engine_turn_seconds"] / middle["three_generate_calls_seconds"],
        "peft_mixed_batch_time_ratio": middle["engine_turn_seconds"] / middle["peft_mixed_batch_seconds"],
        "sixteen_chats_throughput_ratio": middle["sixteen_chats_tokens_per_second"]
        / middle["one_chat_tokens_per_second"],
        "second_turn_time_ratio": middle["second_turn_seconds"] / middle["second_turn_read_anew_seconds"],
    }
    return {
        "benchmark": "serving",
        "machine": where,
        "rounds": rounds,
        "all": {name: [round(value, 4) for value in values] for name, values in found.items()},
        **middle,
        **{name: round(value, 3) for name, value in ratios.items()},
        "first_token_steps_worst": max(found["first_token_steps"]),
        "targets": {
            "three_stage_time_ratio": "at most 0.333, as the stretch 0.25",
            "sixteen_chats_throughput_ratio": "at least 5",
            "first_token_steps_worst": "at most 3 steps of decoding and the reading of its prompt, which is one",
        },
    }


def show(result: dict[str, Any]) -> None:
    """A table of the medians."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"Serving, medians of {result['rounds']} rounds", title_justify="left")
    table.add_column("measured")
    table.add_column("figure", justify="right")
    table.add_column("target")
    for name, value in result.items():
        if isinstance(value, int | float) and name != "rounds":
            table.add_row(name, f"{value:g}", result["targets"].get(name, ""))
    Console().print(table)


def main() -> None:
    """Run, then print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--rounds", type=int, default=5, help="measured rounds, after one to warm up")
    options = parser.parse_args()
    result = measure(options.rounds)
    if options.json:
        print(json.dumps(result, indent=2))
    else:
        show(result)


if __name__ == "__main__":
    main()
