"""An engine and a scorer made by hand: they answer what the test says and record what they were asked."""

import asyncio
from collections.abc import Sequence

from serve.engine import Delta, Failed, Finished, Job, Prepared, TokenLogprob
from serve.errors import ApiError, ContextExceeded, EngineBusy, NotReady, unknown_stage


class FakeReply:
    """Plays a script of events. With ``hold`` set, it waits after the first delta of each row until cancelled."""

    def __init__(self, events, hold: bool = False) -> None:
        self.queue: asyncio.Queue = asyncio.Queue()
        self.open = {event.row for event in events}
        self.cancelled = False
        for event in events:
            if not (hold and isinstance(event, Finished)):
                self.queue.put_nowait(event)

    def __aiter__(self):
        return self

    async def __anext__(self):
        if not self.open and self.queue.empty():
            raise StopAsyncIteration
        event = await self.queue.get()
        if isinstance(event, Finished | Failed):
            self.open.discard(event.row)
        return event

    def cancel(self) -> None:
        if not self.cancelled:
            self.cancelled = True
            for row in sorted(self.open):
                self.queue.put_nowait(Finished(row, f"part {row}", 2, "cancelled", 0.1))


class FakeEngine:
    """Answers each job with ``words``, one delta a word; what to do wrong is set by attributes."""

    reply = FakeReply

    def __init__(self, words: Sequence[str] = ("Hello", " there", ".")) -> None:
        self.words = words
        self.versions = {"base": "base@0", "sft": "sft@2", "rlf": "rlf@3"}
        self.refs = ["base@0", "sft@1", "sft@2", "rlf@2", "rlf@3"]
        self.context = 64
        self.fingerprint = "f" * 8
        self.waiting = self.running = 0
        self.encoder_decoder = False
        self.state = ("ok", None)
        self.busy = self.hold = False
        self.failing: dict[str, ApiError] = {}
        self.jobs: list[Job] = []
        self.replies: list[FakeReply] = []
        self.started = self.closed = 0

    def start(self) -> None:
        self.started += 1

    def close(self) -> None:
        self.closed += 1

    def status(self):
        return self.state

    async def prepare(self, jobs):
        if self.state[0] != "ok":
            raise NotReady("loading")
        prepared = []
        for job in jobs:
            if job.stage not in self.versions:
                raise unknown_stage(job.stage, list(self.versions))
            raw = job.prompt is not None
            prompt = job.prompt if raw else "\n".join(message["content"] for message in job.messages)
            ids = prompt.split()
            if len(ids) >= self.context:
                raise ContextExceeded(len(ids), self.context, job.stage, param="prompt" if raw else "messages")
            version = job.version or self.versions[job.stage]
            prepared.append(Prepared(job, f"<{job.stage}>{prompt}", ids, job.sampling, version))
        self.jobs += jobs
        return prepared

    def submit(self, prepared):
        if self.busy:
            raise EngineBusy(9, 3.0)
        events = []
        for position, word in enumerate(self.words):
            for row, each in enumerate(prepared):
                if each.job.stage in self.failing:
                    continue
                logprobs = ()
                if each.job.top_logprobs is not None:
                    top = [(word, list(word.encode()), -0.5)] * each.job.top_logprobs
                    logprobs = (TokenLogprob(word, list(word.encode()), -0.5, top),)
                events.append(Delta(row, word + (f" ({each.job.stage})" if not position else ""), logprobs))
        for row, each in enumerate(prepared):
            if each.job.stage in self.failing:
                events.append(Failed(row, self.failing[each.job.stage]))
                continue
            text = "".join(event.text for event in events if isinstance(event, Delta) and event.row == row)
            events.append(Finished(row, text, len(self.words), "stop", 0.25))
        self.replies.append(self.reply(events, self.hold))
        return self.replies[-1]


class LengthScorer:
    """Rewards a reply with its length."""

    def __init__(self) -> None:
        self.calls: list[tuple] = []

    def score(self, prompts, responses):
        self.calls.append((prompts, responses))
        return [float(len(response)) for response in responses]
