"""What the browser may do on the page: an ASGI layer that adds a content security policy and drops foreign links."""

import re

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

# Gradio itself needs inline scripts and eval (its HTML templates are compiled in the browser). What the policy
# guarantees is that nothing on the page, whoever wrote it, can load from or talk to any other server.
POLICY = "; ".join(
    (
        "default-src 'self'",
        "script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:",
        "style-src 'self' 'unsafe-inline'",
        "img-src 'self' data: blob:",
        "font-src 'self' data:",
        "connect-src 'self' data: blob:",
        "worker-src 'self' blob:",
        "object-src 'none'",
        "base-uri 'self'",
        "form-action 'self'",
        "frame-ancestors 'self'",
    )
)

# Link previews that Gradio's template puts in: its own picture on a foreign server, "Click to try out the app!".
_PREVIEW = re.compile(rb'<meta\s+(?:property="og:|name="twitter:)[^>]*>\s*')


class PageShell:
    """Wraps ``app``; only the HTML documents at ``paths`` are touched, everything else streams through."""

    def __init__(self, app: ASGIApp, paths: tuple[str, ...] = ("/", "/board", "/review")):
        self._app = app
        self._paths = paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] not in self._paths:
            await self._app(scope, receive, send)
            return
        await self._app(scope, receive, _Document(send))


class _Document:
    """A ``send`` that holds one HTML answer back until it is whole."""

    def __init__(self, send: Send):
        self._send = send
        self._start: Message | None = None
        self._body = b""

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            if headers.get("content-type", "").startswith("text/html") and "content-encoding" not in headers:
                self._start = message
                return
        if self._start is None or message["type"] != "http.response.body":
            await self._send(message)
            return
        self._body += message.get("body", b"")
        if message.get("more_body", False):
            return
        body = _PREVIEW.sub(b"", self._body)
        headers = MutableHeaders(scope=self._start)
        headers["content-security-policy"] = POLICY
        headers["referrer-policy"] = "no-referrer"
        headers["x-content-type-options"] = "nosniff"
        headers["content-length"] = str(len(body))
        await self._send(self._start)
        await self._send({"type": "http.response.body", "body": body})
