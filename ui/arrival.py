"""What a page shows when it opens: a shared chat, the one this tab showed before, or nothing yet."""

import uuid
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

from ui import history, share
from ui.chat import Chat


def arrive(address: str, tab: str, chats: Any) -> Chat:
    """Args: ``address`` of the page with its fragment; ``tab`` is the id of the chat that this tab showed last."""
    try:
        shared = share.from_fragment(urlsplit(address).fragment)
    except ValueError:
        shared = None
    if shared is not None:
        return replace(shared, id=uuid.uuid4().hex)
    return (history.find(chats, tab) if tab else None) or Chat()
