"""Which other web pages may use the API from a browser: none, unless they are listed."""

import os
import re
from collections.abc import Sequence

from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from sawyer.errors import UsageError
from serve.access import API_PREFIX

_ORIGIN = re.compile(r"https?://[a-z0-9.-]+(:[0-9]{1,5})?|https?://\[[0-9a-f:]+\](:[0-9]{1,5})?")
_SENT = ("Authorization", "Content-Type", "Idempotency-Key", "X-Request-ID")
_SHOWN = ("Retry-After", "X-Request-ID")


def origins_from_environment() -> list[str]:
    """``SAWYER_CORS_ORIGINS``: origins such as ``https://chat.example.org``, separated by commas; default: none.

    Raises:
        UsageError: one of them is no origin.
    """
    given = [part.strip() for part in os.environ.get("SAWYER_CORS_ORIGINS", "").split(",") if part.strip()]
    wrong = [origin for origin in given if not _ORIGIN.fullmatch(origin)]
    if wrong:
        # "*" as well: every page that somebody visits could then vote on a server of their own machine.
        raise UsageError(
            f"SAWYER_CORS_ORIGINS has {', '.join(map(repr, wrong))}. Allowed: origins as browsers send them, such as "
            "https://chat.example.org or http://localhost:3000 (no path, no slash at the end, lower case), separated "
            "by commas."
        )
    return given


class CorsMiddleware:
    """Answers browsers for the API's paths; a page mounted beside it belongs to this server alone."""

    def __init__(self, app: ASGIApp, *, origins: Sequence[str]) -> None:
        self.app = app
        # No credentials: there are no cookies here, and keys are sent by hand.
        self.api = CORSMiddleware(
            app, allow_origins=origins, allow_methods=("GET", "POST"), allow_headers=_SENT, expose_headers=_SHOWN
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        api = scope["type"] == "http" and scope["path"].startswith(API_PREFIX)
        await (self.api if api else self.app)(scope, receive, send)
