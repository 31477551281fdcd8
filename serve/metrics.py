"""What Prometheus sees at ``GET /metrics``. Each application counts for itself."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from serve.engine import Engine

_SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)


class Metrics:
    """The counters of one application. Labels come from fixed sets, so that clients cannot grow them."""

    content_type = CONTENT_TYPE_LATEST

    def __init__(self, engine: Engine) -> None:
        self.registry = CollectorRegistry()
        registry = self.registry
        self.requests = Counter(
            "sawyer_http_requests", "Requests answered", ["method", "route", "status"], registry=registry
        )
        self.latency = Histogram(
            "sawyer_http_request_seconds",
            "Time until an answer was complete",
            ["route"],
            buckets=_SECONDS,
            registry=registry,
        )
        self.replies = Counter("sawyer_replies", "Replies made", ["stage", "finish_reason"], registry=registry)
        self.tokens = Counter("sawyer_generated_tokens", "Tokens generated", ["stage"], registry=registry)
        self.reply_seconds = Histogram(
            "sawyer_reply_seconds",
            "From request to the end of a reply",
            ["stage"],
            buckets=_SECONDS,
            registry=registry,
        )
        self.first_text = Histogram(
            "sawyer_first_text_seconds",
            "From request to the first text",
            ["stage"],
            buckets=_SECONDS,
            registry=registry,
        )
        self.votes = Counter("sawyer_votes", "Votes stored", ["choice"], registry=registry)
        self.ratings = Counter("sawyer_ratings", "Ratings stored", ["up"], registry=registry)
        self._gauge("sawyer_rows_waiting", "Replies waiting to be begun", lambda: engine.waiting)
        self._gauge("sawyer_rows_running", "Replies being made", lambda: engine.running)
        self._gauge("sawyer_ready", "1 when replies can be made", lambda: engine.status()[0] == "ok")

    def _gauge(self, name, text, read) -> None:  # type: ignore[no-untyped-def]
        Gauge(name, text, registry=self.registry).set_function(lambda: float(read()))

    def render(self) -> bytes:
        """Prometheus text format."""
        return generate_latest(self.registry)
