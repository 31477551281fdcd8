"""OpenAI's chat interface, with the real ``openai`` client over a live server and with plain requests."""

import contextlib
import json
import sqlite3
import threading
import time

import httpx
import openai
import pytest

from serve.errors import ApiError

HI = [{"role": "user", "content": "hi"}]


@pytest.fixture
def sdk(address):
    with openai.OpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0) as client:
        yield client


def ask(client, **more):
    return client.post("/v1/chat/completions", json={"model": "sawyer-sft", "messages": HI, **more})


def test_the_openai_client_gets_a_whole_answer(sdk, engine, store):
    answer = sdk.chat.completions.create(
        model="sawyer-rlf", messages=HI, seed=5, temperature=0.3, top_p=0.5, max_tokens=4, stop="\n"
    )
    choice = answer.choices[0]
    assert (answer.object, answer.model, choice.index) == ("chat.completion", "sawyer-rlf", 0)
    assert (choice.message.role, choice.message.content) == ("assistant", "Hello (rlf) there.")
    assert choice.finish_reason == "stop" and choice.logprobs is None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens, answer.usage.total_tokens) == (1, 3, 4)
    sampling = engine.jobs[0].sampling
    assert sampling.model_dump() == {"max_tokens": 4, "temperature": 0.3, "top_p": 0.5, "seed": 5, "stop": ["\n"]}
    stored = store.turn(answer.metadata["turn_id"]).completions[0]
    assert (stored.stage, stored.adapter_version, stored.prompt_text) == ("rlf", "rlf@3", "<rlf>hi")
    assert (stored.seed, stored.tokens, stored.finish_reason) == (5, 3, "stop")
    assert stored.reward == len(stored.text) == answer.metadata["rewards"][0]
    assert stored.sampling == sampling.model_dump()


def test_the_openai_client_streams_with_usage(sdk):
    options = {"include_usage": True}
    with sdk.chat.completions.create(model="sawyer-sft", messages=HI, stream=True, stream_options=options) as stream:
        chunks = list(stream)
    assert chunks[0].choices[0].delta.role == "assistant"
    assert "".join(c.choices[0].delta.content or "" for c in chunks[:-1]) == "Hello (sft) there."
    assert [c.choices[0].finish_reason for c in chunks[:-1]].count("stop") == 1
    assert chunks[-1].choices == [] and chunks[-1].usage.total_tokens == 4
    assert len({chunk.id for chunk in chunks}) == 1


def test_the_openai_clients_stream_helper_works(sdk):
    with sdk.chat.completions.stream(model="sawyer-base", messages=HI, n=2, logprobs=True, top_logprobs=2) as stream:
        for _ in stream:
            pass
        final = stream.get_final_completion()
    assert [choice.message.content for choice in final.choices] == ["Hello (base) there."] * 2
    assert [len(item.top_logprobs) for item in final.choices[1].logprobs.content] == [2, 2, 2]


def test_n_and_logprobs(sdk, engine):
    answer = sdk.chat.completions.create(
        model="sawyer-base", messages=HI, n=3, seed=2**63 - 1, logprobs=True, top_logprobs=1
    )
    assert [choice.index for choice in answer.choices] == [0, 1, 2]
    assert answer.usage.prompt_tokens == 1 and answer.usage.completion_tokens == 9
    item = answer.choices[2].logprobs.content[1]
    assert (item.token, item.logprob, item.bytes) == (" there", -0.5, list(b" there"))
    assert item.top_logprobs[0].token == " there"
    assert len({job.sampling.seed for job in engine.jobs}) == 3
    assert len(answer.metadata["completion_ids"]) == 3


def test_models_are_listed_and_found(engine, sdk):
    stages, versions = ["sawyer-base", "sawyer-sft", "sawyer-rlf"], [f"sawyer-{ref}" for ref in engine.refs]
    assert [model.id for model in sdk.models.list()] == [*stages, *versions]
    assert sdk.models.retrieve("sawyer-rlf@3").id == "sawyer-rlf@3"
    for name in ("sawyer-rlf@3", "rlf", "rlf@2"):
        assert sdk.chat.completions.create(model=name, messages=HI).choices[0].message.content.startswith("Hello")
    assert [(job.stage, job.version) for job in engine.jobs] == [("rlf", "rlf@3"), ("rlf", None), ("rlf", "rlf@2")]


@pytest.mark.parametrize(
    ("asked", "kind", "code"),
    [
        ({"model": "gpt-4"}, openai.NotFoundError, "model_not_found"),
        ({"model": "sawyer-rlf@9"}, openai.NotFoundError, "model_not_found"),
        ({"messages": [{"role": "user", "content": "word " * 70}]}, openai.BadRequestError, "context_length_exceeded"),
        ({"temperature": 3}, openai.BadRequestError, "invalid_request"),
        ({"messages": [{"role": "wizard", "content": "x"}]}, openai.BadRequestError, "invalid_request"),
        ({"messages": [*HI, {"role": "assistant", "content": "x"}]}, openai.BadRequestError, "invalid_request"),
        ({"messages": []}, openai.BadRequestError, "invalid_request"),
        ({"tools": [{"type": "function"}]}, openai.BadRequestError, "invalid_request"),
        ({"extra_body": {"temprature": 1}}, openai.BadRequestError, "invalid_request"),
        ({"metadata": {"turn_id": "absent"}}, openai.NotFoundError, "not_found"),
    ],
)
def test_the_openai_client_understands_errors(sdk, asked, kind, code):
    with pytest.raises(kind) as caught:
        sdk.chat.completions.create(**{"model": "sawyer-sft", "messages": HI, **asked})
    assert caught.value.code == code
    assert set(caught.value.body) == {"message", "type", "param", "code"}


