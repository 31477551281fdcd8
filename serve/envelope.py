"""What surrounds every request: an id, security headers, a count, a line in the log, and a last net under it all."""

import hashlib
import logging
import re
import secrets
import time
import uuid
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve.access import API_PREFIX, Caller, caller_of
from serve.errors import from_exception
from serve.metrics import Metrics
from serve.request_record import RequestRecord, begin
from serve.sse import CLIENT_LEFT

logger = logging.getLogger("sawyer.access")

PROBES = ("/healthz", "/readyz", "/metrics")
PLAIN_ROUTES = (*PROBES, "/openapi.json")
_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_METHODS = ("GET", "POST", "HEAD", "OPTIONS", "PUT", "PATCH", "DELETE")


class EnvelopeMiddleware:
    """Outermost middleware. Paths that are not the API's (a page mounted beside it) get the harmless headers only.

    Args:
        log_bodies: prompts and replies go into the log.
    """

    def __init__(self, app: ASGIApp, *, metrics: Metrics, log_bodies: bool = False) -> None:
        self.app, self.metrics, self.log_bodies = app, metrics, log_bodies
        # Addresses are personal: their hashes tell one client from another until the process ends, and no longer.
        self._salt = secrets.token_bytes(16)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        api = scope["path"].startswith(API_PREFIX) or scope["path"] in PLAIN_ROUTES
        given = Headers(scope=scope).get("x-request-id", "")
        record = RequestRecord(given if _ID.fullmatch(given) else uuid.uuid4().hex, self.log_bodies)
        begin(record)
        status, whole, begun = 0, False, time.monotonic()

        async def sending(message: Message) -> None:
            nonlocal status, whole
            if message["type"] == "http.response.start":
                status = message["status"]
                _add_headers(MutableHeaders(scope=message), record.request_id, api)
            await send(message)
            whole = message["type"] == "http.response.body" and not message.get("more_body", False)

        self.metrics.requests_open.inc(api)
        try:
            await self.app(scope, receive, sending)
        except Exception as error:
            if status:  # too late for another answer; the server closes the connection
                raise
            await from_exception(error).response()(scope, receive, sending)
        finally:
            self.metrics.requests_open.dec(api)
            if api:
                self._tell(scope, record, status if whole else CLIENT_LEFT, time.monotonic() - begun)

    def _tell(self, scope: Scope, record: RequestRecord, status: int, seconds: float) -> None:
        # The route's template, never the path: a client could make up endless paths.
        route = getattr(scope.get("route"), "path", "other")
        method = scope["method"] if scope["method"] in _METHODS else "other"
        self.metrics.requests.labels(method, route, str(status)).inc()
        self.metrics.latency.labels(route).observe(seconds)
        level = logging.DEBUG if route in PROBES else logging.INFO
        if not logger.isEnabledFor(level):
            return
        client, stages = self._client(caller_of(scope)), ",".join(record.stages)
        fields: dict[str, Any] = {
            "request_id": record.request_id,
            "method": method,
            "route": route,
            "status": status,
            "seconds": round(seconds, 4),
            "client": client,
        }
        if record.stages:
            fields |= {"stage": stages, "tokens": record.tokens}
        if record.prompts:
            fields |= {"prompts": record.prompts, "replies": record.replies}
        made = f" {stages} {record.tokens} tokens" if record.stages else ""
        text = f"{method} {route} {status} {seconds:.3f}s{made} {client} {record.request_id}"
        logger.log(level, "%s", text, extra={"fields": fields})

    def _client(self, caller: Caller) -> str:
        parts = [caller.key_id] if caller.key_id else []
        if caller.address:
            parts.append(hashlib.blake2b(caller.address.encode(), key=self._salt, digest_size=6).hexdigest())
        return "/".join(parts)


def _add_headers(headers: MutableHeaders, request_id: str, api: bool) -> None:
    headers["X-Request-ID"] = request_id
    headers["X-Content-Type-Options"] = "nosniff"
    headers["Referrer-Policy"] = "no-referrer"
    if api:  # nothing the API says is a page
        headers["X-Frame-Options"] = "DENY"
        headers["Content-Security-Policy"] = "default-src 'none'; frame-ancestors 'none'"
        headers["Cross-Origin-Resource-Policy"] = "same-origin"
        headers.setdefault("Cache-Control", "no-store")
