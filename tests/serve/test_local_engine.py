"""The local engine on a tiny random model: rows of a mixed batch say what each stage says alone."""

import asyncio
import contextlib
import threading
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
import torch

from sawyer.generation import generate
from sawyer.models import Policy
from sawyer.recipe import LoraSpec, ModelSpec
from sawyer.store import FeedbackStore
from sawyer.types import Sampling
from serve.app import create_app
from serve.engine import Delta, Failed, Finished, Job, Queued
from serve.errors import ApiError, ContextExceeded, EngineBusy, NotReady
from serve.limits import Unlimited
from serve.local.engine import Loaded, LocalEngine
from tests.serve import tiny
from tests.serve.live import serving
from tests.serve.test_openai_api import wait_for

STAGES = ("base", "sft", "rlf")
VERSIONS = {"base": "base@0", "sft": "sft@1", "rlf": "rlf@2"}
QUESTION = [{"role": "user", "content": "tea river quiet"}]
LONGER = [
    {"role": "user", "content": "lamp seven"},
    {"role": "assistant", "content": "garden"},
    {"role": "user", "content": "north paper wind bread"},
]


@pytest.fixture(scope="module")
def stages(tmp_path_factory):
    return tiny.make_stages(tmp_path_factory.mktemp("stages"))


@pytest.fixture(scope="module")
def policy(stages):
    return tiny.load(stages)


@pytest.fixture
def engine(stages):
    made = started(LocalEngine(lambda: Loaded(tiny.load(stages), VERSIONS), context=tiny.CONTEXT))
    yield made
    made.close()


def started(engine: LocalEngine) -> LocalEngine:
    engine.start()
    for _ in range(500):
        if engine.status()[0] != "loading":
            return engine
        threading.Event().wait(0.01)
    raise AssertionError("the engine did not load")


def greedy(tokens: int = 24, **more) -> Sampling:
    return Sampling(max_tokens=tokens, temperature=0, top_p=1, seed=1, **more)


def jobs_for(messages, sampling, stages=STAGES, tops=None) -> list[Job]:
    return [Job(stage, messages, sampling, tops) for stage in stages]


async def collect(engine, jobs):
    """(text by deltas, last event) of each row."""
    return await drain(engine.submit(await engine.prepare(jobs)), len(jobs))


async def drain(reply, rows):
    texts, ends = [""] * rows, [None] * rows
    async for event in reply:
        if isinstance(event, Delta):
            assert ends[event.row] is None
            texts[event.row] += event.text
        elif not isinstance(event, Queued):
            ends[event.row] = event
    return list(zip(texts, ends, strict=True))


def alone(policy, messages, stage, tokens, **options):
    ids = policy.chat.encode_prompt(messages, stage)
    stop = policy.chat.stop_strings(stage)
    return generate(
        policy, [ids], stage=stage, max_tokens=min(tokens, policy.context - len(ids)), stop=stop, **options
    )[0]


@pytest.mark.parametrize("messages", [QUESTION, LONGER])
def test_each_row_of_a_mixed_batch_equals_its_stage_alone(engine, policy, messages):
    rows = asyncio.run(collect(engine, jobs_for(messages, greedy())))
    expected = [alone(policy, messages, stage, 24, temperature=0.0) for stage in STAGES]
    assert [text for text, _ in rows] == [each.text for each in expected]
    assert [end.tokens for _, end in rows] == [len(each.ids) for each in expected]
    assert len({text for text, _ in rows}) == 3, "the stages must differ for this test to mean anything"


def test_deltas_joined_are_the_text_and_finish_reasons_are_right(engine, policy):
    for text, end in asyncio.run(collect(engine, jobs_for(QUESTION, greedy(9)))):
        assert isinstance(end, Finished) and end.text == text
        assert end.finish_reason == ("length" if end.tokens == 9 else "stop")
        assert end.seconds > 0


def test_requests_of_several_chats_share_a_batch_without_touching_each_other(engine):
    async def many():
        requests = [jobs_for(QUESTION, greedy()), jobs_for(LONGER, greedy(5)), jobs_for(QUESTION, greedy(), ("rlf",))]
        return await asyncio.gather(*(collect(engine, jobs) for jobs in requests))

    first, second, third = asyncio.run(many())
    assert [text for text, _ in first] == [
        text for text, _ in asyncio.run(collect(engine, jobs_for(QUESTION, greedy())))
    ]
    assert third[0][0] == first[2][0]
    assert all(end.tokens <= 5 for _, end in second)


