"""The page as a web application: beside the API in one process, or alone."""

import gradio as gr
import httpx
import uvicorn
from fastapi import FastAPI

from ui.page import build_ui
from ui.shell import PageShell
from ui.theme import css, theme


def mount_ui(app: FastAPI, api_url: str, transport: httpx.AsyncBaseTransport | None = None) -> FastAPI:
    """Put the page at ``/`` of ``app``, which keeps every route it already has; so the API's come first.

    Args:
        app: not started yet, all of its own routes registered. Routes added later are hidden behind the page.
        api_url: where the page reaches the API; for an API in the same ``app``, its own address on the loopback.
        transport: replaces the network between page and API.

    Returns:
        ``app`` itself.
    """
    gr.mount_gradio_app(
        app,
        build_ui(api_url, transport),
        path="/",
        theme=theme(),
        css=css(),
        footer_links=[],
        run_history=False,
        show_error=False,
        ssr_mode=False,
        pwa=False,
    )
    app.add_middleware(PageShell)
    return app


def serve_ui(api_url: str, host: str = "127.0.0.1", port: int = 7860) -> None:
    """Run the page alone, against the API at ``api_url``, until interrupted (``sawyer ui --api URL``)."""
    app = mount_ui(FastAPI(title="SAWYER page", docs_url=None, redoc_url=None, openapi_url=None), api_url)
    uvicorn.run(app, host=host, port=port, log_level="warning")
