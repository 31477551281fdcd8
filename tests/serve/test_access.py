"""Who may ask what: open servers, keys in force, roles, and the rule for addresses that others reach."""

import openai
import pytest
from fastapi.testclient import TestClient

from sawyer.errors import UsageError
from serve.access import Access, access_for, is_loopback, role_needed
from serve.app import create_app
from serve.keys import KeyFile, Keyring
from serve.limits import ClientLimits, Unlimited
from tests.serve.live import serving
from tests.serve.test_app import error_of

HI = [{"role": "user", "content": "hi"}]
ASK = {"model": "sawyer-rlf", "messages": HI}

NEEDED = {
    ("GET", "/v1/models"): "reader",
    ("GET", "/v1/models/{model}"): "reader",
    ("GET", "/v1/info"): "reader",
    ("GET", "/v1/feedback/stats"): "reader",
    ("GET", "/v1/feedback/board"): "reader",
    ("POST", "/v1/chat/completions"): "reader",
    ("POST", "/v1/completions"): "reader",
    ("POST", "/v1/compare"): "reader",
    ("POST", "/v1/feedback/votes"): "voter",
    ("POST", "/v1/feedback/ratings"): "voter",
    ("POST", "/v1/feedback/undo"): "voter",
    ("GET", "/v1/admin/feedback"): "admin",
    ("POST", "/v1/admin/reviews"): "admin",
    ("POST", "/v1/admin/redact"): "admin",
    ("GET", "/v1/admin/voters"): "admin",
    ("GET", "/v1/admin/export"): "admin",
    ("GET", "/v1/admin/versions"): "admin",
    ("POST", "/v1/admin/promote"): "admin",
    ("POST", "/v1/admin/rollback"): "admin",
    ("GET", "/metrics"): "reader",
    ("GET", "/healthz"): None,
    ("GET", "/readyz"): None,
    ("GET", "/openapi.json"): None,
}


@pytest.fixture
def file(tmp_path):
    return KeyFile(tmp_path)


@pytest.fixture
def guarded(engine, store, recipe, file):
    access = Access(Keyring(file), guarded=True)
    app = create_app(engine, store, recipe=recipe, rate_limit=Unlimited(), access=access)
    with TestClient(app, raise_server_exceptions=False) as client:
        yield client


def bearer(text):
    return {"Authorization": f"Bearer {text}"}


def test_every_route_has_a_role_that_somebody_chose(app):
    """A new route fails here until it is listed above."""
    found = {
        (method, route["path"]): role_needed(method, route["path"])
        for route in ({"path": path, "methods": item} for path, item in app.openapi()["paths"].items())
        for method in (name.upper() for name in route["methods"])
    }
    assert found == {key: role for key, role in NEEDED.items() if key[1] not in ("/metrics", "/openapi.json")}
    assert all(role_needed(*key) == role for key, role in NEEDED.items())
    assert role_needed("POST", "/v1/admin/promote") == role_needed("GET", "/v1/admin/reviews") == "admin"


@pytest.mark.parametrize(("method", "path"), [key for key, role in NEEDED.items() if role])
def test_without_a_key_nothing_is_told(guarded, method, path):
    for headers, code in (({}, "missing_api_key"), (bearer("sk-wrong"), "invalid_api_key")):
        answer = guarded.request(method, path, headers=headers)
        assert (answer.status_code, error_of(answer)["code"]) == (401, code)
        assert error_of(answer)["type"] == "authentication_error"
        assert answer.headers["WWW-Authenticate"].startswith('Bearer realm="sawyer"') and answer.headers["X-Request-ID"]


def test_probes_need_no_key(guarded):
    assert [guarded.get(path).status_code for path in ("/healthz", "/readyz", "/openapi.json")] == [200] * 3


def test_other_ways_to_send_a_key_are_no_keys(guarded, file):
    _, text = file.add("admin")
    for headers in ({"Authorization": text}, {"Authorization": f"Basic {text}"}, {"X-API-Key": text}):
        assert guarded.get("/v1/models", headers=headers).status_code == 401
    assert guarded.get(f"/v1/models?api_key={text}").status_code == 401
    assert guarded.get("/v1/models", headers={"Authorization": f"bearer  {text}"}).status_code == 200


