"""What every client of the API stands on: the connection, one question and its answer, failures as sentences."""

import ipaddress
from typing import Any, TypeVar

import httpx
from pydantic import BaseModel, ValidationError

from ui import failures, texts
from ui.failures import ApiFailure

Model = TypeVar("Model", bound=BaseModel)

# A stage may wait in the server's queue before its first token, so silence is tolerated for long; a server that is
# not there at all should be noticed at once.
TIMEOUT = httpx.Timeout(30.0, connect=5.0, read=180.0)


def connect(
    api_url: str, transport: httpx.AsyncBaseTransport | None = None, api_key: str | None = None
) -> httpx.AsyncClient:
    """A client of the API at ``api_url``. ``transport`` replaces the network; ``api_key`` is the page's own."""
    base = httpx.URL(api_url.rstrip("/"))
    return httpx.AsyncClient(
        base_url=base,
        headers={"Authorization": f"Bearer {api_key}"} if api_key else {},
        timeout=TIMEOUT,
        transport=transport,
        # A proxy from the environment must not stand between two halves of the same process.
        trust_env=not _is_loopback(base.host),
    )


async def answer(http: httpx.AsyncClient, method: str, path: str, **options: Any) -> httpx.Response:
    """One request and its whole answer; ``options`` are httpx's.

    Raises:
        ApiFailure: unreachable, or an answer of status 400 or above.
    """
    try:
        response = await http.request(method, path, **options)
    except httpx.HTTPError as error:
        raise failures.from_transport(error, answering=False) from error
    if response.status_code >= 400:
        raise failures.from_response(response)
    return response


def parsed(model: type[Model], response: httpx.Response) -> Model:
    """The answer's body as ``model``.

    Raises:
        ApiFailure: it is something else.
    """
    try:
        return model.model_validate_json(response.content)
    except ValidationError as error:
        raise ApiFailure(texts.GARBLED, response.status_code) from error


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
