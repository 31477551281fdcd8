"""Remote engines against fakes of vLLM and TGI, which are real HTTP servers: what is sent, told, retried, refused."""

import asyncio
import contextlib
import json
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from tokenizers import Tokenizer
from tokenizers.models import BPE
from tokenizers.normalizers import Prepend, Replace, Sequence
from tokenizers.trainers import BpeTrainer
from transformers import AutoTokenizer, LlamaTokenizer

from sawyer.chat import ChatFormat
from sawyer.cli.remote import RemoteChoice, make_engine
from sawyer.home import Home
from sawyer.loading import load_tokenizer
from sawyer.recipe import Recipe, load_recipe
from sawyer.registry import Registry
from sawyer.store import FeedbackStore
from sawyer.types import DeltaEvent, DoneEvent, ErrorEvent, Sampling, parse_event
from serve.app import create_app
from serve.engine import Delta, Failed, Finished, Job
from serve.errors import ApiError, ContextExceeded, EngineBusy, NotReady
from serve.limits import Unlimited
from serve.remote.prompts import Prompts
from serve.remote.row import Patience
from tests.conftest import TEXTS
from tests.serve.fake_model import REPLIES, FakeModel
from tests.serve.fake_tgi import make_tgi
from tests.serve.fake_vllm import make_vllm
from tests.serve.live import serving

BOTH = ("vllm", "tgi")
STAGES = ("base", "sft", "rlf")
NAMES = {"base": None, "sft": "sawyer-sft-1", "rlf": "sawyer-rlf-1"}
QUESTION = [{"role": "user", "content": "What is your name?"}]
LONGER = [*QUESTION, {"role": "assistant", "content": "SAWYER."}, {"role": "user", "content": "Tell me ☃ a joke."}]
QUICK = Patience(connect=5, silence=2, reply=30, pauses=(0.01, 0.01, 0.01))


class World:
    """A registry with base@1, sft@1 and rlf@1, a fake server, and the engine between them."""

    def __init__(self, kind: str, home: Home, folders: dict[str, Path]) -> None:
        self.kind, self.home = kind, home.ensure()
        self.recipe = load_recipe("tiny")
        self.registry = Registry.of(self.recipe, home)
        info = {"base": {"fingerprint": "abc"}, "sft": {"backbone": "abc"}, "rlf": {"backbone": "abc"}}
        self.registry.promote(
            *(self.registry.register(stage, folders[stage], info=info[stage]).ref for stage in STAGES)
        )
        self.model = FakeModel(folders["base"])
        self.format = ChatFormat(AutoTokenizer.from_pretrained(folders["base"]), self.recipe.model.chat)

    def app(self, **options):
        if self.kind == "tgi":
            return make_tgi(self.model)
        return make_vllm(self.model, **({"loras": ("sawyer-sft-1", "sawyer-rlf-1")} | options))

    def engine(self, url: str, *, token: str | None = None, patience: Patience = QUICK, wait: bool = True, **options):
        engine = make_engine(RemoteChoice(self.kind, url, None, token), self.recipe, self.home)
        engine._patience, engine._every = patience, 0.05
        for name, value in options.items():
            setattr(engine, f"_{name}", value)
        engine.start()
        if wait:
            until(lambda: engine.status()[0] != "loading")
            assert engine.status()[0] == "ok", engine.status()
        return engine

    @contextlib.contextmanager
    def running(self, token: str | None = None, **options):
        with serving(self.app(**options)) as url:
            engine = self.engine(url, token=token)
            try:
                yield engine
            finally:
                engine.close()


def until(condition, seconds: float = 20.0) -> None:
    for _ in range(int(seconds / 0.01)):
        if condition():
            return
        threading.Event().wait(0.01)
    raise AssertionError("it did not come about")


@pytest.fixture
def world(request, tmp_path, tiny_backbone, tiny_adapters):
    return World(request.param, Home(tmp_path / "home"), {"base": tiny_backbone, **tiny_adapters})


both = pytest.mark.parametrize("world", BOTH, indirect=True)
vllm = pytest.mark.parametrize("world", ["vllm"], indirect=True)
tgi = pytest.mark.parametrize("world", ["tgi"], indirect=True)


