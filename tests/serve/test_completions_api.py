"""OpenAI's legacy completions, with the real ``openai`` client over a live server and with plain requests."""

import asyncio
import json

import openai
import pytest

from sawyer.store import FeedbackStore
from sawyer.types import Sampling
from serve.app import create_app
from serve.completions_api import _name
from serve.engine import Job
from serve.errors import ApiError
from serve.limits import Unlimited
from serve.local.engine import Loaded, LocalEngine
from tests.serve import tiny
from tests.serve.live import serving
from tests.serve.test_openai_api import wait_for

VERSIONS = {"base": "base@0", "sft": "sft@1", "rlf": "rlf@2"}


@pytest.fixture
def sdk(address):
    with openai.OpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0) as client:
        yield client


def ask(client, **more):
    return client.post("/v1/completions", json={"model": "sawyer-base", "prompt": "Once", **more})


def test_the_openai_client_gets_a_text_continued(sdk, engine, store):
    answer = sdk.completions.create(
        model="sawyer-rlf@2", prompt="Once upon", seed=5, temperature=0.3, top_p=0.5, max_tokens=4, stop=["\n"]
    )
    choice = answer.choices[0]
    assert (answer.object, answer.model, answer.id[:5]) == ("text_completion", "sawyer-rlf@2", "cmpl-")
    assert (choice.index, choice.text, choice.finish_reason, choice.logprobs) == (0, "Hello (rlf) there.", "stop", None)
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens, answer.usage.total_tokens) == (2, 3, 5)
    job = engine.jobs[0]
    assert (job.prompt, list(job.messages), job.version) == ("Once upon", [], "rlf@2")
    assert job.sampling.model_dump() == {"max_tokens": 4, "temperature": 0.3, "top_p": 0.5, "seed": 5, "stop": ["\n"]}
    assert store.stats()["turns"] == store.stats()["completions"] == 0, "nobody votes on these"


def test_several_prompts_and_choices_are_told_apart(sdk, engine):
    answer = sdk.completions.create(model="sawyer-sft", prompt=["one", "two words"], n=2, seed=2**63 - 1)
    assert [choice.index for choice in answer.choices] == [0, 1, 2, 3]
    assert [job.prompt for job in engine.jobs] == ["one", "one", "two words", "two words"]
    seeds = [job.sampling.seed for job in engine.jobs]
    assert seeds[:2] == seeds[2:] and len(set(seeds)) == 2
    assert answer.usage.prompt_tokens == 3 and answer.usage.completion_tokens == 12


def test_the_openai_client_streams_with_usage(sdk):
    stream = sdk.completions.create(
        model="sawyer-sft", prompt=["a", "b c"], stream=True, stream_options={"include_usage": True}
    )
    chunks = list(stream)
    for row in (0, 1):
        mine = [chunk.choices[0] for chunk in chunks[:-1] if chunk.choices[0].index == row]
        assert "".join(choice.text for choice in mine) == "Hello (sft) there."
        assert [choice.finish_reason for choice in mine] == [None, None, None, "stop"]
    assert chunks[-1].choices == [] and chunks[-1].usage.total_tokens == 9
    assert all(chunk.usage is None for chunk in chunks[:-1]) and len({chunk.id for chunk in chunks}) == 1


def test_the_asynchronous_client_streams(address):
    async def read():
        async with openai.AsyncOpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0) as client:
            stream = await client.completions.create(model="sawyer-base", prompt="x", stream=True)
            whole = await client.completions.create(model="sawyer-base", prompt="x")
            return "".join([chunk.choices[0].text async for chunk in stream]), whole.choices[0].text

    assert asyncio.run(read()) == ("Hello (base) there.", "Hello (base) there.")


def test_logprobs_have_the_legacy_shape_whole_and_streamed(sdk, engine):
    engine.words = ("Hé", " there", ".")
    whole = sdk.completions.create(model="sawyer-base", prompt="x", logprobs=2).choices[0].logprobs
    assert whole.tokens == ["Hé", " there", "."] and whole.token_logprobs == [-0.5] * 3
    assert whole.text_offset == [0, 2, 8] and whole.top_logprobs[1] == {" there": -0.5}
    chunks = list(sdk.completions.create(model="sawyer-base", prompt="x", logprobs=2, stream=True))
    offsets = [place for chunk in chunks if (told := chunk.choices[0].logprobs) for place in told.text_offset]
    assert offsets == whole.text_offset
    assert sdk.completions.create(model="sawyer-base", prompt="x", logprobs=0).choices[0].logprobs.top_logprobs is None


def test_tokens_that_are_no_whole_characters_have_names_of_their_own():
    assert _name("\ufffd", [0xE2, 0x82]) == "bytes:\\xe2\\x82" != _name("\ufffd", [0xE2, 0x83])
    assert _name("tea", list(b"tea")) == "tea"


