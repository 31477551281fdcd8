"""API keys: made once, shown once, kept as digests in ``keys.json`` of the home."""

import fcntl
import hashlib
import hmac
import json
import logging
import os
import secrets
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from sawyer.errors import SawyerError, UsageError

logger = logging.getLogger(__name__)

FILE = "keys.json"
PREFIX = "sk-sawyer-"

Role = Literal["reader", "voter", "admin"]
ROLES: tuple[Role, ...] = get_args(Role)
"""From least to most: a reader asks, a voter gives feedback as well, an admin does everything."""


@dataclass(frozen=True)
class Key:
    """What is known of a key; the key itself is not kept.

    Attributes:
        id: the part of the key that may be shown, in lists and logs.
        digest: SHA-256 of the whole key, in hexadecimal. No salt and no slow function: they protect texts that
            people choose and that can be guessed, whereas these keys are 256 random bits, which cannot be searched.
        page: the key of a page, which speaks for many visitors and names each in ``X-Forwarded-For``.
        created: seconds since 1970.
    """

    id: str
    role: Role
    digest: str
    label: str = ""
    page: bool = False
    created: float = field(default_factory=time.time)

    def allows(self, role: Role) -> bool:
        """Whether this key may do what ``role`` may."""
        return ROLES.index(self.role) >= ROLES.index(role)


def make_key(role: Role, label: str = "", *, page: bool = False) -> tuple[Key, str]:
    """A new key and its text, ``sk-sawyer-<id>-<secret>``, which is nowhere else from now on."""
    key_id = secrets.token_hex(4)
    text = f"{PREFIX}{key_id}-{secrets.token_urlsafe(32)}"
    return Key(key_id, role, _digest(text), label, page), text


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


class KeyFile:
    """The keys of a home. Several processes may read and change the file; a running server sees changes at once.

    Raises:
        SawyerError: from every method, when the file is damaged or cannot be read or written.
    """

    def __init__(self, home: Path) -> None:
        self.path = home / FILE

    def load(self) -> list[Key]:
        """All keys, oldest first; none when there is no file."""
        try:
            entries = json.loads(self.path.read_text(encoding="utf-8"))["keys"]
            keys = [Key(**entry) for entry in entries]
            if any(key.role not in ROLES or len(key.digest) != 64 for key in keys):
                raise ValueError("an entry is not a key")
            return keys
        except FileNotFoundError:
            return []
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise SawyerError(
                f"The keys in {self.path} cannot be read ({error}). Restore the file, or remove it and make new keys "
                "with `sawyer keys add`."
            ) from error

    def add(self, role: str, label: str = "", *, page: bool = False) -> tuple[Key, str]:
        """Make and keep a key. The text that is returned cannot be had again."""
        if role not in ROLES:
            raise UsageError(f"There is no role {role!r}. Allowed: {', '.join(ROLES)}.")
        key, text = make_key(role, label, page=page)
        with self._changing() as keys:
            keys.append(key)
        return key, text

    def revoke(self, key_id: str) -> Key:
        """Forget a key, which is refused from now on."""
        with self._changing() as keys:
            found = [key for key in keys if key.id == key_id]
            if not found:
                listed = ", ".join(key.id for key in keys) or "none"
                raise UsageError(f"There is no key {key_id!r} in {self.path}. Keys there: {listed}.")
            keys.remove(found[0])
        return found[0]

    def stamp(self) -> tuple[int, int, int] | None:
        """Changes whenever the file does; None without a file."""
        try:
            status = self.path.stat()
        except FileNotFoundError:
            return None
        return status.st_mtime_ns, status.st_size, status.st_ino

    @contextmanager
    def _changing(self) -> Iterator[list[Key]]:
        """The keys, to be changed in place by one process at a time and written back as a whole."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with open(self.path.with_suffix(".lock"), "w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)  # released when the file is closed, also by a kill
                keys = self.load()
                yield keys
                self._write({"keys": [asdict(key) for key in keys]})
        except OSError as error:
            raise SawyerError(f"The keys in {self.path} cannot be written: {error.strerror or error}.") from error

    def _write(self, content: dict[str, Any]) -> None:
        # mkstemp gives mode 0600: nobody else on the machine reads even the digests.
        descriptor, temporary = tempfile.mkstemp(dir=self.path.parent, prefix=f".{FILE}-")
        try:
            with open(descriptor, "w", encoding="utf-8") as stream:
                json.dump(content, stream, indent=2)
                stream.flush()
                os.fsync(stream.fileno())
            os.replace(temporary, self.path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise


class Keyring:
    """The keys a server accepts: those of its home as they are now, and some that live in its memory alone."""

    def __init__(self, file: KeyFile | None = None) -> None:
        self._file, self._own = file, dict[str, Key]()
        self._stamp: tuple[int, int, int] | None = None
        self._kept: dict[str, Key] = {}

    def issue(self, role: Role, label: str, *, page: bool = False) -> str:
        """The text of a key that ends with this process."""
        key, text = make_key(role, label, page=page)
        self._own[key.id] = key
        return text

    def find(self, text: str) -> Key | None:
        """The key with this text, or None."""
        self._refresh()
        key_id = text.removeprefix(PREFIX).partition("-")[0]
        key = self._own.get(key_id) or self._kept.get(key_id)
        # Constant time: how long the comparison takes says nothing about the digest.
        known = hmac.compare_digest(_digest(text), key.digest if key else _NOBODY)
        return key if known else None

    def _refresh(self) -> None:
        if self._file is None or (stamp := self._file.stamp()) == self._stamp:
            return
        try:
            self._kept = {key.id: key for key in self._file.load()}
        except SawyerError as error:  # half a file is no reason to let everybody in, or to lock everybody out
            logger.error("%s The keys of before stay in force.", error)
        self._stamp = stamp


_NOBODY = "0" * 64
