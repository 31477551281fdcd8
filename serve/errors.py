"""Every error a client can see, in OpenAI's shape: ``{"error": {"message", "type", "param", "code"}}``."""

import logging
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Match

from sawyer.errors import StoreError
from sawyer.store.errors import Conflict, Invalid, NotFound, NotShown
from sawyer.types import ErrorBody, ErrorDetail

logger = logging.getLogger(__name__)

_TYPES = {401: "authentication_error", 403: "permission_error", 404: "not_found_error", 429: "rate_limit_error"}
_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
_SHOWN = 120  # characters of an offending value that are repeated in a message
_START = r"(?:~|\.{1,2})?/"
_PATH = re.compile(
    rf"""(['"]){_START}.*?\1"""  # in quotes, spaces included
    rf"""|(?<![\w.:/~]){_START}[^\s'",;()]*[^\s'",;().:]"""  # absolute, or relative to here, the user's home
    r"""|(?<![\w.:/~-])[\w.-]+(?:/[\w.-]*\w){2,}"""  # names within names within names; a model of the hub has one slash
)


class ApiError(Exception):
    """A request that cannot be answered.

    Args:
        status: HTTP status. message: one paragraph that says what was given, what is allowed and what to change.
        code: a word for programs. param: the request's key at fault. retry_after: seconds after which to try again.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str | None = None,
        param: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.code, self.param, self.retry_after = status, code, param, retry_after

    @property
    def detail(self) -> ErrorDetail:
        kind = _TYPES.get(self.status, "invalid_request_error" if self.status < 500 else "server_error")
        return ErrorDetail(message=str(self), type=kind, param=self.param, code=self.code)

    @property
    def headers(self) -> dict[str, str]:
        # Whole seconds, at least one: https://www.rfc-editor.org/rfc/rfc9110#field.retry-after
        return {} if self.retry_after is None else {"Retry-After": str(max(1, round(self.retry_after + 0.49)))}

    def response(self) -> Response:
        return JSONResponse(ErrorBody(error=self.detail).model_dump(), self.status, self.headers)


class ContextExceeded(ApiError):
    """The prompt leaves no room for a reply."""

    def __init__(self, tokens: int, context: int, stage: str, *, param: str = "messages") -> None:
        super().__init__(
            400,
            f"The prompt has {tokens} tokens for stage {stage}; this model reads at most {context} tokens, prompt and "
            f"reply together. Shorten the {param}"
            + (", leave out old ones, or begin a new conversation." if param == "messages" else "."),
            code="context_length_exceeded",
            param=param,
        )


class EngineBusy(ApiError):
    """The queue of the engine is full."""

    def __init__(self, waiting: int, retry_after: float) -> None:
        super().__init__(
            429,
            f"The server is busy: {waiting} replies are waiting already. Nothing was started; try again in a moment.",
            code="engine_busy",
            retry_after=retry_after,
        )


class NotReady(ApiError):
    """The model is still being loaded, could not be loaded, or is being shut down."""

    def __init__(self, message: str, retry_after: float | None = 2.0, *, code: str = "not_ready") -> None:
        super().__init__(503, message, code=code, retry_after=retry_after)


def unknown_stage(name: str, allowed: Sequence[str], *, param: str = "model") -> ApiError:
    """404 for a model or stage that this server does not have."""
    listed = ", ".join(allowed) or "none yet"
    text = f"There is no {param} {name[:_SHOWN]!r} here. Available: {listed} (see GET /v1/models)."
    return ApiError(404, text, code="model_not_found", param=param)


def from_exception(error: Exception) -> ApiError:
    """The client's view of any exception. What nobody foresaw is logged with its traceback and told as a 500."""
    if isinstance(error, ApiError):
        return error
    if isinstance(error, NotFound):
        return ApiError(404, str(error), code="not_found")
    if isinstance(error, Conflict):
        return ApiError(409, str(error), code="idempotency_conflict")
    if isinstance(error, NotShown):
        return ApiError(400, str(error), code="invalid_choice", param=error.param)
    if isinstance(error, Invalid):
        return ApiError(400, str(error), code="invalid_value")
    if isinstance(error, StoreError):
        logger.error("the feedback store failed: %s", error)
        return ApiError(
            503,
            "The feedback store does not work at the moment, so nothing was stored. Try again; the server's log says "
            "what is wrong.",
            code="store_unavailable",
            retry_after=5,
        )
    logger.error("unexpected error", exc_info=error)
    text = "Something went wrong inside the server; the fault is not in your request. The server's log has more."
    return ApiError(500, text, code="internal_error")