def test_each_role_may_what_it_may(guarded, file):
    keys = {role: bearer(file.add(role)[1]) for role in ("reader", "voter", "admin")}
    turn = guarded.post("/v1/chat/completions", json=ASK, headers=keys["reader"]).json()["metadata"]["turn_id"]
    for role, vote, admin in (("reader", 403, 403), ("voter", 201, 403), ("admin", 201, 400)):
        assert guarded.get("/v1/feedback/stats", headers=keys[role]).status_code == 200
        body = {"turn_id": turn, "choice": "rlf"}
        answer = guarded.post("/v1/feedback/votes", json=body, headers=keys[role])
        assert answer.status_code == vote
        assert guarded.post("/v1/admin/promote", headers=keys[role]).status_code == admin
    refused = guarded.post("/v1/feedback/votes", json={}, headers=keys["reader"])
    assert error_of(refused) == {
        "message": error_of(refused)["message"],
        "type": "permission_error",
        "param": None,
        "code": "insufficient_role",
    }


def test_a_revoked_key_is_refused_at_once(guarded, file):
    key, text = file.add("reader")
    assert guarded.get("/v1/models", headers=bearer(text)).status_code == 200
    file.revoke(key.id)
    assert guarded.get("/v1/models", headers=bearer(text)).status_code == 401


def test_an_open_server_lets_everybody_ask_and_vote_but_administer(client):
    assert client.get("/v1/models").status_code == 200
    assert client.post("/v1/feedback/votes", json={}, headers=bearer("none")).status_code == 400
    assert client.post("/v1/admin/promote").status_code == 401


def test_the_openai_client_understands_refusals(engine, store, recipe, file):
    app = create_app(engine, store, recipe=recipe, access=Access(Keyring(file), guarded=True))
    _, text = file.add("reader")
    with serving(app) as url:
        with openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as sdk:
            with pytest.raises(openai.AuthenticationError) as caught:
                sdk.chat.completions.create(**ASK)
            assert caught.value.code == "invalid_api_key"
        with openai.OpenAI(base_url=f"{url}/v1", api_key=text, max_retries=0) as sdk:
            assert sdk.chat.completions.create(**ASK).choices[0].message.content
            with pytest.raises(openai.PermissionDeniedError):
                sdk.post("/feedback/votes", cast_to=object, body={})


def test_a_key_is_one_client_and_a_page_speaks_for_many(engine, store, recipe, file):
    access = Access(Keyring(file), guarded=True)
    one, two, page = file.add("reader")[1], file.add("reader")[1], file.add("voter", page=True)[1]
    app = create_app(engine, store, recipe=recipe, access=access, rate_limit=ClientLimits(read=1))

    def get(client, text, visitor=None):
        headers = bearer(text) | ({"X-Forwarded-For": visitor} if visitor else {})
        return client.get("/v1/models", headers=headers).status_code

    with TestClient(app, client=("10.0.0.1", 1)) as here, TestClient(app, client=("10.0.0.2", 1)) as there:
        assert [get(here, one), get(there, one), get(here, two)] == [200, 429, 200]
        assert get(here, one, "10.9.9.9") == 429, "only a page may name visitors"
        visitors = ["10.0.0.7", "10.0.0.8", "6.6.6.6, 10.0.0.8", "no address", "2001:db8::1", "2001:db8::2"]
        assert [get(here, page, visitor) for visitor in visitors] == [200, 200, 429, 200, 200, 429]


@pytest.mark.parametrize(
    ("host", "loopback"),
    [("127.0.0.1", True), ("127.8.0.1", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("::", False),
     ("10.0.0.1", False), ("localhost.example.com", False), ("", False)],
)  # fmt: skip
def test_what_only_this_machine_reaches(host, loopback):
    assert is_loopback(host) is loopback


def test_an_address_that_others_reach_needs_a_key_or_a_word(tmp_path, file):
    assert not access_for(tmp_path, "127.0.0.1", open_to_all=False).guarded
    with pytest.raises(UsageError) as refused:
        access_for(tmp_path, "0.0.0.0", open_to_all=False)
    assert all(word in str(refused.value) for word in ("--host 0.0.0.0", "sawyer keys add", "--open"))
    assert not access_for(tmp_path, "0.0.0.0", open_to_all=True).guarded
    file.add("reader")
    assert access_for(tmp_path, "0.0.0.0", open_to_all=False).guarded
    assert access_for(tmp_path, "127.0.0.1", open_to_all=False).guarded
    assert not access_for(tmp_path, "0.0.0.0", open_to_all=True).guarded


def test_a_page_is_entered_with_a_key_as_password(file):
    access = Access(Keyring(file), guarded=True)
    reader, voter = file.add("reader")[1], file.add("voter")[1]
    assert access.may_enter("anyone", voter)
    assert not access.may_enter("anyone", reader) and not access.may_enter("anyone", "")
