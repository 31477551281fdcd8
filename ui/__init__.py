"""The page people talk to: an HTTP client of the API with a Gradio front.

``ui.page.build_ui`` makes the page, ``ui.app.mount_ui`` puts it beside the API in one process, ``ui.app.serve_ui``
runs it alone. Of SAWYER's own packages only ``sawyer.types`` is imported here, so the page needs no torch.
"""