def test_the_same_seed_gives_the_same_text_whatever_else_is_in_the_batch(engine):
    sampled = Sampling(max_tokens=16, temperature=1.0, top_p=0.9, seed=7)
    other = sampled.model_copy(update={"seed": 8})
    by_itself = asyncio.run(collect(engine, jobs_for(QUESTION, sampled, ("sft",))))
    crowd = jobs_for(QUESTION, sampled, ("sft",)) + jobs_for(LONGER, other)
    in_company = asyncio.run(collect(engine, crowd))
    assert by_itself[0][0] == in_company[0][0]
    assert asyncio.run(collect(engine, jobs_for(QUESTION, other, ("sft",))))[0][0] != by_itself[0][0]


def test_a_stop_text_ends_the_row_and_is_not_shown(engine):
    whole = asyncio.run(collect(engine, jobs_for(QUESTION, greedy(), ("sft",))))[0][0]
    stop = whole[5:8]
    text, end = asyncio.run(collect(engine, jobs_for(QUESTION, greedy(stop=[stop]), ("sft",))))[0]
    assert text == whole[: whole.index(stop)].strip() == end.text
    assert end.finish_reason == "stop"


def test_logprobs_cover_the_tokens_and_their_alternatives(engine):
    async def ask():
        prepared = await engine.prepare(jobs_for(QUESTION, greedy(6), ("rlf",), tops=3))
        return [event async for event in engine.submit(prepared)]

    events = asyncio.run(ask())
    logprobs = [item for event in events if isinstance(event, Delta) for item in event.logprobs]
    assert 0 < len(logprobs) <= 6
    for item in logprobs:
        assert item.logprob <= 0 and len(item.top) == 3
        assert item.top[0][2] == pytest.approx(item.logprob), "greedy takes the likeliest"
        assert bytes(item.bytes).decode("utf-8", "replace") == item.token


def test_a_cancelled_request_ends_and_leaves_the_others_alone(engine):
    long = Sampling(max_tokens=80, temperature=1.0, top_p=1, seed=3)

    async def ask():
        prepared = await engine.prepare(jobs_for(QUESTION, long))
        stays = engine.submit(prepared[2:])
        leaves = engine.submit(prepared[:2])
        kept = asyncio.create_task(drain(stays, 1))
        seen = []
        async for event in leaves:
            if not seen:
                leaves.cancel()
            seen.append(event)
        return seen, await kept

    seen, kept = asyncio.run(ask())
    ends = [event for event in seen if isinstance(event, Finished)]
    assert sorted(event.row for event in ends) == [0, 1]
    assert {event.finish_reason for event in ends} <= {"cancelled", "stop", "length"}
    assert kept[0][1].finish_reason in ("stop", "length")
    assert engine.waiting == 0


def test_a_request_cancelled_while_it_waits_never_starts(stages):
    gate = threading.Event()

    def load():
        gate.wait(10)
        return Loaded(tiny.load(stages), VERSIONS)

    engine = LocalEngine(load, context=96)
    engine.start()
    with pytest.raises(NotReady):
        asyncio.run(engine.prepare(jobs_for(QUESTION, greedy())))
    gate.set()
    started(engine)

    async def ask():
        prepared = await engine.prepare(jobs_for(QUESTION, greedy(60), ("base",)))
        running = engine.submit(prepared)
        waiting = [engine.submit(prepared) for _ in range(3)]
        for reply in waiting:
            reply.cancel()
        ends = [(await drain(reply, 1))[0][1] for reply in waiting]
        return ends, (await drain(running, 1))[0][1]

    ends, first = asyncio.run(ask())
    assert first.finish_reason in ("stop", "length")
    assert all(isinstance(end, Finished) for end in ends)
    engine.close()


def test_a_full_queue_refuses_with_a_time_to_come_back(stages):
    engine = started(LocalEngine(lambda: Loaded(tiny.load(stages), VERSIONS), context=96, max_rows=3, max_waiting=6))

    async def ask():
        prepared = await engine.prepare(jobs_for(QUESTION, greedy(60)))
        replies, refused = [], None
        for _ in range(8):
            try:
                replies.append(engine.submit(prepared))
            except EngineBusy as error:
                refused = error
        return refused, [await drain(reply, 3) for reply in replies]

    refused, done = asyncio.run(ask())
    assert refused is not None and refused.status == 429 and int(refused.headers["Retry-After"]) >= 1
    assert len(done) >= 2
    assert all(isinstance(end, Finished) for rows in done for _, end in rows)
    engine.close()


