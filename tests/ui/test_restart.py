"""The server dies while answers stream and comes back: what was asked is still there, and is answered."""

import socket
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from time import monotonic, sleep

import pytest

from tests.ui.conftest import Visit
from ui import texts

pytestmark = [pytest.mark.browser, pytest.mark.slow]


def start(port: int, pause: float) -> "subprocess.Popen[bytes]":
    """Page and API in a process of their own, as ``sawyer demo`` has them."""
    process = subprocess.Popen([sys.executable, "-m", "tests.ui.fake_api", str(port), str(pause)])
    deadline = monotonic() + 120
    while True:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/v1/info", timeout=2).close()
            return process
        except OSError:
            assert process.poll() is None and monotonic() < deadline, "the server did not start"
            sleep(0.1)


def test_a_question_survives_a_server_that_dies_in_mid_stream(visit: Callable[..., Visit]) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    visitor, server = visit(), start(port, pause=2.0)
    try:
        visitor.open(f"http://127.0.0.1:{port}/")
        visitor.ask("Will you come back?")
        visitor.page.wait_for_selector(".sw-streaming")
        server.kill()
        server.wait()
        server = start(port, pause=0.01)
        visitor.open(f"http://127.0.0.1:{port}/")
        visitor.wait_for_answers()
        assert "Will you come back?" in visitor.page.locator(".sw-current").inner_text()
        assert texts.CUT_OFF in visitor.page.locator(".sw-failed").first.inner_text()
        visitor.press(visitor.page.get_by_role("button", name=texts.ALL_ANEW), ".sw-done")
        visitor.wait_for_answers()
        assert visitor.page.locator(".sw-done").count() == 3
        assert visitor.alarms == []
    finally:
        server.kill()
        server.wait()
