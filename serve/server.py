"""The process around the application: uvicorn, told by a signal to finish what runs before it ends."""

import logging
import os
import signal
import socket
import threading
import time
from types import FrameType

import uvicorn
from starlette.types import ASGIApp

from serve.drain import Drain

logger = logging.getLogger("sawyer.server")

DRAIN_SECONDS = 30.0
_LAST_SECONDS = 3  # after draining: for answers on their way out, and pages that listen for ever


def end_process_if_loading(status: int) -> None:
    """At the end of a program: leave at once, with ``status``, where a thread of ours is still loading a model.

    Python would wait for it, or take itself down around it, which the libraries that load do not survive in order. All
    that is to be kept has been when the server's application has ended.
    """
    if any(thread.name.startswith(("sawyer-engine", "sawyer-scorer")) for thread in threading.enumerate()):
        logger.info("Ended while a model was being loaded.")
        logging.shutdown()
        os._exit(status)


class DrainingServer(uvicorn.Server):
    """Drains at the first SIGTERM or SIGINT and ends at once at the second.

    While it drains, it goes on listening, so that newcomers are told to come back (503) and probes hear it
    (uvicorn alone closes the door first). It ends when the last request is answered, at the latest after ``seconds``.

    Attributes:
        interrupted: the first signal was SIGINT, as from Ctrl-C.
    """

    def __init__(self, app: ASGIApp, drain: Drain, *, host: str, port: int, seconds: float = DRAIN_SECONDS) -> None:
        config = uvicorn.Config(
            app,
            host=host,
            port=port,
            log_config=None,  # serve.logs has set up logging already
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=_LAST_SECONDS,
        )
        super().__init__(config)
        self.drain, self.seconds, self.interrupted = drain, seconds, False
        self._deadline, self._told = 0.0, False

    def run(self, sockets: list[socket.socket] | None = None) -> None:
        """Serve until told to end.

        Raises:
            SystemExit: 1, a second signal cut it short (where that signal has not ended the process by itself).
        """
        super().run(sockets)
        if self.force_exit:  # asyncio sometimes swallows the SIGINT that uvicorn raises again
            raise SystemExit(1)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Uvicorn's handler of both signals; it runs on the main thread."""
        if self.drain.draining or not self.started:
            self.should_exit = self.force_exit = True
            super().handle_exit(sig, frame)  # which raises the signal again in the end: the process dies of it
            return
        self.interrupted = sig == signal.SIGINT
        self._deadline = time.monotonic() + self.seconds
        self.drain.begin()

    async def on_tick(self, counter: int) -> bool:
        """Uvicorn's heartbeat, ten times a second; True ends the server."""
        if self.drain.draining and not self.should_exit:
            self._watch_drain()
        return await super().on_tick(counter)

    def _watch_drain(self) -> None:
        if not self._told:
            self._told = True
            what = (
                f"{self.drain.active} running requests may take {self.seconds:g} seconds more; "
                if self.drain.active
                else ""
            )
            logger.info("Ending: %snothing new is taken. A second signal ends at once.", what)
        if self.drain.active == 0:
            self.should_exit = True
        elif time.monotonic() > self._deadline:
            logger.warning("Ending with %d requests unfinished after %g seconds.", self.drain.active, self.seconds)
            self.should_exit = True
