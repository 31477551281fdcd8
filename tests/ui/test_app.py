"""Page and API in one application: whose routes win, and what the document says."""

import re
import subprocess
import sys
from collections.abc import Iterator

import pytest
from fastapi.testclient import TestClient

from tests.ui.fake_api import FakeApi
from ui.app import mount_ui
from ui.page import SESSIONS
from ui.shell import POLICY
from ui.theme import ASSETS, css


@pytest.fixture(scope="module")
def web() -> Iterator[TestClient]:
    with TestClient(mount_ui(FakeApi().app(), "http://127.0.0.1:9")) as client:
        yield client


def test_the_api_comes_first_and_the_page_takes_the_rest(web: TestClient) -> None:
    assert web.get("/v1/info").json()["name"] == "fake"
    page = web.get("/")
    assert page.status_code == 200
    assert "<gradio-app" in page.text


def test_the_document_names_no_other_server(web: TestClient) -> None:
    scripts = "".join(path.read_text(encoding="utf-8") for path in ASSETS.glob("*.js"))
    assert "element" in scripts
    for path in ("/", "/arena", "/summaries", "/theme.css", "/config"):
        foreign = set(re.findall(r"https?://([^/\"'\s\\)]+)", web.get(path).text)) - {"testserver", "www.w3.org"}
        assert not foreign, f"{path} names {foreign}"
    assert not re.search(r"https?://|@import", css() + scripts)


def test_the_browser_is_told_to_load_from_nowhere_else(web: TestClient) -> None:
    for path in ("/", "/arena", "/summaries"):
        assert web.get(path).headers["content-security-policy"] == POLICY
    assert "http" not in POLICY
    assert "content-security-policy" not in web.get("/v1/info").headers


def test_no_more_open_pages_are_remembered_than_a_server_can_hold(web: TestClient) -> None:
    page = next(route.app for route in web.app.routes if getattr(route, "path", None) == "")  # type: ignore[attr-defined]
    assert page.state_holder.capacity == SESSIONS


def test_a_head_request_and_a_static_file_pass_through_the_shell(web: TestClient) -> None:
    assert web.head("/").status_code == 200
    script = re.search(r'src="\./(assets/index-[^"]+\.js)"', web.get("/").text)
    assert script is not None
    assert web.get(f"/{script.group(1)}").status_code == 200


def test_a_page_with_a_login_shows_and_does_nothing_before_it() -> None:
    app = mount_ui(FakeApi().app(), "http://127.0.0.1:9", login=lambda user, password: password == "right")
    with TestClient(app) as web:
        assert '"auth_required":true' in web.get("/").text
        assert web.get("/config").status_code == web.post("/gradio_api/queue/join", json={}).status_code == 401
        assert web.post("/login", data={"username": "x", "password": "wrong"}).status_code == 400
        assert web.post("/login", data={"username": "x", "password": "right"}).status_code == 200
        assert web.get("/config").status_code == 200 and '"auth_required":true' not in web.get("/").text


def test_the_page_needs_neither_torch_nor_the_rest_of_sawyer() -> None:
    code = (
        "import sys, ui.app, ui.page, ui.screenshots\n"
        "heavy = {'sawyer', 'train', 'serve', 'torch', 'transformers'}\n"
        "ours = {name for name in sys.modules if name.split('.')[0] in heavy}\n"
        "assert all(name == 'sawyer' or name.startswith('sawyer.types') for name in ours), ours"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
