"""Markdown of prompts and replies renders; whatever could run, load or lead astray does not."""

import re

import pytest

from ui.markdown import to_html

ATTACKS = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "<svg/onload=alert(1)>",
    '<iframe src="javascript:alert(1)"></iframe>',
    "[click](javascript:alert(1))",
    "[click](JaVaScRiPt:alert(1))",
    "[click](java\nscript:alert(1))",
    "[click](&#106;avascript:alert(1))",
    "[click](vbscript:msgbox)",
    "[click](data:text/html,<script>alert(1)</script>)",
    "<javascript:alert(1)>",
    '[x]: javascript:alert(1) "t"\n\n[x]',
    '[a](http://e.test "x\\" onmouseover=alert(1) y=\\"")',
    "![](http://evil.test/leak.png)",
    "![x](javascript:alert(1))",
    "```<script>alert(1)</script>\n</code></pre><script>alert(1)</script>\n```",
    "`<b onclick=alert(1)>`",
    "<style>body{display:none}</style>",
    "<details open ontoggle=alert(1)>",
    "${alert(1)} {{constructor.constructor('alert(1)')()}}",
]
TAG = re.compile(r"<(/?)([a-zA-Z][a-zA-Z0-9]*)([^<>]*)>")
HARMLESS = re.compile(r"p|br|a|em|strong|s|code|pre|ul|ol|li|h[1-6]|blockquote|hr|table|thead|tbody|tr|th|td")


@pytest.mark.parametrize("attack", ATTACKS)
def test_nothing_that_acts_gets_through(attack: str) -> None:
    html = to_html(attack)
    for _, name, attributes in TAG.findall(html):
        assert HARMLESS.fullmatch(name.lower()), html
        assert not re.search(r"(^|\s)on\w+\s*=", re.sub(r'"[^"]*"', '""', attributes)), html
    for target in re.findall(r'href="([^"]*)"', html):
        assert not re.match(r"\s*(javascript|vbscript|data|file):", target, re.IGNORECASE), html


def test_ordinary_markdown_renders() -> None:
    html = to_html("**bold** and `code`\n\n- one\n- two\n\n| a | b |\n|---|---|\n| 1 | 2 |")
    for piece in ("<strong>bold</strong>", "<code>code</code>", "<li>one</li>", "<td>1</td>"):
        assert piece in html


def test_line_breaks_of_a_base_model_survive() -> None:
    assert to_html("one\ntwo") == "<p>one<br>\ntwo</p>\n".replace("<br>", "<br />")


def test_links_open_elsewhere_and_do_not_tell_where_from() -> None:
    html = to_html("[docs](https://example.org/)")
    assert 'href="https://example.org/"' in html
    assert 'target="_blank"' in html
    assert 'rel="noopener noreferrer nofollow"' in html


@pytest.mark.parametrize("half", ["**bo", "```py\nx = ", "[link](http", "| a | b |\n|--", "1. one\n2"])
def test_half_written_markdown_renders_as_far_as_it_goes(half: str) -> None:
    assert to_html(half).strip()