def test_the_limit_has_two_names(sdk, engine):
    sdk.chat.completions.create(model="rlf", messages=HI, max_completion_tokens=5)
    sdk.chat.completions.create(model="rlf", messages=HI, max_completion_tokens=6, max_tokens=6)
    assert [job.sampling.max_tokens for job in engine.jobs] == [5, 6]
    with pytest.raises(openai.BadRequestError, match="two names"):
        sdk.chat.completions.create(model="rlf", messages=HI, max_completion_tokens=5, max_tokens=6)
    with pytest.raises(openai.BadRequestError, match="logprobs true"):
        sdk.chat.completions.create(model="rlf", messages=HI, top_logprobs=5)


def test_a_busy_engine_is_a_rate_limit_error(sdk, engine):
    engine.busy = True
    with pytest.raises(openai.RateLimitError) as caught:
        sdk.chat.completions.create(model="sawyer-sft", messages=HI)
    assert caught.value.response.headers["Retry-After"] == "3"


def test_neutral_parameters_are_accepted(client):
    more = {"presence_penalty": 0, "tools": [], "user": "someone", "response_format": {"type": "text"}, "seed": None}
    answer = ask(
        client, **more, messages=[{"role": "developer", "content": [{"type": "text", "text": "be kind"}]}, *HI]
    )
    assert answer.status_code == 200, answer.text


def test_a_reply_can_join_a_turn_but_only_to_the_same_messages(client, store):
    first = ask(client).json()["metadata"]
    joined = ask(client, model="sawyer-rlf", metadata={"turn_id": first["turn_id"]}).json()["metadata"]
    assert joined["turn_id"] == first["turn_id"]
    assert {answer.stage for answer in store.turn(first["turn_id"]).completions} == {"sft", "rlf"}
    other = ask(client, metadata={"turn_id": first["turn_id"]}, messages=[{"role": "user", "content": "bye"}])
    assert (other.status_code, other.json()["error"]["code"]) == (400, "turn_mismatch")


def test_a_failing_row_is_an_error_whole_and_streamed(client, engine):
    engine.failing["sft"] = ApiError(503, "Out of memory.", code="out_of_memory")
    whole = ask(client)
    assert (whole.status_code, whole.json()["error"]["code"]) == (503, "out_of_memory")
    lines = [line[6:] for line in ask(client, stream=True).text.splitlines() if line.startswith("data: ")]
    assert json.loads(lines[-2])["error"]["code"] == "out_of_memory" and lines[-1] == "[DONE]"


def test_streamed_chunks_have_openais_fields(client):
    lines = [line[6:] for line in ask(client, stream=True).text.splitlines() if line.startswith("data: ")]
    chunks = [json.loads(line) for line in lines[:-1]]
    assert lines[-1] == "[DONE]"
    assert chunks[1]["choices"][0] == {
        "index": 0,
        "delta": {"content": "Hello (sft)"},
        "logprobs": None,
        "finish_reason": None,
    }
    assert all("usage" not in chunk for chunk in chunks)
    assert chunks[-1]["metadata"]["completion_ids"]


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_leaves_stops_its_rows_and_what_was_said_is_kept(address, engine, store, tmp_path, stream):
    engine.hold = True
    body = {"model": "sawyer-sft", "messages": HI, "stream": stream}
    with pytest.raises(httpx.ReadTimeout), httpx.Client(timeout=0.5) as client:
        client.post(f"{address}/v1/chat/completions", json=body)
    wait_for(lambda: engine.replies[0].cancelled)
    wait_for(lambda: store.stats()["completions"] == 1)
    with sqlite3.connect(tmp_path / "sawyer.db") as database:
        kept = database.execute("select text, finish_reason, reward from completions").fetchall()
    assert kept == [("part 0", "cancelled", None)]


def test_leaving_while_others_stay(address, engine):
    engine.hold = True
    stays = threading.Thread(target=lambda: _ignore(httpx.post, address, 3.0))
    stays.start()
    wait_for(lambda: len(engine.replies) == 1)
    _ignore(httpx.post, address, 0.3)
    wait_for(lambda: len(engine.replies) == 2 and engine.replies[1].cancelled)
    assert not engine.replies[0].cancelled
    stays.join()


def test_the_store_failing_at_the_end_is_a_503(client, store, monkeypatch):
    from sawyer.errors import StoreError

    def full(*_args, **_kwargs):
        raise StoreError("/secret/path: disk full")

    monkeypatch.setattr(store, "add_completion", full)
    answer = ask(client)
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "store_unavailable")
    assert "secret" not in answer.text


def wait_for(happened, seconds=5.0):
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def _ignore(post, address, timeout):
    body = {"model": "sawyer-sft", "messages": HI, "stream": True}
    with contextlib.suppress(httpx.TimeoutException):
        post(f"{address}/v1/chat/completions", json=body, timeout=timeout)
