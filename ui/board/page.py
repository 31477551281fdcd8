"""The board's place on the page."""

from pydantic import TypeAdapter

from ui.board.screen import screen
from ui.board.view import Act, Looking, View
from ui.client import ApiClient
from ui.panel import attach_panel


def attach_board(client: ApiClient) -> None:
    """Inside ``with page.route("Board", "/board")``."""
    attach_panel(View(), name="board", draw=screen, acts=TypeAdapter(Act), act=Looking(client).act)
