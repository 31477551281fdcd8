"""The application as a whole: errors in one shape, limits, headers, health, and the parts for a recipe."""

import json
import socket
import time

import httpx
import pytest
import torch
from fastapi.testclient import TestClient
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from sawyer.errors import UsageError
from sawyer.home import Home
from sawyer.recipe import Recipe
from sawyer.registry import Registry
from serve.access import address_of
from serve.app import build_app, create_app
from serve.decoders import RaggedDecoder
from serve.errors import without_paths
from serve.limits import ClientLimits, Unlimited, rate_limit_from_environment
from serve.metrics import Metrics
from serve.scorer import BackgroundScorer
from tests.serve import tiny
from tests.serve.live import serving
from tests.serve.test_openai_api import wait_for

HI = [{"role": "user", "content": "hi"}]


def error_of(answer):
    body = answer.json()
    assert set(body) == {"error"} and set(body["error"]) == {"message", "type", "param", "code"}
    return body["error"]


@pytest.mark.parametrize(
    ("content", "mime"),
    [
        (b"{not json", "application/json"),
        (b"", "application/json"),
        (b"[1, 2]", "application/json"),
        (b'"text"', "application/json"),
        (b"null", "application/json"),
        (b"\xff\xfe", "application/json"),
        (b'{"messages": ' + b"[" * 5000, "application/json"),
        (b'{"messages": [{"role": "user", "content": "\\ud800"}]}', "application/json"),
        (b'{"messages": [{"role": "user", "content": "x"}], "temperature": NaN}', "application/json"),
        (b'{"messages": [{"role": "user", "content": "x"}], "seed": 1' + b"0" * 5000 + b"}", "application/json"),
        (b'{"messages": [{"role": "user", "content": "x"}], "max_tokens": 1e999}', "application/json"),
        (b'{"messages": [{"role": "user", "content": "x"}]}', "text/plain"),
        (b"messages=x", "application/x-www-form-urlencoded"),
    ],
)
@pytest.mark.parametrize(
    "path",
    ["/v1/compare", "/v1/chat/completions", "/v1/completions", "/v1/feedback/votes", "/v1/feedback/ratings"],
)
def test_malformed_bodies_are_400(client, path, content, mime):
    answer = client.post(path, content=content, headers={"Content-Type": mime})
    assert answer.status_code == 400, answer.text
    assert error_of(answer)["type"] == "invalid_request_error"


def test_all_faults_of_a_request_are_told_at_once(client):
    answer = client.post("/v1/compare", json={"messages": HI, "temperature": 9, "max_tokens": 0, "nonsense": 1})
    message = error_of(answer)["message"]
    assert all(key in message for key in ("temperature", "max_tokens", "nonsense")) and "given 9" in message


def test_unknown_routes_and_methods(client):
    assert (client.get("/v1/nothing").status_code, error_of(client.get("/v1/nothing"))["code"]) == (
        404,
        "unknown_route",
    )
    answer = client.get("/v1/compare")
    assert (answer.status_code, error_of(answer)["code"]) == (405, "method_not_allowed")
    assert answer.headers["Allow"] == "POST"


def test_a_page_mounted_beside_the_api_does_not_answer_for_it(app):
    app.mount("/", Starlette(routes=[Route("/", lambda _: PlainTextResponse("the page"))]))
    with TestClient(app) as client:
        page = client.get("/")
        assert (page.text, page.headers.get("X-Frame-Options")) == ("the page", None)
        for method, path, status in (
            ("GET", "/v1/nothing", 404),
            ("GET", "/v1/compare", 405),
            ("POST", "/v1/models", 405),
        ):
            answer = client.request(method, path)
            assert answer.status_code == status and error_of(answer)
        assert client.get("/v1/models").status_code == 200


def test_too_large_a_body_is_413_declared_or_not(address):
    for content in (b"x" * 30_000, iter([b"x" * 10_000] * 3)):
        answer = httpx.post(f"{address}/v1/compare", content=content)
        assert (answer.status_code, error_of(answer)["code"]) == (413, "request_too_large")


