"""The review page's place on the page."""

import httpx
from pydantic import TypeAdapter

from ui.panel import attach_panel
from ui.review.acts import Act
from ui.review.client import AdminClient
from ui.review.desk import Desk
from ui.review.handlers import Reviewing
from ui.review.screen import screen


def attach_review(api_url: str, transport: httpx.AsyncBaseTransport | None = None) -> None:
    """Inside ``with page.route("Review", "/review")``."""
    reviewing = Reviewing(AdminClient(api_url, transport))
    attach_panel(Desk(), name="review", draw=screen, acts=TypeAdapter(Act), act=reviewing.act)
