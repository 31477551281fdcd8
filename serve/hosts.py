"""Under which names an open server of this machine answers: its own, so that no web page can pass for it.

A page that somebody visits can point its own name at 127.0.0.1 once it is loaded (DNS rebinding). For the browser, what
answers there is then the page's own server, and neither CORS nor the loopback address keeps it out. The name it asks
for stays the page's, and that is what is looked at.
"""

import os
import re

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from sawyer.errors import UsageError
from serve.errors import ApiError

VARIABLE = "SAWYER_ALLOWED_HOSTS"

_NAME = re.compile(r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?")
# Browsers and resolvers keep names below .localhost on this machine (RFC 6761); all of 127.0.0.0/8 is the loopback.
_OWN = re.compile(r"(?:[a-z0-9.-]+\.)?localhost|127(?:\.[0-9]{1,3}){3}|\[::1\]")


def hosts_from_environment() -> frozenset[str]:
    """``SAWYER_ALLOWED_HOSTS``: more names, such as a proxy's on this machine, with commas between; default: none.

    Raises:
        UsageError: one of them is no name of a host.
    """
    given = [part.strip() for part in os.environ.get(VARIABLE, "").split(",") if part.strip()]
    wrong = [name for name in given if not _NAME.fullmatch(name)]
    if wrong:
        raise UsageError(
            f"{VARIABLE} has {', '.join(map(repr, wrong))}. Allowed: names of hosts such as chat.example.org (no "
            "http://, no port, no *, lower case), separated by commas."
        )
    return frozenset(given)


class HostMiddleware:
    """Turns away whatever was asked under a name that is not this machine's own and not among ``allowed``."""

    def __init__(self, app: ASGIApp, *, allowed: frozenset[str] = frozenset()) -> None:
        self.app, self.allowed = app, allowed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] in ("http", "websocket"):
            host = Headers(scope=scope).get("host", "localhost")
            if not self._known(host):
                await _refused(host).response()(scope, receive, send)
                return
        await self.app(scope, receive, send)

    def _known(self, host: str) -> bool:
        name = re.sub(r":[0-9]*$", "", host.lower())
        return bool(_OWN.fullmatch(name)) or name in self.allowed


def _refused(host: str) -> ApiError:
    text = (
        f"This server answers this machine alone, under names such as localhost and 127.0.0.1, and was asked for "
        f"{host[:100]!r}. (Whoever runs it can allow that name with {VARIABLE}, or let others in with --host and keys.)"
    )
    return ApiError(403, text, code="host_not_allowed")
