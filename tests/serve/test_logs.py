"""The log: one line a request, as JSON or for people, traceable by its id, without what was said."""

import contextlib
import io
import json
import logging

import pytest
from fastapi.testclient import TestClient

from sawyer.errors import UsageError
from serve import logs
from serve.access import Access
from serve.app import create_app
from serve.keys import KeyFile, Keyring
from serve.limits import Unlimited

ASK = {"model": "sawyer-rlf", "messages": [{"role": "user", "content": "my secret"}]}


@contextlib.contextmanager
def logged(style):
    """Everything that is logged inside, as text; logging is as before afterwards."""
    root, stream = logging.getLogger(), io.StringIO()
    before = root.handlers, root.level, [logging.getLogger(name).level for name in logs.OURS]
    logs.configure(style, stream)
    try:
        yield stream
    finally:
        root.handlers, level, levels = before
        root.setLevel(level)
        for name, level in zip(logs.OURS, levels, strict=True):
            logging.getLogger(name).setLevel(level)


def lines(stream):
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_request_is_one_json_line_without_what_was_said(client):
    with logged("json") as stream:
        client.post("/v1/chat/completions", json=ASK, headers={"X-Request-Id": "abc-1"})
    (line,) = lines(stream)
    assert line["time"].endswith("+00:00") and line.pop("time") and line.pop("message")
    assert 0 <= line.pop("seconds") < 10 and len(line.pop("client")) == 12
    assert line == {
        "level": "info",
        "logger": "sawyer.access",
        "request_id": "abc-1",
        "method": "POST",
        "route": "/v1/chat/completions",
        "status": 200,
        "stage": "rlf",
        "tokens": 3,
    }
    assert "secret" not in stream.getvalue() and "Hello" not in stream.getvalue()


def test_a_stream_counts_all_its_stages_and_probes_are_quiet(client):
    with logged("json") as stream:
        answer = client.post("/v1/compare", json={"messages": ASK["messages"]})
        for path in ("/healthz", "/readyz", "/metrics"):
            client.get(path)
    (line,) = lines(stream)
    assert sorted(line["stage"].split(",")) == ["base", "rlf", "sft"] and line["tokens"] == 9
    assert line["request_id"] == answer.headers["X-Request-ID"]


def test_every_error_carries_the_id_of_its_request(client, engine):
    engine.prepare = None
    with logged("json") as stream:
        answer = client.post("/v1/chat/completions", json=ASK, headers={"X-Request-Id": "oops"})
    error, access = lines(stream)
    assert (error["level"], error["request_id"], access["status"]) == ("error", "oops", 500)
    assert "Traceback" in error["exception"] and answer.headers["X-Request-ID"] == "oops"


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/v1/nothing", 404), ("GET", "/v1/compare", 405), ("POST", "/v1/compare", 400), ("GET", "/nowhere", 404)],
)
def test_ids_are_on_every_answer(client, method, path, status):
    answer = client.request(method, path, headers={"X-Request-Id": "a.b_c-9"})
    assert (answer.status_code, answer.headers["X-Request-ID"]) == (status, "a.b_c-9")


@pytest.mark.parametrize("given", ["", "a b", "<script>", "x" * 65, "é", "a\tb"])
def test_other_ids_are_replaced(client, given):
    made = client.get("/healthz", headers={"X-Request-Id": given.encode()}).headers["X-Request-ID"]
    assert len(made) == 32 and made.isalnum()


def test_clients_are_hashed_and_keys_named(engine, store, recipe, tmp_path):
    file = KeyFile(tmp_path)
    (key, text), (page, page_text) = file.add("reader"), file.add("voter", page=True)
    app = create_app(engine, store, recipe=recipe, rate_limit=Unlimited(), access=Access(Keyring(file)))
    with TestClient(app, client=("10.0.0.1", 1)) as client, logged("json") as stream:
        for given in (None, None, text, page_text):
            client.get("/v1/models", headers={"Authorization": f"Bearer {given}"} if given else {})
    first, again, by_key, by_page = (line["client"] for line in lines(stream))
    assert first == again and "10.0.0.1" not in stream.getvalue() and text not in stream.getvalue()
    assert (by_key, by_page) == (key.id, f"{page.id}/{first}")


def test_texts_are_logged_only_when_asked_for(engine, store, recipe, monkeypatch):
    monkeypatch.setenv("SAWYER_LOG_BODIES", "on")
    app = create_app(engine, store, recipe=recipe, rate_limit=Unlimited())
    for style in ("json", "text"):
        with TestClient(app) as client, logged(style) as stream:
            client.post("/v1/chat/completions", json=ASK)
        assert "my secret" in stream.getvalue() and "Hello (rlf) there." in stream.getvalue()


def test_people_read_one_line_and_nobody_forges_another():
    with logged("text") as stream:
        logger = logging.getLogger("sawyer.access")
        logger.info("%s", "GET /v1/models 200")
        logger.warning("a\nb\x1b[31m")
    first, second = stream.getvalue().splitlines()
    assert first[8:] == " GET /v1/models 200" and second[8:] == r" WARNING a\nb\x1b[31m"


def test_other_libraries_notes_are_left_out():
    with logged("json") as stream:
        logging.getLogger("httpx").info("chatter")
        logging.getLogger("httpx").warning("lone surrogate \ud800")
    assert [line["message"] for line in lines(stream)] == ["lone surrogate \ud800"]


@pytest.mark.parametrize(
    ("name", "read"), [("SAWYER_LOG", logs.style_from_environment), ("SAWYER_LOG_BODIES", logs.bodies_from_environment)]
)
def test_the_switches_are_checked(monkeypatch, name, read):
    monkeypatch.setenv(name, "loud")
    with pytest.raises(UsageError, match=f"{name} is 'loud'. Allowed"):
        read()
    monkeypatch.setenv(name, "")
    assert read() in ("text", False)