def without_paths(text: str) -> str:
    """A message about the server's own files for anybody to read: a path tells strangers of users and folders."""
    # These first and whole: a name with a space in it would end the pattern's match.
    for place in sorted({str(Path.home()), str(Path.cwd())} - {"/"}, key=len, reverse=True):
        text = text.replace(place, "~")
    return _PATH.sub("[path]", text)


def from_validation(problems: Sequence[dict[str, Any]]) -> ApiError:
    """All of pydantic's complaints about a request as one 400. Values are repeated in short."""
    told = [_describe(problem) for problem in problems[:8]]
    if len(problems) > 8:
        told.append(f"and {len(problems) - 8} more")
    missing = all(problem["type"] == "missing" for problem in problems)
    code = "missing_required_parameter" if missing else "invalid_request"
    first = _key(problems[0]["loc"]) if problems else ""
    return ApiError(400, "The request cannot be used: " + "; ".join(told) + ".", code=code, param=first or None)


def _key(location: Sequence[str | int]) -> str:
    parts = list(location)
    if parts and parts[0] in ("body", "query", "path", "header", "cookie"):
        parts = parts[1:]
    return ".".join(str(part) for part in parts)[:_SHOWN]


def _describe(problem: dict[str, Any]) -> str:
    if problem["type"] == "json_invalid":
        return f"the body is not JSON ({problem.get('ctx', {}).get('error', 'syntax error')})"
    key = _key(problem["loc"]) or "the body"
    text = problem["msg"].removeprefix("Value error, ")
    if not text[1:2].isupper():  # a name in capitals stays one
        text = text[:1].lower() + text[1:]
    given = problem.get("input")
    if problem["type"] == "missing" or isinstance(given, dict | list | bytes):
        return f"{key}: {text}"
    # ascii() because a value may hold what UTF-8 cannot, such as a lone surrogate.
    return f"{key}: {text} (given {ascii(given)[:_SHOWN]})"


def install(app: FastAPI, routes: Sequence[BaseRoute]) -> None:
    """Make the application, which has all its ``routes`` already, answer every error in OpenAI's shape."""

    async def known(_: Request, error: Exception) -> Response:
        return from_exception(error).response()

    async def invalid(_: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError), error
        return from_validation(error.errors()).response()

    async def http(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException), error
        texts = {
            404: f"There is no route {request.url.path[:_SHOWN]!r} here. See GET /openapi.json.",
            405: f"{request.method[:16]} is not allowed on {request.url.path[:_SHOWN]!r}.",
            400: f"The request cannot be used: {error.detail}.",
        }
        text = texts.get(error.status_code, str(error.detail))
        code = {404: "unknown_route", 405: "method_not_allowed"}.get(error.status_code, "invalid_request")
        response = ApiError(error.status_code, text, code=code).response()
        response.headers.update(error.headers or {})
        return response

    @app.api_route("/v1/{path:path}", methods=list(_METHODS), include_in_schema=False)
    async def unknown(request: Request) -> Response:
        # Without this, a page mounted at "/" would answer for routes of the API that do not exist.
        allowed = {
            method
            for route in routes
            if route.matches(request.scope)[0] is Match.PARTIAL
            for method in (getattr(route, "methods", None) or ())
        }
        if allowed:
            raise HTTPException(405, headers={"Allow": ", ".join(sorted(allowed))})
        raise HTTPException(404)

    app.add_exception_handler(ApiError, known)
    app.add_exception_handler(StoreError, known)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(HTTPException, http)