def test_a_client_still_sending_too_much_hears_why(address):
    """Megabytes beyond the limit: the answer arrives, the connection does not break under the client's hands."""
    for content in (b"x" * 4_000_000, iter([b"x" * 500_000] * 8)):
        answer = httpx.post(f"{address}/v1/compare", content=content, timeout=20)
        assert (answer.status_code, error_of(answer)["code"]) == (413, "request_too_large")


def test_a_client_that_promises_too_much_is_not_waited_for(address):
    host, port = address.removeprefix("http://").split(":")
    for length in (10**12, 100_000):
        began = time.monotonic()
        with socket.create_connection((host, int(port)), timeout=10) as connection:
            connection.sendall(f"POST /v1/compare HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n".encode())
            assert connection.recv(100).startswith(b"HTTP/1.1 413")
        assert time.monotonic() - began < 5


def test_what_nobody_foresaw_is_a_500_without_details(client, engine):
    def broken(_jobs):
        raise ZeroDivisionError("secret")

    engine.prepare = broken
    answer = client.post("/v1/compare", json={"messages": HI})
    assert (answer.status_code, error_of(answer)["code"]) == (500, "internal_error")
    assert "secret" not in answer.text and answer.headers["X-Request-ID"]


def test_rates_are_limited_for_each_client_and_kind(engine, store, recipe):
    app = create_app(engine, store, recipe=recipe, rate_limit=ClientLimits(generate=2, feedback=1, read=3))
    with TestClient(app, client=("10.0.0.1", 1)) as one, TestClient(app, client=("10.0.0.2", 1)) as two:
        ask = {"json": {"messages": HI}}
        assert [one.post("/v1/compare", **ask).status_code for _ in range(3)] == [200, 200, 429]
        refused = one.post("/v1/compare", **ask)
        assert error_of(refused)["code"] == "rate_limit_exceeded" and 1 <= int(refused.headers["Retry-After"]) <= 60
        assert two.post("/v1/compare", **ask).status_code == 200
        assert one.post("/v1/feedback/votes", json={}).status_code == 400
        assert one.post("/v1/feedback/votes", json={}).status_code == 429
        assert [one.get("/v1/models").status_code for _ in range(4)] == [200, 200, 200, 429]
        assert all(one.get("/healthz").status_code == 200 for _ in range(9))


def test_replies_at_a_time_are_limited_for_each_client(engine, store, recipe):
    engine.hold = True
    body = {"model": "rlf", "messages": HI, "stream": True}
    with serving(create_app(engine, store, recipe=recipe, rate_limit=ClientLimits(streams=2))) as url:

        def post(visitor, path="/v1/chat/completions"):
            request = httpx.Client().build_request("POST", url + path, json=body, headers={"X-Forwarded-For": visitor})
            return httpx.Client(timeout=10).send(request, stream=True)

        first, second = post("203.0.113.1"), post("203.0.113.1")
        assert first.status_code == second.status_code == 200
        refused = post("203.0.113.1", "/v1/completions")
        refused.read()
        assert (refused.status_code, error_of(refused)["code"]) == (429, "too_many_streams")
        assert refused.headers["Retry-After"] == "1"
        assert httpx.get(f"{url}/v1/models", headers={"X-Forwarded-For": "203.0.113.1"}).status_code == 200
        other = post("203.0.113.2")
        assert other.status_code == 200
        first.close()  # a client that leaves makes room
        wait_for(lambda: (third := post("203.0.113.1")).status_code == 200 or third.close())
        second.close()
        other.close()
        for reply in engine.replies:
            reply.cancel()


