"""Who asks, and may they? Each request to the API gets a caller: the holder of a key, or anybody where it is open."""

import ipaddress
from dataclasses import dataclass
from pathlib import Path

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from sawyer.errors import UsageError
from serve.errors import ApiError
from serve.keys import ROLES, KeyFile, Keyring, Role

API_PREFIX = "/v1/"
ADMIN_PREFIX = "/v1/admin/"
FEEDBACK_PREFIX = "/v1/feedback/"

_SCOPE = "sawyer.caller"


@dataclass(frozen=True)
class Caller:
    """Who a request is from.

    Attributes:
        address: of the peer, or of the visitor for whom a page asks; None where a key alone counts.
        key_id: of the key, if one was given.
    """

    address: str | None
    role: Role
    key_id: str | None = None

    @property
    def client(self) -> str:
        """Whose limits the request counts against: a key, an address, or both for a visitor of a page."""
        return " ".join(part for part in (self.key_id, self.address) if part)


def role_needed(method: str, path: str) -> Role | None:
    """The least role that may ask this, None where anybody may. Health is for probes, which have no keys."""
    if path.startswith(ADMIN_PREFIX):
        return "admin"
    if path.startswith(FEEDBACK_PREFIX) and method not in ("GET", "HEAD"):
        return "voter"
    return "reader" if path.startswith(API_PREFIX) or path == "/metrics" else None


class Access:
    """The rule of one server.

    Args:
        keyring: the keys it accepts.
        guarded: whether a key is needed. Otherwise everybody is a voter, and a key only adds to that.
        local: whether being on this machine is all that lets one in, so that no other name may pass for it.
    """

    def __init__(self, keyring: Keyring | None = None, *, guarded: bool = False, local: bool = False) -> None:
        self.keyring, self.guarded, self.local = keyring or Keyring(), guarded, local

    def admit(self, scope: Scope) -> Caller:
        """The caller of a request.

        Raises:
            ApiError: 401 without a valid key where one is needed, 403 when the key's role is too small.
        """
        headers, address = Headers(scope=scope), address_of(scope)
        needed = role_needed(scope["method"], scope["path"])
        if needed is None:
            return Caller(address, "reader")
        text = _bearer(headers)
        key = self.keyring.find(text) if text else None
        if key is None:
            return self._stranger(address, needed, given=bool(text))
        if not key.allows(needed):
            message = f"This takes a key of role {needed}; the key {key.id} has role {key.role}."
            raise ApiError(403, message, code="insufficient_role")
        return Caller(_visitor(headers, address) if key.page else None, key.role, key.id)

    def may_enter(self, _user: str, text: str) -> bool:
        """Whether a visitor of the page who gives this key as password may use it. The user's name is free."""
        key = self.keyring.find(text)
        return key is not None and key.allows("voter")

    def _stranger(self, address: str, needed: Role, *, given: bool) -> Caller:
        if not self.guarded and needed != "admin":
            return Caller(address, "voter")
        if given:
            raise Unauthorized("The API key is not known here: it is misspelt or was revoked.", "invalid_api_key")
        raise Unauthorized(
            "This server needs an API key: send the header `Authorization: Bearer sk-sawyer-…`. Whoever runs the "
            "server makes one with `sawyer keys add`.",
            "missing_api_key",
        )


class Unauthorized(ApiError):
    """No key, or none that is known."""

    def __init__(self, message: str, code: str) -> None:
        super().__init__(401, message, code=code)

    @property
    def headers(self) -> dict[str, str]:
        # https://www.rfc-editor.org/rfc/rfc6750#section-3
        fault = ', error="invalid_token"' if self.code == "invalid_api_key" else ""
        return {"WWW-Authenticate": f'Bearer realm="sawyer"{fault}'}


class AccessMiddleware:
    """Turns strangers away before anything of their request is read."""

    def __init__(self, app: ASGIApp, *, access: Access) -> None:
        self.app, self.access = app, access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            try:
                scope[_SCOPE] = self.access.admit(scope)
            except ApiError as error:
                await error.response()(scope, receive, send)
                return
        await self.app(scope, receive, send)


def caller_of(scope: Scope) -> Caller:
    """The caller that the middleware found; before it has run, the address alone."""
    return scope.get(_SCOPE) or Caller(address_of(scope), "reader")


def access_for(home: Path, host: str, *, open_to_all: bool) -> Access:
    """The rule for a server of this home that listens on ``host``.

    Without keys, a server is open to its own machine only, unless that is asked for.

    Raises:
        UsageError: others could reach it, there is no key, and ``open_to_all`` is not set.
        SawyerError: the keys cannot be read.
    """
    file = KeyFile(home)
    keys = file.load()
    if not keys and not open_to_all and not is_loopback(host):
        raise UsageError(
            f"--host {host} lets other machines in, and there is no API key in {file.path}. Make one with "
            f"`sawyer keys add --role voter` (roles: {', '.join(ROLES)}), or pass --open to let in everybody who "
            "reaches this address."
        )
    return Access(Keyring(file), guarded=bool(keys) and not open_to_all, local=not keys and not open_to_all)


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches ``host``."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def address_of(scope: Scope) -> str:
    """The peer's address as the server sees it; an IPv6 home network (/64) is one client.

    Behind a proxy on the same machine, uvicorn has already put the address of ``X-Forwarded-For`` in its place.
    """
    return _network(str((scope.get("client") or ("unknown", 0))[0]))


def _network(host: str) -> str:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    if isinstance(address, ipaddress.IPv6Address):
        return str(address.ipv4_mapped or ipaddress.ip_network((address, 64), strict=False))
    return host


def _visitor(headers: Headers, address: str) -> str:
    # The last address is the one that the page itself added; those before it are what the visitor claims.
    visitor = headers.get("x-forwarded-for", "").rpartition(",")[2].strip()
    try:
        ipaddress.ip_address(visitor)
    except ValueError:
        return address
    return _network(visitor)


def _bearer(headers: Headers) -> str:
    scheme, _, text = headers.get("authorization", "").partition(" ")
    return text.strip() if scheme.lower() == "bearer" else ""
