"""The findings about all votes, kept until votes or reviews are added."""

import threading

from sawyer.curation import Analysis, analyse
from sawyer.store import FeedbackStore
from sawyer.store.browse import standing_votes


class Insight:
    """Looks through the votes when somebody asks and something has changed; safe to share between threads."""

    def __init__(self, store: FeedbackStore) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._mark: tuple[int, int, int] | None = None
        self._analysis = Analysis({}, [])

    def analysis(self) -> Analysis:
        """Findings and voters as of now. The second who asks meanwhile waits for the first one's."""
        with self._lock:
            now = self._store.revision()
            if now != self._mark:
                self._analysis = analyse(standing_votes(self._store))
                self._mark = now
            return self._analysis

    def clear(self) -> None:
        """Look again the next time: texts were changed."""
        with self._lock:
            self._mark = None