def test_the_page_beside_the_server_asks_in_its_visitors_names(engine, store, recipe):
    app = create_app(engine, store, recipe=recipe, rate_limit=ClientLimits(read=1))
    with serving(app) as url:
        visitors = ["203.0.113.1", "203.0.113.2", "203.0.113.1"]
        answers = [httpx.get(f"{url}/v1/models", headers={"X-Forwarded-For": visitor}) for visitor in visitors]
    assert [answer.status_code for answer in answers] == [200, 200, 429]


def test_the_switch_for_rate_limits(monkeypatch):
    monkeypatch.setenv("SAWYER_RATE_LIMIT", "off")
    assert isinstance(rate_limit_from_environment(), Unlimited)
    monkeypatch.delenv("SAWYER_RATE_LIMIT")
    assert isinstance(rate_limit_from_environment(), ClientLimits)
    monkeypatch.setenv("SAWYER_RATE_LIMIT", "some")
    with pytest.raises(UsageError, match=r"on .* off"):
        rate_limit_from_environment()
    monkeypatch.delenv("SAWYER_RATE_LIMIT")
    assert rate_limit_from_environment().streams == 8
    monkeypatch.setenv("SAWYER_MAX_STREAMS", "40")
    assert rate_limit_from_environment().streams == 40
    for wrong in ("0", "-1", "many", "²", "1" * 30):
        monkeypatch.setenv("SAWYER_MAX_STREAMS", wrong)
        with pytest.raises(UsageError, match="SAWYER_MAX_STREAMS"):
            rate_limit_from_environment()


def test_a_home_network_is_one_client():
    hosts = ["2001:db8::1", "2001:db8::2", "2001:db8:0:1::1", "::ffff:10.0.0.1", "10.0.0.1"]
    first, second, third, fourth, fifth = (address_of({"client": (host, 1)}) for host in hosts)
    assert first == second != third
    assert fourth == fifth


def test_security_headers_and_closed_cors(client):
    answer = client.get("/v1/models", headers={"Origin": "https://elsewhere.example"})
    assert answer.headers["X-Content-Type-Options"] == "nosniff" and answer.headers["X-Frame-Options"] == "DENY"
    assert not [name for name in answer.headers if name.lower().startswith("access-control")]
    assert client.options("/v1/compare", headers={"Origin": "https://x.example"}).status_code == 405


def test_request_ids_are_kept_or_made(client):
    assert client.get("/healthz", headers={"X-Request-ID": "abc-1"}).headers["X-Request-ID"] == "abc-1"
    assert len(client.get("/healthz", headers={"X-Request-ID": "a b<"}).headers["X-Request-ID"]) == 32


def test_health_while_loading_ready_and_failed(client, engine):
    assert client.get("/readyz").json()["status"] == "ok"
    for state, status in (("loading", 503), ("failed", 503)):
        engine.state = (state, "why")
        answer = client.get("/readyz")
        assert (answer.status_code, answer.json()) == (status, {"status": state, "detail": "why"})
        assert client.get("/healthz").status_code == 200
        assert client.post("/v1/compare", json={"messages": HI}).status_code == 503


def test_metrics_count_replies_and_votes(client):
    turn_id = client.post("/v1/chat/completions", json={"model": "rlf", "messages": HI}).json()["metadata"]["turn_id"]
    client.post("/v1/feedback/votes", json={"turn_id": turn_id, "choice": "rlf"})
    client.get("/v1/models/made-up")
    text = client.get("/metrics").text
    for line in (
        'sawyer_replies_total{finish_reason="stop",stage="rlf"} 1.0',
        'sawyer_votes_total{choice="rlf"} 1.0',
        'sawyer_generated_tokens_total{stage="rlf"} 3.0',
        "sawyer_ready 1.0",
    ):
        assert line in text
    assert "made-up" not in text


def test_info_tells_a_page_what_it_needs(client):
    info = client.get("/v1/info").json()
    assert (info["name"], info["stages"], info["ready"], info["rewards"]) == (
        "test",
        ["base", "sft", "rlf"],
        True,
        True,
    )
    assert info["sampling"]["max_tokens"] == 7 and info["examples"] and info["versions"]["rlf"] == "rlf@3"