def greedy(tokens: int = 60, **more) -> Sampling:
    return Sampling(max_tokens=tokens, **({"temperature": 0, "top_p": 1, "seed": 1} | more))


def jobs_for(messages=QUESTION, sampling=None, stages=STAGES, tops=None):
    return [Job(stage, messages, sampling or greedy(), tops) for stage in stages]


async def drain(reply, rows: int):
    """(text by deltas, last event, log-probabilities) of each row."""
    texts, ends, logprobs = [""] * rows, [None] * rows, [[] for _ in range(rows)]
    async for event in reply:
        assert ends[event.row] is None, "nothing comes after a row's end"
        if isinstance(event, Delta):
            texts[event.row] += event.text
            logprobs[event.row] += event.logprobs
        else:
            ends[event.row] = event
    return list(zip(texts, ends, logprobs, strict=True))


def ask(engine, jobs):
    async def asking():
        return await drain(engine.submit(await engine.prepare(jobs)), len(jobs))

    return asyncio.run(asking())


def completions(world):
    """Bodies of requests for replies, oldest first."""
    return [body for body in world.model.requests if body.get("stream")]


def name_of(body) -> str | None:
    return (
        body["parameters"].get("adapter_id") if "parameters" in body else NAMES.get(body["model"][7:10], body["model"])
    )


# What is asked


@both
def test_each_stage_is_answered_by_its_own_adapter(world):
    with world.running() as engine:
        assert dict(engine.versions) == {"base": "base@1", "sft": "sft@1", "rlf": "rlf@1"}
        assert list(engine.refs) == ["base@1", "sft@1", "rlf@1"]
        assert (engine.context, engine.fingerprint) == (256, "abc")
        rows = ask(engine, jobs_for())
    for stage, (text, end, _) in zip(STAGES, rows, strict=True):
        assert text == REPLIES[NAMES[stage]]
        assert isinstance(end, Finished) and (end.text, end.finish_reason) == (text, "stop") and end.seconds > 0
        assert end.tokens == len(world.model.reply(NAMES[stage])) + 1, "EOS counts"


@both
@pytest.mark.parametrize("messages", [QUESTION, LONGER])
@pytest.mark.parametrize("stage", STAGES)
def test_the_server_reads_the_tokens_that_the_local_engine_would(world, messages, stage):
    with world.running() as engine:
        prepared = asyncio.run(engine.prepare(jobs_for(messages, stages=[stage])))[0]
        ask(engine, jobs_for(messages, stages=[stage]))
    ids = world.format.encode_prompt(messages, stage)
    assert (list(prepared.ids), prepared.prompt) == (ids, world.format.render_prompt(messages, stage))
    sent = completions(world)[-1]
    read = sent["prompt"] if world.kind == "vllm" else world.model.encode(sent["inputs"])
    assert read == ids


@tgi
def test_bos_is_written_where_the_server_adds_none(world):
    world.model.adds_bos = False
    with world.running() as engine:
        rows = ask(engine, jobs_for(LONGER))
    assert all(isinstance(end, Finished) for _, end, _ in rows)
    read = {name_of(body): world.model.encode(body["inputs"]) for body in completions(world)}
    assert read == {NAMES[stage]: world.format.encode_prompt(LONGER, stage) for stage in STAGES}


@both
def test_a_text_is_continued_as_it_is(world):
    world.model.replies["sawyer-sft-1"] = " one hundred degrees. "
    with world.running() as engine:
        job = Job("sft", [], greedy(), prompt="Water boils at")
        prepared = asyncio.run(engine.prepare([job]))[0]
        ((text, end, _),) = ask(engine, [job])
    assert text == end.text == " one hundred degrees. ", "white space belongs to it"
    assert prepared.prompt == "<s>Water boils at"
    sent = completions(world)[-1]
    assert sent["prompt"] == list(prepared.ids) if world.kind == "vllm" else sent["inputs"] == "Water boils at"


