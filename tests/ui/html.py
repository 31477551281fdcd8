"""Reading HTML as a browser does, to find what could run in it."""

from html.parser import HTMLParser

RUNNING = {"script", "iframe", "object", "embed", "img", "link", "style", "base"}


class _Finder(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in RUNNING:
            self.found.append(tag)
        for name, value in attrs:
            target = (value or "").strip().lower()
            if name.startswith("on") or (name in ("href", "src") and target.startswith(("javascript:", "http"))):
                self.found.append(f"{tag} {name}={value}")


def dangers(html: str) -> list[str]:
    """Elements and attributes that would run something or load it from elsewhere."""
    finder = _Finder()
    finder.feed(html)
    return finder.found
