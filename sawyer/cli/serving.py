"""`sawyer demo`, `sawyer serve` and `sawyer ui`: the API, the page, or both in one process."""

import errno
import json
import logging
import os
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console

from sawyer.cli.remote import RemoteChoice, make_engine
from sawyer.cli.rounds import starter
from sawyer.errors import SawyerError, UsageError
from sawyer.home import Home
from sawyer.recipe import load_recipe

INTERRUPTED = 130  # as shells report Ctrl-C


def run_server(
    recipe_name: str,
    home_path: Path | None,
    *,
    host: str,
    port: int,
    with_page: bool,
    open_to_all: bool,
    drain_seconds: float,
    remote: RemoteChoice | None = None,
) -> None:
    """Serve a recipe until interrupted; with ``with_page`` the Gradio page at ``/`` beside the API.

    ``remote`` is the server that makes the replies; None: this process does.
    """
    from serve import logs
    from serve.access import access_for

    style = logs.style_from_environment()
    logs.configure(style)
    say = _say if style == "text" else logging.getLogger("sawyer.server").info
    recipe, home = load_recipe(recipe_name), Home.find(home_path).ensure()
    access = access_for(home.root, host, open_to_all=open_to_all)
    check_port(host, port)

    from serve.app import build_app
    from serve.server import DrainingServer, end_process_if_loading

    app = build_app(
        recipe,
        home,
        access=access,
        engine=make_engine(remote, recipe, home) if remote else None,
        start_round=starter(recipe, home),
    )
    local = "127.0.0.1" if host in ("0.0.0.0", "::", "localhost") else host
    if with_page:
        from ui.app import mount_ui

        key = access.keyring.issue("voter", "the page of this process", page=True)
        app = mount_ui(app, f"http://{local}:{port}", api_key=key, login=access.may_enter if access.guarded else None)
    what = "page" if with_page else "API"
    say(
        f"SAWYER ({recipe.name}): the {what} is at http://{local}:{port}; votes are kept in {home.root}. "
        f"{'An API key is asked for. ' if access.guarded else ''}Stop with Ctrl-C."
    )
    server = DrainingServer(app, app.state.drain, host=host, port=port, seconds=drain_seconds)
    watch = ReadyWatch(f"http://{local}:{port}", server, say)
    watch.start()
    server.run()
    _tell_of_round(recipe.name, home, say)
    if watch.failure:
        raise SawyerError(f"The model could not be loaded: {watch.failure}")
    end_process_if_loading(INTERRUPTED if server.interrupted else 0)
    if server.interrupted:
        raise KeyboardInterrupt


def _tell_of_round(recipe_name: str, home: Home, say: Callable[[str], None]) -> None:
    """Say that a round goes on, if one does: it has a process of its own, and nobody should wonder what that is."""
    from sawyer.rounds import RoundBook

    holder = RoundBook(home, recipe_name).lock.holder()
    if holder is not None and holder.number is not None:
        say(
            f"Round {holder.number} goes on by itself (process {holder.pid}); its state is in "
            f"{home.rounds / recipe_name / str(holder.number)}, and the next server shows it."
        )


class ReadyWatch(threading.Thread):
    """Waits until the server can answer, says so, and ends the server when the model cannot be loaded.

    ``failure`` holds the reason once that has happened.
    """

    def __init__(self, address: str, server: Any, say: Callable[[str], None]) -> None:
        super().__init__(daemon=True)
        self.address, self.server, self.say, self.failure = address, server, say, ""

    def run(self) -> None:
        """Poll ``/readyz`` twice a second."""
        while not self.server.should_exit:
            status, body = self._ask()
            if status == 200:
                self.say("Ready: the model is loaded.")
                return
            if body.get("status") == "failed":
                self.failure = str(body.get("detail") or "no reason was given")
                self.server.should_exit = True
                return
            time.sleep(0.5)

    def _ask(self) -> tuple[int, dict[str, Any]]:
        try:
            with urllib.request.urlopen(f"{self.address}/readyz", timeout=5) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            try:
                return error.code, json.load(error)
            except ValueError:
                return error.code, {}
        except (OSError, ValueError):  # not listening yet
            return 0, {}


def run_page(api: str, *, host: str, port: int, open_to_all: bool) -> None:
    """Serve the page alone, on the API at ``api``, with the key in ``SAWYER_API_KEY`` if that is set."""
    from serve.access import is_loopback
    from serve.hosts import HostMiddleware, hosts_from_environment

    key = os.environ.get("SAWYER_API_KEY", "").strip() or None
    if not api.startswith(("http://", "https://")):
        raise UsageError(f"--api takes an address such as http://127.0.0.1:8000; given: {api!r}.")
    if key and not open_to_all and not is_loopback(host):
        raise UsageError(
            f"The page would speak with the key in SAWYER_API_KEY for everybody who reaches {host}. Pass --open if "
            "that is meant, or leave out --host."
        )
    check_port(host, port)

    local, names = is_loopback(host) and not open_to_all, hosts_from_environment()

    from ui.app import serve_ui

    Console(stderr=True).print(f"The page is at http://{host}:{port}, its API at {api}. Stop with Ctrl-C.")
    serve_ui(api, host, port, api_key=key, guard=(lambda app: HostMiddleware(app, allowed=names)) if local else None)


def check_port(host: str, port: int) -> None:
    """Find out before the model is loaded whether the address can be had.

    Raises:
        UsageError: the port is taken, needs more rights, or the host is not an address of this machine.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            reasons = {
                errno.EADDRINUSE: f"Port {port} on {host} is in use by another program",
                errno.EACCES: f"Port {port} needs the rights of an administrator",
            }
            reason = reasons.get(error.errno or 0, f"The address {host}:{port} cannot be used ({error.strerror})")
            raise UsageError(f"{reason}. Choose another with --port, such as --port {min(port + 1, 65535)}.") from error


def _say(text: str) -> None:
    Console(stderr=True).print(text, highlight=False, soft_wrap=True)
