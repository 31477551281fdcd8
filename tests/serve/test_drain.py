"""A server told to end finishes what it has begun, refuses what comes, and loses nothing."""

import json
import signal
import sqlite3
import threading
import time

import httpx
import pytest
from fastapi.testclient import TestClient

from tests.serve.server_process import WORDS, running
from tests.serve.test_app import error_of

ASK = {"model": "sawyer-rlf", "messages": [{"role": "user", "content": "hi"}], "stream": True}
WHOLE = "".join(WORDS).replace("w0 ", "w0  (rlf)", 1)


class Stream(threading.Thread):
    """A client that reads one streamed reply; ``begun`` is set at its first event."""

    def __init__(self, address: str) -> None:
        super().__init__()
        self.address, self.begun, self.lines, self.error = address, threading.Event(), [], None
        self.start()
        assert self.begun.wait(20)

    def run(self) -> None:
        try:
            with httpx.stream("POST", f"{self.address}/v1/chat/completions", json=ASK, timeout=60) as answer:
                for line in answer.iter_lines():
                    if line.startswith("data: "):
                        self.lines.append(line[6:])
                        self.begun.set()
        except httpx.HTTPError as error:
            self.error = error

    @property
    def text(self) -> str:
        chunks = [json.loads(line) for line in self.lines if line.startswith("{")]
        return "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks if chunk["choices"])


def stored(home) -> list[tuple]:
    with sqlite3.connect(home / "sawyer.db") as database:
        return database.execute("select text, finish_reason from completions").fetchall()


def test_a_running_stream_is_finished_and_newcomers_are_told_to_come_back(tmp_path):
    with running(tmp_path) as (address, process):
        with httpx.Client(base_url=address) as idle:  # a connection that was kept alive from before
            assert idle.get("/v1/models").status_code == 200
            stream = Stream(address)
            process.send_signal(signal.SIGTERM)
            time.sleep(0.3)
            for client in (idle, httpx.Client(base_url=address)):
                refused = client.post("/v1/chat/completions", json=ASK)
                assert (refused.status_code, error_of(refused)["code"]) == (503, "draining")
                assert refused.headers["Connection"] == "close" and int(refused.headers["Retry-After"]) >= 1
                assert refused.headers["X-Request-ID"]
            ready = httpx.get(f"{address}/readyz")
            assert (ready.status_code, ready.json()["status"]) == (503, "draining")
            assert httpx.get(f"{address}/healthz").status_code == 200
            assert "sawyer_draining 1.0" in httpx.get(f"{address}/metrics").text
        stream.join(30)
        assert stream.lines[-1] == "[DONE]" and stream.text == WHOLE
        ended = time.monotonic()
        assert process.wait(10) == 0
        assert time.monotonic() - ended < 5
    assert stored(tmp_path) == [(WHOLE, "stop")]
    log = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [line["status"] for line in log if line.get("route") == "/v1/chat/completions"] == [200]
    assert any("Ending: 1 running requests" in line["message"] for line in log)


def test_a_server_with_nothing_to_do_ends_at_once(tmp_path):
    with running(tmp_path) as (_, process):
        process.send_signal(signal.SIGTERM)
        assert process.wait(5) == 0


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT])
def test_a_server_whose_models_are_still_loading_ends_at_once(tmp_path, sent):
    with running(tmp_path, "--loading") as (address, process):
        assert httpx.get(f"{address}/readyz").json()["status"] == "loading"
        process.send_signal(sent)
        assert process.wait(10) == 0


@pytest.mark.slow
def test_what_takes_too_long_is_cut_and_what_was_said_is_kept(tmp_path):
    with running(tmp_path, "--drain-seconds", "0.5", "--delay", "1") as (address, process):
        stream = Stream(address)
        process.send_signal(signal.SIGTERM)
        assert process.wait(15) == 0
        stream.join(10)
    assert "[DONE]" not in stream.lines
    assert [reason for _, reason in stored(tmp_path)] == ["cancelled"]
    log = (tmp_path / "log.jsonl").read_text()
    assert "unfinished" in log and "Traceback" not in log


@pytest.mark.parametrize("second", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)])
def test_a_second_signal_ends_at_once(tmp_path, second):
    with running(tmp_path, "--delay", "1") as (address, process):
        stream = Stream(address)
        process.send_signal(signal.SIGTERM)
        time.sleep(0.3)
        process.send_signal(second)
        began = time.monotonic()
        assert process.wait(5) != 0
        assert time.monotonic() - began < 3
        stream.join(10)


def test_no_request_is_counted_for_ever(app, client, engine):
    drain = app.state.drain
    client.get("/v1/models")
    client.post("/v1/chat/completions", json=ASK)
    client.post("/v1/compare", content=b"{")
    engine.prepare = None
    assert client.post("/v1/chat/completions", json=ASK).status_code == 500
    assert drain.active == 0
    drain.begin()
    with TestClient(app) as other:
        assert other.get("/v1/models").status_code == 503
    assert drain.active == 0
