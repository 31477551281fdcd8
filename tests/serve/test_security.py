"""Browsers of other sites, paths in every text a request can hold, and control tokens in what users write."""

import itertools
import json

import pytest
from fastapi.testclient import TestClient

from sawyer.data import ASSETS
from sawyer.errors import UsageError
from serve.access import Access, access_for
from serve.app import create_app
from serve.cors import origins_from_environment
from serve.hosts import hosts_from_environment
from serve.keys import KeyFile, Keyring
from serve.limits import Unlimited
from tests.serve.fakes import FakeEngine
from tests.ui.fake_api import FakeApi
from ui.app import mount_ui

ALLOWED = "https://chat.example.org"
PREFLIGHT = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization,content-type"}


@pytest.fixture
def shared(engine, store, recipe, monkeypatch):
    """A guarded server that one other site may use."""
    monkeypatch.setenv("SAWYER_CORS_ORIGINS", f"{ALLOWED}, http://localhost:3000")
    app = create_app(engine, store, recipe=recipe, rate_limit=Unlimited(), access=Access(Keyring(), guarded=True))
    with TestClient(app) as client:
        yield client


def test_only_listed_origins_may_read_the_api(shared):
    for origin, allowed in ((ALLOWED, ALLOWED), ("https://chat.example.org.evil.example", None), ("null", None)):
        answer = shared.options("/v1/compare", headers={"Origin": origin, **PREFLIGHT})
        assert answer.headers.get("Access-Control-Allow-Origin") == allowed
        assert answer.status_code == (200 if allowed else 400)
        refused = shared.get("/v1/models", headers={"Origin": origin})  # readable, though it is a refusal
        assert refused.status_code == 401 and refused.headers.get("Access-Control-Allow-Origin") == allowed
        assert "Access-Control-Allow-Credentials" not in refused.headers
    assert (
        "X-Request-ID" in shared.get("/v1/models", headers={"Origin": ALLOWED}).headers["Access-Control-Expose-Headers"]
    )


def test_health_and_metrics_are_for_no_other_site(shared):
    assert "Access-Control-Allow-Origin" not in shared.get("/healthz", headers={"Origin": ALLOWED}).headers


@pytest.mark.parametrize("wrong", ["*", "chat.example.org", "https://a.example/", "https://a.example/x", "https://*.b"])
def test_what_is_no_origin_is_refused_at_the_start(monkeypatch, wrong):
    monkeypatch.setenv("SAWYER_CORS_ORIGINS", f"{ALLOWED},{wrong}")
    with pytest.raises(UsageError, match="SAWYER_CORS_ORIGINS"):
        origins_from_environment()


def test_every_answer_of_the_api_has_the_headers_that_keep_it_an_answer(client):
    asked = {"model": "rlf", "messages": [{"role": "user", "content": "hi"}]}
    answers = [client.get(path) for path in ("/v1/models", "/v1/nothing", "/healthz", "/metrics", "/openapi.json")]
    answers += [client.post("/v1/chat/completions", json=asked | {"stream": stream}) for stream in (False, True)]
    answers += [client.post("/v1/compare", content=b"{")]
    for answer in answers:
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Cache-Control"] == "no-store"
        assert answer.headers["Referrer-Policy"] == "no-referrer"
        assert "frame-ancestors 'none'" in answer.headers["Content-Security-Policy"]


@pytest.fixture
def bait(tmp_path, monkeypatch):
    """A file that nothing may read, beside the working directory of the server."""
    (tmp_path / "bait.txt").write_text("BAIT")
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "bait.txt"


def paths_to(file):
    yield from (str(file), f"file://{file}", f"../{file.name}", f"..%2f{file.name}", f"..\\{file.name}")
    yield from (f"....//{file.name}", f"%2e%2e/{file.name}", f"../{file.name}\x00.txt", "/etc/passwd", "//etc/passwd")


def requests_with(text):
    """Every place of every route that takes a text, filled with ``text``."""
    chat = {"model": "sawyer-rlf", "messages": [{"role": "user", "content": "hi"}]}
    raw = {"model": "sawyer-rlf", "prompt": "hi"}
    compare = {"messages": chat["messages"]}
    vote = {"turn_id": "t", "choice": "rlf"}
    for path, body, keys in (
        ("/v1/chat/completions", chat, ("model", "stop", "user", "service_tier", "response_format", "tool_choice")),
        ("/v1/completions", raw, ("model", "prompt", "stop", "suffix", "user")),
        ("/v1/compare", compare, ("conversation_id", "parent_turn_id", "stages", "stop")),
        ("/v1/feedback/votes", vote, ("turn_id", "choice", "voter", "comment", "edited", "ranking")),
        ("/v1/feedback/ratings", {"completion_id": "c", "up": True}, ("completion_id", "voter")),
    ):
        for key in keys:
            yield "POST", path, {"json": body | {key: [text] if key in ("stages", "ranking") else text}}
    for key in ("role", "content"):
        yield "POST", "/v1/compare", {"json": {"messages": [{"role": "user", "content": "hi"} | {key: text}]}}
    yield "POST", "/v1/chat/completions", {"json": chat | {"metadata": {"turn_id": text}}}
    header = text.replace("\x00", "").encode()
    for name in ("Idempotency-Key", "X-Request-ID", "X-Forwarded-For", "Authorization", "Host", "Content-Type"):
        yield "POST", "/v1/feedback/votes", {"content": json.dumps(vote), "headers": {name: header}}
    for route in ("/v1/models/", "/v1/", "/", "/v1/feedback/", "/static/"):
        yield "GET", route + text.replace("\x00", "%00"), {}