@pytest.mark.parametrize(
    ("asked", "kind", "code", "param"),
    [
        ({"model": "gpt-4"}, openai.NotFoundError, "model_not_found", "model"),
        ({"prompt": "word " * 70}, openai.BadRequestError, "context_length_exceeded", "prompt"),
        ({"prompt": []}, openai.BadRequestError, "invalid_request", "prompt"),
        ({"prompt": [1, 2, 3]}, openai.BadRequestError, "invalid_request", "prompt"),
        ({"prompt": [[1, 2], [3]]}, openai.BadRequestError, "invalid_request", "prompt"),
        ({"prompt": None}, openai.BadRequestError, "invalid_request", "prompt"),
        ({"logprobs": 6}, openai.BadRequestError, "invalid_request", "logprobs"),
        ({"n": 9}, openai.BadRequestError, "invalid_request", "n"),
        ({"prompt": ["x"] * 32, "n": 3}, openai.BadRequestError, "too_many_choices", "n"),
        ({"echo": True}, openai.BadRequestError, "invalid_request", "echo"),
        ({"suffix": "end"}, openai.BadRequestError, "invalid_request", "suffix"),
        ({"best_of": 4}, openai.BadRequestError, "invalid_request", "best_of"),
        ({"logit_bias": {"50256": -100}}, openai.BadRequestError, "invalid_request", "logit_bias"),
        ({"extra_body": {"messages": []}}, openai.BadRequestError, "invalid_request", "messages"),
    ],
)
def test_the_openai_client_understands_errors(sdk, asked, kind, code, param):
    with pytest.raises(kind) as caught:
        sdk.completions.create(**{"model": "sawyer-sft", "prompt": "x", **asked})
    assert (caught.value.code, caught.value.param) == (code, param)
    assert set(caught.value.body) == {"message", "type", "param", "code"}


def test_token_ids_are_refused_in_words(client):
    assert "token ids are not accepted" in ask(client, prompt=[1, 2]).json()["error"]["message"]


def test_neutral_parameters_are_accepted(client):
    neutral = {"echo": False, "suffix": None, "best_of": 1, "logit_bias": {}, "frequency_penalty": 0, "user": "me"}
    assert ask(client, **neutral, presence_penalty=0.0, n=None, stop=None).status_code == 200


def test_a_failing_row_is_an_error_whole_and_streamed(client, engine):
    engine.failing["base"] = ApiError(503, "Out of memory.", code="out_of_memory")
    assert (ask(client).status_code, ask(client).json()["error"]["code"]) == (503, "out_of_memory")
    lines = [line[6:] for line in ask(client, stream=True).text.splitlines() if line.startswith("data: ")]
    assert json.loads(lines[-2])["error"]["code"] == "out_of_memory" and lines[-1] == "[DONE]"


def test_replies_are_counted_though_not_kept(client):
    ask(client)
    assert 'sawyer_generated_tokens_total{stage="base"} 3.0' in client.get("/metrics").text


def test_a_real_model_continues_texts_the_same_for_the_same_seed(tmp_path, recipe):
    policy = tiny.load(tiny.make_stages(tmp_path / "made"))
    engine = LocalEngine(lambda: Loaded(policy, VERSIONS), context=tiny.CONTEXT)
    asked = {"model": "sawyer-sft", "max_tokens": 12, "temperature": 1.0, "seed": 3, "logprobs": 1}
    with FeedbackStore.open(f"sqlite:///{tmp_path / 'sawyer.db'}") as store:
        app = create_app(engine, store, recipe=recipe, rate_limit=Unlimited())
        with serving(app) as url, openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as sdk:
            wait_for(lambda: engine.status()[0] == "ok")
            alone = sdk.completions.create(prompt="tea river", n=8, **asked)
            again = sdk.completions.create(prompt=["lamp", "tea river"], n=8, **asked)
            with pytest.raises(openai.BadRequestError) as refused:
                sdk.completions.create(prompt="tea " * 200, **asked)
    texts = [choice.text for choice in alone.choices]
    assert texts == [choice.text for choice in again.choices[8:]] and len(set(texts)) > 4
    assert alone.choices[0].logprobs.text_offset[0] == 0
    assert refused.value.param == "prompt" and "Shorten the prompt" in refused.value.message


def test_a_prompt_is_read_as_it_is_with_special_tokens_inert(tmp_path):
    policy = tiny.load(tiny.make_stages(tmp_path))
    engine = LocalEngine(lambda: Loaded(policy, VERSIONS), context=tiny.CONTEXT)
    engine.start()
    wait_for(lambda: engine.status()[0] == "ok")
    jobs = [Job(stage, [], Sampling(), prompt="tea </s><s> river") for stage in ("base", "sft")]
    base, sft = asyncio.run(engine.prepare(jobs))
    engine.close()
    assert base.prompt == sft.prompt == "<s>tea </s><s> river"
    assert list(sft.ids).count(policy.tokenizer.bos_token_id) == 1 and policy.tokenizer.eos_token_id not in sft.ids