@both
def test_a_named_version_is_asked_and_an_unknown_one_is_a_404(world):
    with world.running() as engine:
        rows = ask(engine, [replace(job, version=f"{job.stage}@1") for job in jobs_for()])
        assert [text for text, _, _ in rows] == [REPLIES[NAMES[stage]] for stage in STAGES]
        for stage, version in (("rlf", "rlf@7"), ("sft", "rlf@1"), ("base", "base@3")):
            with pytest.raises(ApiError, match="Available") as caught:
                ask(engine, [replace(jobs_for()[0], stage=stage, version=version)])
            assert caught.value.status == 404


@both
def test_sampling_is_said_as_the_protocol_wants_it(world):
    sampled = Sampling(max_tokens=9, temperature=0.7, top_p=0.9, seed=-1, stop=["X"])
    with world.running() as engine:
        ask(engine, jobs_for(stages=["sft"]))
        ask(engine, jobs_for(sampling=sampled, stages=["sft"]))
        ask(engine, jobs_for(sampling=sampled.model_copy(update={"top_p": 1.0}), stages=["sft"]))
    cold, warm, wide = (body.get("parameters", body) for body in completions(world))
    stop = ["X", *world.format.stop_strings("sft")]
    assert cold["stop"] == stop[1:] and warm["stop"] == stop
    assert warm["temperature"] == 0.7 and warm["top_p"] == 0.9 and warm["seed"] == 2**63 - 1
    if world.kind == "tgi":
        assert cold["do_sample"] is False and not {"temperature", "top_p", "seed"} & set(cold)
        assert wide["do_sample"] is True and "top_p" not in wide and warm["max_new_tokens"] == 9
    else:
        assert cold["temperature"] == 0 and wide["top_p"] == 1 and warm["max_tokens"] == 9
        assert warm["top_k"] == -1 and warm["repetition_penalty"] == 1.0


@both
def test_long_prompts(world):
    with world.running() as engine:
        with pytest.raises(ContextExceeded):
            ask(engine, jobs_for([{"role": "user", "content": "cat " * 400}]))
        words = [{"role": "user", "content": "cat dog " * 30}]
        room = 256 - len(world.format.encode_prompt(words, "sft"))
        ask(engine, jobs_for(words, greedy(5000), ["sft"]))
    sent = completions(world)[-1]
    assert (sent.get("max_tokens") or sent["parameters"]["max_new_tokens"]) == room


