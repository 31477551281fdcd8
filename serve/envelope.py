"""What surrounds every request: an id, security headers, a count, and a last net under what nobody foresaw."""

import logging
import re
import time
import uuid

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve.access import API_PREFIX
from serve.errors import from_exception
from serve.metrics import Metrics

logger = logging.getLogger("sawyer.access")

PLAIN_ROUTES = ("/healthz", "/readyz", "/metrics", "/openapi.json")
_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_METHODS = ("GET", "POST", "HEAD", "OPTIONS", "PUT", "PATCH", "DELETE")


class EnvelopeMiddleware:
    """Outermost middleware. Paths that are not the API's (a page mounted beside it) get the harmless headers only."""

    def __init__(self, app: ASGIApp, *, metrics: Metrics) -> None:
        self.app, self.metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        api = scope["path"].startswith(API_PREFIX) or scope["path"] in PLAIN_ROUTES
        given = Headers(scope=scope).get("x-request-id", "")
        request_id = given if _ID.fullmatch(given) else uuid.uuid4().hex
        status, begun = 0, time.monotonic()

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                _add_headers(MutableHeaders(scope=message), request_id, api)
            await send(message)

        try:
            await self.app(scope, receive, sending)
        except Exception as error:
            if status:  # too late for another answer; the server closes the connection
                raise
            await from_exception(error).response()(scope, receive, sending)
        finally:
            if api:
                self._count(scope, status, time.monotonic() - begun, request_id)

    def _count(self, scope: Scope, status: int, seconds: float, request_id: str) -> None:
        # The route's template, never the path: a client could make up endless paths.
        route = getattr(scope.get("route"), "path", "other")
        method = scope["method"] if scope["method"] in _METHODS else "other"
        self.metrics.requests.labels(method, route, str(status or 499)).inc()
        self.metrics.latency.labels(route).observe(seconds)
        logger.info("%s %s %s %.3fs %s", method, route, status or 499, seconds, request_id)


def _add_headers(headers: MutableHeaders, request_id: str, api: bool) -> None:
    headers["X-Request-ID"] = request_id
    headers["X-Content-Type-Options"] = "nosniff"
    headers["Referrer-Policy"] = "no-referrer"
    if api:  # nothing the API says is a page
        headers["X-Frame-Options"] = "DENY"
        headers["Content-Security-Policy"] = "default-src 'none'; frame-ancestors 'none'"
        headers["Cross-Origin-Resource-Policy"] = "same-origin"
        headers.setdefault("Cache-Control", "no-store")
