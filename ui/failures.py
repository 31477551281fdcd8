"""What can go wrong between the page and the API, always as a sentence a visitor can act on."""

import math

import httpx
from pydantic import ValidationError

from sawyer.types import ErrorBody, ErrorDetail
from ui import texts


class ApiFailure(Exception):
    """A request failed. ``str(failure)`` is the plain sentence to show; ``status`` is None without an answer."""

    def __init__(self, sentence: str, status: int | None = None):
        super().__init__(sentence)
        self.status = status


def from_response(response: httpx.Response) -> ApiFailure:
    """The failure behind an answer of status 400 or above, whose body has been read.

    Bodies that do not have OpenAI's error shape (a proxy's HTML page, FastAPI's ``detail``) fall back to the
    status line, so that markup is never shown to anybody.
    """
    detail = error_detail(response.content)
    if response.status_code == 429:
        return ApiFailure(texts.RATE_LIMITED.format(when=_when(response.headers.get("Retry-After"))), 429)
    if response.status_code == 503:
        return ApiFailure(detail.message if detail else texts.SERVER_LOADING, 503)
    if detail and detail.code == "context_length_exceeded":
        return ApiFailure(texts.CHAT_TOO_LONG, response.status_code)
    message = detail.message if detail else f"{response.status_code} {response.reason_phrase}".strip()
    if response.status_code >= 500:
        return ApiFailure(texts.SERVER_TROUBLE.format(message=message), response.status_code)
    return ApiFailure(message, response.status_code)


def from_transport(error: httpx.HTTPError, *, answering: bool) -> ApiFailure:
    """The failure behind a connection error. ``answering``: the server had begun to answer before it."""
    if isinstance(error, httpx.ReadTimeout):
        return ApiFailure(texts.SILENT)
    return ApiFailure(texts.BROKEN_OFF if answering else texts.SERVER_AWAY)


def from_validation(error: ValidationError) -> ApiFailure:
    """The failure behind a request that this page itself found wrong, naming the first faulty setting."""
    first = error.errors()[0]
    setting = ".".join(str(part) for part in first["loc"]) or "request"
    return ApiFailure(texts.BAD_SETTING.format(setting=setting, problem=first["msg"]))


def error_detail(body: bytes | str) -> ErrorDetail | None:
    """The inside of OpenAI's error shape, or None when the body is something else."""
    try:
        return ErrorBody.model_validate_json(body).error
    except ValidationError:
        return None


def _when(retry_after: str | None) -> str:
    """Retry-After in words; its other form, a date, is rare enough to be just a moment."""
    try:
        seconds = math.ceil(float(retry_after or ""))
    except (ValueError, OverflowError):
        return texts.IN_A_MOMENT
    return texts.IN_SECONDS.format(seconds=seconds) if seconds > 1 else texts.IN_A_MOMENT
