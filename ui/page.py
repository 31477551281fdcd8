"""All pages: one Gradio application with a path for each."""

import gradio as gr
import httpx

from ui import texts
from ui.board.page import attach_board
from ui.client import ApiClient
from ui.endpoints import Endpoints
from ui.handlers import Handlers
from ui.mode import ARENA, COMPARE, SUMMARIES
from ui.nav import add_header
from ui.review.page import attach_review
from ui.talk import add_talk

SESSIONS = 1000
"""Open pages that are remembered, each with some 300 KiB of Gradio's and its chat; those unused for longest go first.
Gradio would keep 10,000, and every reload is one more."""


def build_ui(api_url: str, transport: httpx.AsyncBaseTransport | None = None, api_key: str | None = None) -> gr.Blocks:
    """The pages on the API at ``api_url``; nothing is asked of the API before a browser opens one.

    ``transport`` replaces the network between page and API, ``api_key`` is the page's own. Theme and style sheet belong
    to Gradio's mount, see ``ui.app``. Every path must stand in ``ui.nav.PAGES``.
    """
    client = ApiClient(api_url, transport, api_key)
    handlers = Handlers(client)
    with gr.Blocks(title=texts.TITLE, analytics_enabled=False) as page:
        add_talk(page, handlers, COMPARE)
        Endpoints(client).attach()
    for mode in (ARENA, SUMMARIES):
        with page.route(mode.title, mode.path, show_in_navbar=False):
            add_talk(page, handlers, mode)
    with page.route(texts.BOARD, "board", show_in_navbar=False):
        add_header(page, "board")
        attach_board(client)
    with page.route(texts.REVIEW, "review", show_in_navbar=False):
        add_header(page, "review")
        attach_review(api_url, transport)
    # Every visitor streams at once; how many the engine bears is the server's own limit, and its queue is shown.
    page.queue(default_concurrency_limit=None, api_open=False)
    page.state_session_capacity = SESSIONS
    return page