def test_parts_are_started_and_closed_once(app, engine):
    with TestClient(app):
        assert (engine.started, engine.closed) == (1, 0)
    assert engine.closed == 1


def test_a_reward_model_that_fails_costs_no_reply(engine, store, recipe):
    def absent():
        raise OSError("no such folder")

    app = create_app(engine, store, recipe=recipe, scorer=BackgroundScorer(absent), rate_limit=Unlimited())
    with TestClient(app) as client:
        answer = client.post("/v1/chat/completions", json={"model": "rlf", "messages": HI}).json()
    assert answer["choices"][0]["message"]["content"] and answer["metadata"]["rewards"] == [None]


def test_the_openapi_document_is_whole(client):
    document = client.get("/openapi.json").json()
    assert {"/v1/compare", "/v1/chat/completions", "/v1/feedback/votes", "/readyz"} <= set(document["paths"])
    assert "422" not in document["paths"]["/v1/compare"]["post"]["responses"]


def served_recipe(**more) -> Recipe:
    model = {"context": tiny.CONTEXT, "dtype": "float32"}
    base = {"sources": [{"name": "none"}], "phases": [{"tokens": 1}]}
    return Recipe.model_validate({"name": "served", "model": model, "base": base, "threads": 1} | more)


def test_scoring_has_one_thread_and_decoding_keeps_its_own(tmp_path, monkeypatch):
    """With helpers of two threads on the same cores, each waits for the other's: see build_app."""
    home, recipe = Home(tmp_path / "home"), served_recipe(threads=2)
    registry = Registry.of(recipe, home.ensure())
    made = tiny.make_stages(tmp_path / "made")
    for stage, folder in (made | {"reward": made["base"]}).items():
        registry.register(stage, folder, info={})
        registry.promote(f"{stage}@1")
    seen = {}

    class Counting:
        def score(self, prompts, responses):
            seen["scoring"] = torch.get_num_threads()
            return [0.5] * len(responses)

    step = RaggedDecoder.step

    def counted(decoder):
        seen["decoding"] = torch.get_num_threads()
        step(decoder)

    monkeypatch.setattr(RaggedDecoder, "step", counted)
    monkeypatch.setattr("serve.app.current_scorer", lambda *_: Counting())
    with serving(build_app(recipe, home)) as url:
        wait_for(lambda: httpx.get(f"{url}/readyz").status_code == 200, 30)
        for _ in range(2):
            httpx.post(f"{url}/v1/compare", json={"messages": HI, "max_tokens": 4}, timeout=30)
    assert seen == {"scoring": 1, "decoding": 2}


def test_a_recipe_is_served_from_its_registry(tmp_path, monkeypatch):
    monkeypatch.setenv("SAWYER_RATE_LIMIT", "off")
    monkeypatch.delenv("SAWYER_DB", raising=False)
    home, recipe = Home(tmp_path / "home"), served_recipe()
    registry = Registry.of(recipe, home.ensure())
    for stage, folder in tiny.make_stages(tmp_path / "made").items():
        registry.register(stage, folder, info={})
        registry.promote(f"{stage}@1")
    with serving(build_app(recipe, home)) as url:
        wait_for(lambda: httpx.get(f"{url}/readyz").status_code == 200, 30)
        cards = {card["id"]: card["root"] for card in httpx.get(f"{url}/v1/models").json()["data"]}
        assert {name: cards[name] for name in ("sawyer-base", "sawyer-sft", "sawyer-rlf")} == {
            "sawyer-base": "sawyer-base@1",
            "sawyer-sft": "sawyer-sft@1",
            "sawyer-rlf": "sawyer-rlf@1",
        }
        text = httpx.post(f"{url}/v1/compare", json={"messages": HI, "max_tokens": 8}, timeout=30).text
        events = [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: ")]
        assert {event["stage"] for event in events if event["event"] == "done"} == {"base", "sft", "rlf"}
        vote = {"turn_id": events[0]["turn_id"], "choice": "rlf"}
        assert httpx.post(f"{url}/v1/feedback/votes", json=vote).status_code == 201
    assert (home.root / "sawyer.db").exists()


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("There is no folder /srv/models/a-b. Correct it.", "There is no folder [path]. Correct it."),
        ("The adapter in /srv/x/1 (fingerprints 1 and 2): no", "The adapter in [path] (fingerprints 1 and 2): no"),
        ("No such file: '/srv/My Models/config.json', sorry", "No such file: [path], sorry"),
        ('"~/models/x" and ../models and ./y/z.json,', "[path] and [path] and [path],"),
        ("of models/own/llama: torn", "of [path]: torn"),
        ("The backbone 'google/flan-t5-small' is gated", "The backbone 'google/flan-t5-small' is gated"),
        ("see https://huggingface.co/google/flan-t5-small/tree for 1/2", None),
        ("q_proj.weight of layers.0 and/or lora_A: 3 + 4 / 5", None),
    ],
)
def test_paths_are_left_out_of_what_strangers_read(text, shown):
    assert without_paths(text) == (text if shown is None else shown)


