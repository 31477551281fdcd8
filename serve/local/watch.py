"""The eye on the registry: what is promoted there is found, checked, and handed to the engine."""

import threading
from collections.abc import Callable
from dataclasses import replace

from serve.local.catalog import Catalog, Loaded, Offer

WATCH_SECONDS = 1.0  # between two looks at the registry


class RegistryWatch:
    """Looks at the registry from time to time, on a thread of its own.

    Args:
        current: what is served now. load: makes a policy anew, for a new base.
        on_news: given what was found sound: an offer of adapters, or a policy over a new base.
        on_trouble: told why something that was promoted cannot be served.
    """

    def __init__(
        self,
        catalog: Catalog,
        current: Callable[[], Loaded],
        load: Callable[[], Loaded],
        on_news: Callable[[Loaded | Offer], None],
        on_trouble: Callable[[Exception], None],
    ) -> None:
        self._catalog, self._current, self._load = catalog, current, load
        self._on_news, self._on_trouble = on_news, on_trouble
        self._seen: tuple[int, ...] = ()
        self._unreadable = False

    def run(self, closing: threading.Event) -> None:
        """Until ``closing`` is set."""
        while not closing.wait(WATCH_SECONDS):
            self.look()

    def look(self) -> None:
        """Look once. A registry that cannot be read is told once, and looked at again."""
        try:
            stamp = self._catalog.stamp()
        except OSError as error:
            if not self._unreadable:
                self._on_trouble(error)
            self._unreadable, self._seen = True, ()
            return
        self._unreadable = False
        if stamp == self._seen:
            return
        self._seen = stamp
        try:
            news = self._find()
        except Exception as error:
            self._on_trouble(error)
        else:
            self._on_news(news)

    def _find(self) -> Loaded | Offer:
        offer, loaded = self._catalog.offer(), self._current()
        if offer.current["base"] != loaded.versions["base"]:
            return replace(self._load(), refs=offer.refs)
        for version in offer.current.values():
            if version and version not in (*loaded.policy.stages, offer.current["base"]):
                self._catalog.folder(version)  # finds out here, not between two steps, whether it is sound
        return offer