def test_who_waits_is_told_how_many_come_first(stages):
    engine = started(LocalEngine(lambda: Loaded(tiny.load(stages), VERSIONS), context=96, max_rows=1))

    async def ask():
        prepared = await engine.prepare(jobs_for(QUESTION, greedy(30)))
        replies = [engine.submit(prepared) for _ in range(4)]
        return [[event.ahead async for event in reply if isinstance(event, Queued)] for reply in replies]

    told = asyncio.run(ask())
    engine.close()
    assert told[0] == [] or told[0][-1] == 0
    assert told[3][0] >= 1 and told[3] == sorted(set(told[3]), reverse=True)


def test_an_unforeseen_end_of_the_engine_is_told_and_nobody_hangs(engine, monkeypatch):
    def broken(_rows, _seconds):
        raise RuntimeError("no such meter")

    monkeypatch.setattr(engine, "on_step", broken)
    rows = asyncio.run(collect(engine, jobs_for(QUESTION, greedy())))
    assert all(isinstance(end, Failed) and end.error.status == 503 for _, end in rows)
    state, why = engine.status()
    assert state == "failed" and "RuntimeError" in why
    with pytest.raises(NotReady):
        asyncio.run(engine.prepare(jobs_for(QUESTION, greedy())))


def test_a_prompt_that_is_too_long_is_refused_and_a_long_reply_is_fitted(engine):
    with pytest.raises(ContextExceeded) as refused:
        asyncio.run(engine.prepare(jobs_for([{"role": "user", "content": "tea " * 200}], greedy())))
    assert refused.value.code == "context_length_exceeded" and refused.value.status == 400
    fitted = asyncio.run(engine.prepare(jobs_for(QUESTION, greedy(5000), ("base",))))[0]
    assert len(fitted.ids) + fitted.sampling.max_tokens == tiny.CONTEXT


def test_prompts_are_recorded_exactly_and_user_text_is_never_a_control_token(engine, policy):
    said = [{"role": "user", "content": "tea </s><s> river"}]
    base, sft = asyncio.run(engine.prepare(jobs_for(said, greedy(), ("base", "sft"))))
    assert base.prompt == "<s>tea </s><s> river"
    assert sft.prompt == "<s>### User:\ntea </s><s> river\n\n### Assistant:\n"
    for prepared in (base, sft):
        assert list(prepared.ids).count(policy.tokenizer.eos_token_id) == 0
        assert list(prepared.ids).count(policy.tokenizer.bos_token_id) == 1


def test_an_unknown_stage_is_not_found(stages):
    engine = started(LocalEngine(lambda: Loaded(tiny.load(stages), {"base": None}), context=96))
    with pytest.raises(ApiError) as refused:
        asyncio.run(engine.prepare(jobs_for(QUESTION, greedy(), ("rlf",))))
    assert refused.value.status == 404
    engine.close()


def test_a_model_that_cannot_be_loaded_is_told(tmp_path):
    stages = {"base": tmp_path / "absent"}
    engine = started(LocalEngine(lambda: Loaded(tiny.load(stages), {}), context=96))
    state, why = engine.status()
    assert state == "failed" and "no folder [path]" in why and "log says more" in why
    with pytest.raises(NotReady) as refused:
        asyncio.run(engine.prepare(jobs_for(QUESTION, greedy())))
    assert refused.value.status == 503
    engine.close()


def test_a_fault_while_decoding_fails_its_rows_and_the_engine_goes_on(engine, monkeypatch):
    def broken(*_args, **_kwargs):
        raise RuntimeError("no such kernel")

    with monkeypatch.context() as patch:
        patch.setattr("sawyer.ragged.lean.LeanForward.__call__", broken)
        rows = asyncio.run(collect(engine, jobs_for(QUESTION, greedy())))
    assert all(isinstance(end, Failed) and end.error.status == 500 for _, end in rows)
    assert "kernel" not in str(rows[0][1].error)
    assert isinstance(asyncio.run(collect(engine, jobs_for(QUESTION, greedy())))[0][1], Finished)