def test_a_home_with_a_space_in_its_name_is_left_out_whole(monkeypatch):
    monkeypatch.setenv("HOME", "/home/Ada Lovelace")
    assert without_paths("Torn: /home/Ada Lovelace/.sawyer/registry/1.") == "Torn: [path]."


def test_a_recipe_without_any_model_is_refused_at_once(tmp_path):
    with pytest.raises(UsageError, match="sawyer pipeline served"):
        build_app(served_recipe(), Home(tmp_path / "home"))


def test_a_recipe_whose_model_cannot_be_loaded_says_so_at_readyz(tmp_path, monkeypatch, caplog):
    """The cause to everybody, the folder to the server's log alone."""
    monkeypatch.delenv("SAWYER_DB", raising=False)
    recipe = Recipe.model_validate({"name": "gone", "model": {"backbone": str(tmp_path / "absent")}})
    with TestClient(build_app(recipe, Home(tmp_path / "home"))) as client:
        wait_for(lambda: client.get("/readyz").json()["status"] == "failed", 30)
        detail = client.get("/readyz").json()["detail"]
        assert detail == (
            "There is no folder [path]. Correct model.backbone or train the model first. The server's log says more."
        )
        assert str(tmp_path / "absent") in caplog.text
        assert client.get("/healthz").status_code == 200
        assert client.post("/v1/compare", json={"messages": HI}).status_code == 503


def test_metrics_tell_what_an_engine_reports(engine, store, recipe):
    metrics = Metrics()
    app = create_app(engine, store, recipe=recipe, rate_limit=Unlimited(), metrics=metrics)
    for rows in (1, 3, 24):
        metrics.step(rows, 0.01 * rows)
    engine.waiting, engine.running = 5, 2
    with TestClient(app) as client:
        client.post("/v1/completions", json={"model": "sft", "prompt": "two words"})
        client.post("/v1/completions", json={"model": "sft", "prompt": "x", "stream": True})
        text = client.get("/metrics").text
    for line in (
        "sawyer_batch_rows_sum 28.0",
        'sawyer_batch_rows_bucket{le="4.0"} 2.0',
        'sawyer_step_seconds_bucket{le="0.05"} 2.0',
        "sawyer_rows_waiting 5.0",
        "sawyer_rows_running 2.0",
        'sawyer_prompt_tokens_total{stage="sft"} 3.0',
        'sawyer_generated_tokens_total{stage="sft"} 6.0',
        'sawyer_first_text_seconds_count{stage="sft"} 2.0',
        'sawyer_reply_seconds_count{stage="sft"} 2.0',
        'sawyer_http_requests_total{method="POST",route="/v1/completions",status="200"} 2.0',
        "sawyer_requests_open 1.0",
        "sawyer_draining 0.0",
    ):
        assert line in text, line
