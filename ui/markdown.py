"""Model output as HTML that cannot do anything: Markdown yes, markup no."""

from functools import cache

from markdown_it import MarkdownIt


@cache
def _parser() -> MarkdownIt:
    """CommonMark and tables with raw HTML shown as text.

    Images are off because a reply could make the browser call a foreign server with what it just read; links stay,
    they need a click, and markdown-it refuses ``javascript:``, ``vbscript:``, ``file:`` and ``data:`` targets.
    """
    parser = MarkdownIt("commonmark", {"html": False, "breaks": True})
    parser.enable(["table", "strikethrough"]).disable("image")
    parser.add_render_rule("link_open", _link_open)
    return parser


def _link_open(self, tokens, index, options, env):  # type: ignore[no-untyped-def]  # markdown-it's own signature
    tokens[index].attrSet("target", "_blank")
    tokens[index].attrSet("rel", "noopener noreferrer nofollow")
    return self.renderToken(tokens, index, options, env)


def to_html(text: str) -> str:
    """``text`` as safe HTML. Unfinished Markdown, as it comes while streaming, renders as far as it goes."""
    return _parser().render(text)