def test_closing_fails_what_runs_and_refuses_what_comes(stages):
    engine = started(LocalEngine(lambda: Loaded(tiny.load(stages), VERSIONS), context=96))

    async def ask():
        prepared = await engine.prepare(jobs_for(QUESTION, greedy(80)))
        replies = [engine.submit(prepared) for _ in range(4)]
        await asyncio.to_thread(engine.close)
        ends = [end for reply in replies for _, end in await drain(reply, 3)]
        with pytest.raises(NotReady):
            engine.submit(prepared)
        return ends

    ends = asyncio.run(ask())
    assert len(ends) == 12
    assert {type(end) for end in ends} <= {Finished, Failed}


def test_clients_that_leave_free_their_rows_and_the_others_are_served(stages, tmp_path, recipe):
    engine = LocalEngine(lambda: Loaded(tiny.load(stages), VERSIONS), context=96, max_waiting=200)
    body = {"messages": QUESTION, "max_tokens": 80, "temperature": 1.5}

    def leave(url):
        with contextlib.suppress(httpx.HTTPError), httpx.stream("POST", f"{url}/v1/compare", json=body) as answer:
            next(answer.iter_raw())

    def stay(url):
        return httpx.post(f"{url}/v1/compare", json=body, timeout=60).text

    with FeedbackStore.open(f"sqlite:///{tmp_path / 'sawyer.db'}") as store:
        app = create_app(engine, store, recipe=recipe, rate_limit=Unlimited())
        with serving(app) as url, ThreadPoolExecutor(24) as pool:
            wait_for(lambda: engine.status()[0] == "ok")
            left = [pool.submit(leave, url) for _ in range(20)]
            stayed = [pool.submit(stay, url) for _ in range(4)]
            for done in left:
                done.result()
            texts = [done.result() for done in stayed]
            wait_for(lambda: engine.waiting == engine.running == 0)
    assert all(text.count('"done":true') == 3 and '"event":"end"' in text for text in texts)


def test_an_encoder_decoder_is_served_one_batch_after_the_other(tiny_t5):
    spec = ModelSpec(backbone="t5", context=64)

    def load():
        policy = Policy.load(tiny_t5, spec=spec, device="cpu")
        for seed, stage in enumerate(("sft", "rlf")):
            policy.add_adapter(stage, LoraSpec(r=4, alpha=8))
            torch.manual_seed(seed)
            for parameter in policy.parameters_of(stage):
                torch.nn.init.normal_(parameter, std=0.3)
        policy.model.eval()
        return policy

    engine, policy = started(LocalEngine(lambda: Loaded(load(), VERSIONS), context=64)), load()

    async def many():
        asked = [collect(engine, jobs_for(QUESTION, greedy(8))) for _ in range(3)]
        leaving = engine.submit(await engine.prepare(jobs_for(QUESTION, greedy(30))))
        leaving.cancel()
        rows = await asyncio.gather(*asked)
        return rows, await drain(leaving, 3)

    rows, left = asyncio.run(many())
    ids = policy.chat.encode_prompt(QUESTION, "sft")
    expected = [generate(policy, [ids], stage=stage, max_tokens=8, temperature=0.0)[0].text for stage in STAGES]
    assert [[text for text, _ in each] for each in rows] == [expected] * 3
    assert all(isinstance(end, Finished) for _, end in left)
    assert engine.waiting == engine.running == 0
    engine.close()


def test_a_request_of_many_rows_does_not_keep_others_waiting(stages):
    """Whoever has begun fewest rows is next: a single row that comes last is among the first to begin."""
    engine = started(LocalEngine(lambda: Loaded(tiny.load(stages), VERSIONS), context=96, max_rows=2))
    ended = []

    async def ask():
        prepared = await engine.prepare(jobs_for(QUESTION, greedy(40), ("base",)) * 8)
        crowd, single = engine.submit(prepared), engine.submit(prepared[:1])

        async def follow(name, reply):
            async for event in reply:
                if isinstance(event, Finished):
                    ended.append(name)

        await asyncio.gather(follow("crowd", crowd), follow("single", single))

    asyncio.run(ask())
    assert len(ended) == 9 and ended.index("single") <= 3
    engine.close()


def test_a_text_can_be_continued_as_it_is(engine, policy):
    """No roles, no stop texts of the stage's; what looks like a control token is text."""
    job = Job("rlf", (), greedy(12), prompt="tea </s> river")
    prepared = asyncio.run(engine.prepare([job]))
    assert prepared[0].prompt == "<s>tea </s> river"
    text = asyncio.run(collect(engine, [job]))[0][0]
    assert text == generate(policy, [list(prepared[0].ids)], stage="rlf", max_tokens=12, temperature=0.0)[0].text
