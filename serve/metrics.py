"""What Prometheus sees at ``GET /metrics``. Each application counts for itself."""

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from serve.engine import Engine

_SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)


_STEP_SECONDS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5)
_ROWS = (1, 2, 4, 8, 12, 16, 24, 32, 48, 64, 96, 128)


class Metrics:
    """The counters of one application. Labels come from fixed sets, so that clients cannot grow them."""

    content_type = CONTENT_TYPE_LATEST

    def __init__(self) -> None:
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
        self.prompt_tokens = Counter(
            "sawyer_prompt_tokens", "Tokens read, of replies that were made", ["stage"], registry=registry
        )
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
        self.requests_open = Gauge("sawyer_requests_open", "Requests being answered", registry=registry)
        self.batch_rows = Histogram(
            "sawyer_batch_rows", "Rows that one step of the engine decodes", buckets=_ROWS, registry=registry
        )

        self.step_seconds = Histogram(
            "sawyer_step_seconds", "How long one step of the engine takes", buckets=_STEP_SECONDS, registry=registry
        )

    def step(self, rows: int, seconds: float) -> None:
        """Note one step of an engine; from any thread. Tokens a second are the rate of ``sawyer_batch_rows_sum``."""
        self.batch_rows.observe(rows)
        self.step_seconds.observe(seconds)

    def watch(self, engine: Engine, draining: Callable[[], bool]) -> None:
        """Show what an engine says of itself, once for each application."""
        self._gauge("sawyer_rows_waiting", "Replies waiting to be begun", lambda: engine.waiting)
        self._gauge("sawyer_rows_running", "Replies being made", lambda: engine.running)
        self._gauge("sawyer_ready", "1 when replies can be made", lambda: engine.status()[0] == "ok" and not draining())
        self._gauge("sawyer_draining", "1 when the server ends and takes no more requests", draining)

    def _gauge(self, name: str, text: str, read: Callable[[], float]) -> None:
        Gauge(name, text, registry=self.registry).set_function(lambda: float(read()))

    def render(self) -> bytes:
        """Prometheus text format."""
        return generate_latest(self.registry)