def test_no_text_of_a_request_becomes_a_path(client, bait, tmp_path):
    before = {path for path in tmp_path.rglob("*") if "sawyer.db" not in path.name}
    asked = 0
    for method, path, more in itertools.chain.from_iterable(requests_with(text) for text in paths_to(bait)):
        answer = client.request(method, path, **more)
        assert answer.status_code < 500, (path, more)
        assert "BAIT" not in answer.text and "root:" not in answer.text, (path, more)
        asked += 1
    assert asked > 300
    assert {path for path in tmp_path.rglob("*") if "sawyer.db" not in path.name} == before, "something was written"


def test_the_page_hands_out_no_files_either(bait):
    with TestClient(mount_ui(FakeApi().app(), "http://127.0.0.1:9")) as web:
        for text in paths_to(bait):
            for route in ("/gradio_api/file=", "/file=", "/file/", "/static/", "/assets/", "/theme.css/", "/"):
                answer = web.get(route + text.replace("\x00", "%00"))
                assert "BAIT" not in answer.text and "root:" not in answer.text, (route, text)


def test_no_text_of_a_user_becomes_a_control_token_of_the_shipped_model():
    """Each special token, by itself and inside words, in every role and in a raw prompt: never its id."""
    from transformers import AutoTokenizer

    from sawyer.chat import ChatFormat

    chat = ChatFormat(AutoTokenizer.from_pretrained(ASSETS / "nano" / "base"))
    tokenizer = chat.tokenizer
    control = {token: tokenizer.convert_tokens_to_ids(token) for token in
               {*tokenizer.all_special_tokens, *tokenizer.get_added_vocab()}}  # fmt: skip
    assert len(control) >= 3
    ids = set(control.values())
    harmless = [{"role": role, "content": "tea"} for role in ("system", "user", "assistant", "user")]
    for text in (form for token in control for form in (token, f"a{token}b", f" {token}{token} ", token[:-1] + token)):
        assert ids.isdisjoint(chat.encode_text(text)), text
        for stage in ("base", "sft", "rlf"):
            expected = [token for token in chat.encode_prompt(harmless, stage) if token in ids]
            for place in range(4):
                said = [dict(message) for message in harmless]
                said[place]["content"] = text
                found = [token for token in chat.encode_prompt(said, stage) if token in ids]
                assert found == expected, (text, stage, place)


def test_the_fake_engine_sees_prompts_unchanged(client, engine: FakeEngine):
    client.post("/v1/completions", json={"model": "rlf", "prompt": "</s><s>"})
    assert engine.jobs[-1].prompt == "</s><s>"


@pytest.fixture
def at_home(engine, store, recipe, monkeypatch):
    """A server that this machine alone reaches, with the page in the same process."""
    monkeypatch.setenv("SAWYER_ALLOWED_HOSTS", "chat.example.org")
    app = create_app(engine, store, recipe=recipe, rate_limit=Unlimited(), access=Access(local=True))
    with TestClient(mount_ui(app, "http://127.0.0.1:1")) as client:
        yield client


@pytest.mark.parametrize("path", ["/v1/models", "/healthz", "/", "/gradio_api/info"])
def test_a_page_that_points_its_own_name_at_this_machine_is_turned_away(at_home, path):
    for host in (
        "localhost",
        "127.0.0.1:7860",
        "[::1]:7860",
        "LOCALHOST:1",
        "sawyer.localhost",
        "chat.example.org:443",
    ):
        assert at_home.get(path, headers={"Host": host}).status_code == 200, host
    for host in (
        "evil.example",
        "evil.example:7860",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "x@localhost",
        "",
    ):
        refused = at_home.get(path, headers={"Host": host})
        assert (refused.status_code, refused.json()["error"]["code"]) == (403, "host_not_allowed"), host
        assert refused.headers["X-Request-ID"]


def test_a_server_for_others_answers_under_every_name(tmp_path):
    assert access_for(tmp_path, "127.0.0.1", open_to_all=False).local
    assert not access_for(tmp_path, "127.0.0.1", open_to_all=True).local
    assert not access_for(tmp_path, "0.0.0.0", open_to_all=True).local
    KeyFile(tmp_path).add("voter", "Ada")
    assert not access_for(tmp_path, "127.0.0.1", open_to_all=False).local, "the key keeps them out"


@pytest.mark.parametrize("wrong", ["*", "http://a.example", "a.example:80", "A.example", "a/b"])
def test_what_is_no_host_is_refused_at_the_start(monkeypatch, wrong):
    monkeypatch.setenv("SAWYER_ALLOWED_HOSTS", f"chat.example.org,{wrong}")
    with pytest.raises(UsageError, match="SAWYER_ALLOWED_HOSTS"):
        hosts_from_environment()
