"""A server of its own for a measurement: `sawyer serve nano` on a free port with a home that is thrown away."""

import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Server:
    """A running server: where it answers, its process, and the file with its log."""

    host: str
    port: int
    process: subprocess.Popen
    log: Path

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"

    @property
    def resident_mib(self) -> float:
        """Resident memory of the process now."""
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text(encoding="ascii").split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 2**20

    def metric(self, name: str) -> float:
        """The sum of a metric over its labels."""
        text = urllib.request.urlopen(f"{self.url}/metrics", timeout=30).read().decode()
        return sum(
            float(line.rpartition(" ")[2]) for line in text.splitlines() if line.startswith((name + " ", name + "{"))
        )

    def rows_left(self, seconds: float = 10.0) -> float:
        """Replies that are made or wait, once there are none any more or ``seconds`` have passed."""
        deadline = time.monotonic() + seconds
        while True:
            rows = self.metric("sawyer_rows_running") + self.metric("sawyer_rows_waiting")
            if not rows or time.monotonic() > deadline:
                return rows
            time.sleep(0.05)


@contextmanager
def serving(
    recipe: str = "nano", patience: float = 180.0, *, home: Path | None = None, **environment: str
) -> Iterator[Server]:
    """Serve ``recipe`` without limits for each client; the server has ended when the block is left.

    Without ``home`` it has one that is thrown away.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        where = home or Path(folder)
        log = where / "server.log"
        command = [sys.executable, "-m", "sawyer.cli.app", "serve", recipe, "--port", str(port), "--home", str(where)]
        settings = {"PYTHONPATH": str(ROOT), "SAWYER_RATE_LIMIT": "off", "SAWYER_LOG": "json", **environment}
        with open(log, "w", encoding="utf-8") as stream:
            process = subprocess.Popen(command, cwd=ROOT, env={**os.environ, **settings}, stderr=stream)
        server = Server("127.0.0.1", port, process, log)
        try:
            _wait(server, patience)
            yield server
        finally:
            process.terminate()
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _wait(server: Server, patience: float) -> None:
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        if server.process.poll() is not None:
            raise SystemExit(f"The server ended: {server.log.read_text(encoding='utf-8')[-2000:]}")
        try:
            urllib.request.urlopen(f"{server.url}/readyz", timeout=5)
            return
        except (urllib.error.URLError, OSError):
            time.sleep(0.3)
    raise SystemExit(f"The server was not ready after {patience:g} seconds.")