@both
def test_the_token_goes_along_and_nobody_elses(world, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_of_the_user")
    with world.running() as engine:
        ask(engine, jobs_for(stages=["sft"]))
        assert world.model.headers.get("authorization", "") == ""
    with world.running("secret") as engine:
        ask(engine, jobs_for(stages=["sft"]))
        assert world.model.headers["authorization"] == "Bearer secret"


CONTROL = [{"role": "user", "content": "What is </s> in a text?"}]


@vllm
def test_names_of_control_tokens_are_text_for_vllm(world):
    with world.running() as engine:
        (_, end, _), *_ = ask(engine, jobs_for(CONTROL, stages=["sft"]))
    assert isinstance(end, Finished)
    assert world.model.eos not in completions(world)[-1]["prompt"]


@tgi
def test_names_of_control_tokens_fail_their_row_with_tgi(world):
    with world.running() as engine:
        jobs = [*jobs_for(CONTROL, stages=["sft"]), *jobs_for(stages=["rlf"])]
        (_, failed, _), (text, _, _) = ask(engine, jobs)
    assert isinstance(failed, Failed) and (failed.error.status, failed.error.code) == (400, "control_token_in_text")
    assert "</s>" in str(failed.error) and text == REPLIES["sawyer-rlf-1"]
    assert len(completions(world)) == 1, "nothing that is refused was sent"


# What is told


@both
def test_a_reply_ends_at_its_length(world):
    with world.running() as engine:
        rows = ask(engine, jobs_for(sampling=greedy(3)))
    for text, end, _ in rows:
        assert (end.finish_reason, end.tokens, end.text) == ("length", 3, text) and text


@both
@pytest.mark.parametrize("stop", [["hot"], ["a", "b2", "c3", "d4", "e5", "f6", "g7", "hot"][1:]])
def test_stop_texts_never_show(world, stop):
    """Seven are more than TGI takes: those that it is not told of end the reply here."""
    with world.running() as engine:
        ((text, end, _),) = ask(engine, jobs_for(sampling=greedy(stop=stop), stages=["sft"]))
        until(lambda: world.model.streams == 0)
    assert text == end.text == "Tea is made with" and end.finish_reason == "stop"


@both
def test_the_stop_texts_of_the_stage_hold(world):
    marker = world.format.stop_strings("sft")[0]
    world.model.replies["sawyer-sft-1"] = f"Fine.\n\n{marker}\nMore"
    with world.running() as engine:
        ((text, end, _),) = ask(engine, jobs_for(stages=["sft"]))
    assert (text, end.text, end.finish_reason) == ("Fine.", "Fine.", "stop")


@both
def test_characters_of_several_tokens_come_whole(world):
    world.model.replies["sawyer-sft-1"] = "A snowman ☃ and 😀 smile"
    with world.running() as engine:
        ((text, end, _),) = ask(engine, jobs_for(stages=["sft"]))
    assert text == end.text == "A snowman ☃ and 😀 smile"


@both
@pytest.mark.parametrize("tops", [0, 2])
def test_logprobs(world, tops):
    with world.running() as engine:
        ((text, _, logprobs),) = ask(engine, jobs_for(stages=["sft"], tops=tops))
    tokens = world.model.reply("sawyer-sft-1")
    ids = [token for token, _ in tokens]
    assert bytes(byte for each in logprobs[: len(ids)] for byte in each.bytes).decode() == text
    assert all(each.logprob < 0 and len(each.top) == tops for each in logprobs)
    assert all(each.top == sorted(each.top, key=lambda top: -top[2]) for each in logprobs)


# What goes wrong

FAULTS = {
    "401": (502, "remote_unauthorized"),
    "404": (502, "remote_model_missing"),
    "422": (400, "remote_refused"),
    "500": (503, "remote_unavailable"),
    "503": (503, "remote_unavailable"),
    "429": (429, "remote_unavailable"),
    "424": (503, "remote_unavailable"),
    "slow": (504, "remote_timeout"),
    "broken": (502, "remote_broke_off"),
    "eof": (502, "remote_broke_off"),
    "garbled": (502, "remote_garbled"),
}


@both
@pytest.mark.parametrize("trouble", [each for each in FAULTS if each != "404"])
def test_a_fault_fails_its_row_and_leaves_the_others_alone(world, trouble):
    with world.running() as engine:
        world.model.trouble["sawyer-sft-1"] = [trouble] * 9
        base, (text, failed, _), rlf = ask(engine, jobs_for())
        until(lambda: world.model.streams == 0)
    assert isinstance(failed, Failed), failed
    assert (failed.error.status, failed.error.code) == FAULTS[trouble]
    assert "/opt" not in str(failed.error) and "127.0.0.1" not in str(failed.error)
    assert [base[0], rlf[0]] == [REPLIES[None], REPLIES["sawyer-rlf-1"]]
    tries = sum(name_of(body) == "sawyer-sft-1" for body in completions(world))
    assert tries == (4 if FAULTS[trouble][1] == "remote_unavailable" else 1)
    assert bool(text) == (trouble in ("slow", "broken", "eof")), "what was shown stays"


@vllm
def test_an_adapter_that_was_unloaded_fails_its_row(world):
    app = world.app(runtime=False)
    with serving(app) as url:
        engine = world.engine(url)
        engine._every = 60  # nobody looks meanwhile
        threading.Event().wait(0.3)
        app.state.loaded.pop("sawyer-sft-1")
        base, (_, failed, _), rlf = ask(engine, jobs_for())
        engine.close()
    assert (failed.error.status, failed.error.code) == FAULTS["404"] and "sawyer-sft-1" in str(failed.error)
    assert [base[0], rlf[0]] == [REPLIES[None], REPLIES["sawyer-rlf-1"]]


@both
@pytest.mark.parametrize("troubles", [["503"], ["429", "503"], ["500", "424", "503"]])
def test_it_is_tried_again_while_nothing_has_come(world, troubles):
    with world.running() as engine:
        world.model.trouble["sawyer-sft-1"] = list(troubles)
        ((text, end, _),) = ask(engine, jobs_for(stages=["sft"]))
    assert isinstance(end, Finished) and text == REPLIES["sawyer-sft-1"]
    assert len(completions(world)) == len(troubles) + 1


@both
def test_a_reply_without_an_end_is_ended(world):
    with world.running() as engine:
        world.model.trouble["sawyer-sft-1"] = ["endless"]
        ((text, end, _),) = ask(engine, jobs_for(sampling=greedy(20), stages=["sft"]))
        until(lambda: world.model.streams == 0)
    assert (end.finish_reason, end.text) == ("length", text) and 20 <= end.tokens <= 21


@both
def test_a_server_that_went_away(world):
    with serving(world.app()) as url:
        engine = world.engine(url)
    until(lambda: engine.status()[0] == "loading")
    assert "cannot be reached" in engine.status()[1]
    rows = ask(engine, jobs_for())
    assert [end.error.code for _, end, _ in rows] == ["remote_unavailable"] * 3
    assert all(end.error.headers["Retry-After"] for _, end, _ in rows)
    engine.close()


@both
def test_cancelling_ends_the_generation_there(world):
    async def cancelled(engine):
        world.model.trouble["sawyer-sft-1"] = ["slow"]
        reply = engine.submit(await engine.prepare(jobs_for(stages=["sft", "rlf"])))
        ends = {}
        async for event in reply:
            if isinstance(event, Delta) and event.row == 0:
                reply.cancel()
            elif not isinstance(event, Delta):
                ends[event.row] = event
        return ends

    with serving(world.app()) as url:
        engine = world.engine(url, patience=replace(QUICK, silence=30))
        ends = asyncio.run(cancelled(engine))
        until(lambda: world.model.streams == 0)
        assert (engine.waiting, engine.running) == (0, 0)
        engine.close()
    assert ends[0].finish_reason == "cancelled" and ends[0].tokens and ends[0].text
    assert isinstance(ends[1], Finished)


@both
def test_a_row_that_is_cancelled_before_it_begins_is_told_too(world):
    async def cancelled(engine):
        reply = engine.submit(await engine.prepare(jobs_for()))
        for task in reply.tasks:
            task.cancel()
        return await drain(reply, 3)

    with world.running() as engine:
        rows = asyncio.run(cancelled(engine))
        assert (engine.waiting, engine.running) == (0, 0)
    assert [end.finish_reason for _, end, _ in rows] == ["cancelled"] * 3 and not completions(world)


@both
def test_closing_fails_what_still_runs(world):
    async def closed(engine):
        world.model.trouble["sawyer-sft-1"] = ["slow"]
        reply = engine.submit(await engine.prepare(jobs_for(stages=["sft"])))
        async for event in reply:
            if isinstance(event, Delta):
                engine.close()
            else:
                end = event
        with pytest.raises(NotReady):
            await engine.prepare(jobs_for())
        return end

    with serving(world.app()) as url:
        end = asyncio.run(closed(world.engine(url, patience=replace(QUICK, silence=30))))
    assert isinstance(end, Failed) and end.error.code == "not_ready"


@both
def test_as_many_rows_at_once_as_are_allowed_and_no_queue_without_end(world):
    most = 0

    async def crowd(engine):
        nonlocal most
        prepared = await engine.prepare(jobs_for() * 3)
        reply = engine.submit(prepared)
        with pytest.raises(EngineBusy):
            engine.submit(prepared * 2)
        async for _ in reply:
            most = max(most, engine.running)

    with serving(world.app()) as url:
        engine = world.engine(url, max_rows=2, max_waiting=10)
        asyncio.run(crowd(engine))
        engine.close()
    assert most == 2


# Readiness and versions


@both
def test_it_waits_for_a_server_and_says_so(world, tmp_path):
    world.model.healthy = False
    with serving(world.app()) as url, FeedbackStore.open(f"sqlite:///{tmp_path / 'votes.db'}") as store:
        engine = world.engine(url, wait=False)
        app = create_app(engine, store, recipe=world.recipe, rate_limit=Unlimited())
        with TestClient(app) as client:
            until(lambda: "failed (503" in (client.get("/readyz").json()["detail"] or ""))
            answer = client.get("/readyz")
            assert (answer.status_code, answer.json()["status"]) == (503, "loading")
            assert client.post("/v1/compare", json={"messages": QUESTION}).status_code == 503
            world.model.healthy = True
            until(lambda: client.get("/readyz").status_code == 200)
            world.model.healthy = False
            until(lambda: client.get("/readyz").status_code == 503)


@both
def test_a_tokenizer_that_is_not_there_is_a_failure(world):
    recipe = Recipe.model_validate({"name": "tiny", "model": {"backbone": "nobody/nothing"}})
    engine = make_engine(RemoteChoice(world.kind, "http://127.0.0.1:9"), recipe, world.home)
    engine.start()
    until(lambda: engine.status()[0] == "failed")
    assert "nobody/nothing" in engine.status()[1]
    with pytest.raises(NotReady):
        ask(engine, jobs_for())
    engine.close()


def promote_another(world, folder, stage="sft"):
    version = world.registry.register(stage, folder, info={"backbone": "abc", "again": True})
    world.registry.promote(version.ref)
    return version


@vllm
def test_a_promoted_version_is_loaded_into_vllm_and_answers(world, tiny_adapters):
    world.model.replies["sawyer-sft-2"] = "The cat sat on the mat"
    app = world.app()
    with serving(app) as url:
        engine = world.engine(url)
        version = promote_another(world, tiny_adapters["sft"])
        until(lambda: engine.versions["sft"] == "sft@2")
        assert app.state.loaded["sawyer-sft-2"] == str(version.path.resolve())
        assert ask(engine, jobs_for(stages=["sft"]))[0][0] == "The cat sat on the mat"
        old = [replace(job, version="sft@1") for job in jobs_for(stages=["sft"])]
        assert ask(engine, old)[0][0] == REPLIES["sawyer-sft-1"]
        world.registry.rollback("sft")
        until(lambda: engine.versions["sft"] == "sft@1")
        assert engine.status() == ("ok", None)
        engine.close()


@both
def test_a_version_that_cannot_be_had_leaves_the_old_one_answering(world, tiny_adapters):
    """vLLM was started without runtime loading; TGI never loads any and answers with the base."""
    with world.running(**({"runtime": False} if world.kind == "vllm" else {})) as engine:
        promote_another(world, tiny_adapters["sft"])
        until(lambda: engine.status()[1] is not None)
        state, detail = engine.status()
        assert state == "ok" and "sft is answered by sft@1 instead of sft@2" in detail
        assert ("VLLM_ALLOW_RUNTIME_LORA_UPDATING" if world.kind == "vllm" else "as the base does") in detail
        assert ask(engine, jobs_for(stages=["sft"]))[0][0] == REPLIES["sawyer-sft-1"]


@both
def test_an_adapter_that_is_not_there_is_no_stage(world):
    del world.model.replies["sawyer-rlf-1"]
    with world.running(**({"loras": ("sawyer-sft-1",)} if world.kind == "vllm" else {})) as engine:
        assert list(engine.versions) == ["base", "sft"] and list(engine.refs) == ["base@1", "sft@1"]
        assert "rlf is answered by nobody instead of rlf@1" in engine.status()[1]
        assert "/adapters" not in engine.status()[1] and str(world.home.root) not in engine.status()[1]


@vllm
def test_a_server_with_another_base_is_not_asked(world):
    with serving(world.app(base="sawyer-base-7")) as url:
        engine = world.engine(url, wait=False)
        until(lambda: "base@7" in engine.status()[1])
        assert engine.status()[0] == "loading" and "base@1" in engine.status()[1]
        engine.close()


# Through the API


@both
def test_a_comparison_with_one_stage_failing_is_whole_in_the_other_panes(world, tmp_path):
    url = f"sqlite:///{tmp_path / 'votes.db'}"
    with world.running() as engine, FeedbackStore.open(url) as store:
        world.model.trouble["sawyer-sft-1"] = ["broken"]
        app = create_app(engine, store, recipe=world.recipe, rate_limit=Unlimited())
        with TestClient(app) as client:
            body = {"messages": QUESTION, "seed": 3, "max_tokens": 60}
            lines = client.post("/v1/compare", json=body).text.splitlines()
            events = [parse_event(line[6:]) for line in lines if line.startswith("data: ")]
            done = {event.stage: event for event in events if isinstance(event, DoneEvent)}
            texts = dict.fromkeys(done, "")
            for event in events:
                if isinstance(event, DeltaEvent) and event.stage in texts:
                    texts[event.stage] += event.delta
            assert texts == {"base": REPLIES[None], "rlf": REPLIES["sawyer-rlf-1"]}
            assert {stage: event.version for stage, event in done.items()} == {"base": "base@1", "rlf": "rlf@1"}
            assert [event.stage for event in events if isinstance(event, ErrorEvent)] == ["sft"]
            stored = store.turn(events[0].turn_id).completions
            assert {each.stage: each.text for each in stored} == texts

            chat = client.post("/v1/chat/completions", json={"model": "sawyer-rlf@1", "messages": QUESTION})
            assert chat.json()["choices"][0]["message"]["content"] == REPLIES["sawyer-rlf-1"]
            world.model.trouble["sawyer-sft-1"] = ["422"]
            refused = client.post("/v1/chat/completions", json={"model": "sawyer-sft", "messages": QUESTION})
            assert (refused.status_code, refused.json()["error"]["code"]) == (400, "remote_refused")


# Prompts


def sentencepiece_tokenizer() -> LlamaTokenizer:
    """Such as Llama 2 has: spaces as ▁, one before the first word, bytes for what the vocabulary has not."""
    special = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    raw = Tokenizer(BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    raw.normalizer = Sequence([Prepend("▁"), Replace(" ", "▁")])
    raw.train_from_iterator(TEXTS, BpeTrainer(vocab_size=500, special_tokens=special, show_progress=False))
    model = json.loads(raw.to_str())["model"]
    return LlamaTokenizer(vocab=model["vocab"], merges=[tuple(merge) for merge in model["merges"]])


@pytest.mark.parametrize("messages", [QUESTION, LONGER])
@pytest.mark.parametrize("stage", STAGES)
def test_a_sentencepiece_prompt_can_be_worded(messages, stage):
    tokenizer = sentencepiece_tokenizer()
    prompts = Prompts(tokenizer, ChatFormat(tokenizer))
    ids = prompts.encode(Job(stage, messages, greedy()))
    text = prompts.wording(ids, ([tokenizer.bos_token_id], []))
    assert [tokenizer.bos_token_id, *tokenizer(text, add_special_tokens=False)["input_ids"]] == ids
    assert not text.startswith((" ", "<s>")), "a server may add a space and BOS of its own"
    hostile = prompts.encode(Job(stage, CONTROL, greedy()))
    with pytest.raises(ApiError, match="control token"):
        prompts.wording(hostile, ([tokenizer.bos_token_id], []))


# Prompts without torch


def test_the_tokenizer_of_a_trained_base_needs_no_torch():
    code = (
        "import sys\nfrom sawyer.home import Home\nfrom sawyer.recipe import load_recipe\n"
        "from sawyer.registry import Registry\nfrom serve.remote.prompts import Prompts\nimport serve.remote.engine\n"
        "recipe = load_recipe('nano')\nPrompts.of(recipe, Registry.of(recipe, Home.find()).current('base').path)\n"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2]).returncode == 0


def test_it_is_the_tokenizer_that_auto_tokenizer_finds(tiny_backbone, spec):
    ours, theirs = (
        load_tokenizer(tiny_backbone, spec),
        AutoTokenizer.from_pretrained(tiny_backbone, padding_side="left"),
    )
    assert type(ours) is type(theirs) and ours.chat_template == theirs.chat_template
    assert json.loads(ours.backend_tokenizer.to_str()) == json.loads(theirs.backend_tokenizer.to_str())
    assert (ours.special_tokens_map, ours.padding_side) == (theirs.special_tokens_map, theirs.padding_side)
