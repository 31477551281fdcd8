"""Who sits in front of the page, as far as the browser remembers."""

import uuid
from dataclasses import asdict, dataclass, replace
from typing import Any

from pydantic import TypeAdapter, ValidationError

MAX_NAME = 64  # as VoteRequest.name


@dataclass(frozen=True)
class Visitor:
    """``voter`` tells voters apart and is nobody's name. ``consent``: votes may train SAWYER."""

    voter: str = ""
    name: str = ""
    consent: bool = True
    seen_hint: bool = False

    @classmethod
    def read(cls, stored: Any) -> "Visitor":
        """From the browser's memory, with an identity; somebody new where nothing sensible is found there."""
        try:
            found = TypeAdapter(cls).validate_python(stored or {})
        except ValidationError:
            found = cls()
        return found if found.voter else replace(found, voter=uuid.uuid4().hex)

    def dump(self) -> dict[str, Any]:
        """For the browser's memory."""
        return asdict(self)

    def called(self, name: str) -> "Visitor":
        return replace(self, name=name.strip()[:MAX_NAME])
