"""The page as a web application: beside the API in one process, or alone."""

import warnings
from collections.abc import Callable

import gradio as gr
import httpx
import uvicorn
from fastapi import FastAPI
from starlette.types import ASGIApp

from ui import texts
from ui.nav import PAGES
from ui.page import build_ui
from ui.shell import PageShell
from ui.theme import css, theme

Login = Callable[[str, str], bool]
"""(user, password) -> whether they may come in."""


def mount_ui(
    app: FastAPI,
    api_url: str,
    transport: httpx.AsyncBaseTransport | None = None,
    *,
    api_key: str | None = None,
    login: Login | None = None,
) -> FastAPI:
    """Put the page at ``/`` of ``app``, which keeps every route it already has; so the API's come first.

    Args:
        app: not started yet, all of its own routes registered. Routes added later are hidden behind the page.
        api_url: where the page reaches the API; for an API in the same ``app``, its own address on the loopback.
        transport: replaces the network between page and API.
        api_key: the page's own, for an API that asks for one.
        login: asked before anybody sees the page; default: everybody may.

    Returns:
        ``app`` itself.
    """
    with warnings.catch_warnings():
        # Said to every application of several pages, also to one that wants no rendering on the server.
        warnings.filterwarnings("ignore", message="SSR mode is not supported")
        gr.mount_gradio_app(
            app,
            build_ui(api_url, transport, api_key),
            path="/",
            theme=theme(),
            css=css(),
            footer_links=[],
            run_history=False,
            show_error=False,
            ssr_mode=False,
            pwa=False,
            auth=login,
            auth_message=texts.LOGIN,
        )
    app.add_middleware(PageShell, paths=tuple(f"/{path}" for path, _ in PAGES))
    return app


def serve_ui(
    api_url: str,
    host: str = "127.0.0.1",
    port: int = 7860,
    *,
    api_key: str | None = None,
    guard: Callable[[ASGIApp], ASGIApp] | None = None,
) -> None:
    """Run the page alone, against the API at ``api_url``, until interrupted (``sawyer ui --api URL``).

    ``guard`` wraps the whole application, to turn away who may not see it.
    """
    shell = FastAPI(title="SAWYER page", docs_url=None, redoc_url=None, openapi_url=None)
    app = mount_ui(shell, api_url, api_key=api_key)
    uvicorn.run(guard(app) if guard else app, host=host, port=port, log_level="warning")
