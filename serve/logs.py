"""The server's log on the error stream: lines for people, or JSON lines (``SAWYER_LOG=json``).

One line a request, without what was said in it: texts are logged only where ``SAWYER_LOG_BODIES=on``.
"""

import asyncio
import json
import logging
import os
import sys
from datetime import UTC, datetime
from typing import Any, Literal, TextIO

from sawyer.errors import UsageError
from serve.request_record import current

Style = Literal["text", "json"]

OURS = ("sawyer", "serve")
"""Loggers whose notes are shown; of all others warnings and errors alone."""


def style_from_environment() -> Style:
    """``SAWYER_LOG``: ``text`` (default) or ``json``.

    Raises:
        UsageError: it says something else.
    """
    return _choice("SAWYER_LOG", ("text", "json"))  # type: ignore[return-value]


def bodies_from_environment() -> bool:
    """``SAWYER_LOG_BODIES``: ``off`` (default) or ``on``, which logs what people ask and what they are answered.

    Raises:
        UsageError: it says something else.
    """
    return _choice("SAWYER_LOG_BODIES", ("off", "on")) == "on"


def _choice(name: str, allowed: tuple[str, ...]) -> str:
    given = os.environ.get(name, "").strip().lower() or allowed[0]
    if given not in allowed:
        raise UsageError(f"{name} is {given!r}. Allowed: {allowed[0]} (the default) and {allowed[1]}.")
    return given


def configure(style: Style, stream: TextIO | None = None) -> None:
    """Send this process's log to ``stream`` (default: stderr). For programs, once; libraries leave logging alone."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonFormatter() if style == "json" else TextFormatter())
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.WARNING)
    for name in OURS:
        logging.getLogger(name).setLevel(logging.INFO)
    logging.getLogger("uvicorn.error").addFilter(_is_news)


def _is_news(record: logging.LogRecord) -> bool:
    # When the server ends, uvicorn cancels what still listens (a page in a browser does so for ever) and tells each as
    # an error with its traceback. serve.server has said already what was cut.
    cancelled = record.exc_info is not None and isinstance(record.exc_info[1], asyncio.CancelledError)
    return not cancelled and "timeout graceful shutdown exceeded" not in str(record.msg)


def fields_of(record: logging.LogRecord) -> dict[str, Any]:
    """What was logged beside the sentence, with ``extra={"fields": {…}}``."""
    return getattr(record, "fields", {})


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time (ISO 8601, UTC), level, logger, message, request_id, then the record's fields."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if request_id := current().request_id:
            line["request_id"] = request_id
        line |= fields_of(record)
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        # ASCII: a lone surrogate from somewhere must not break the log, and one line stays one line.
        return json.dumps(line, default=str)


class TextFormatter(logging.Formatter):
    """Time, level where it is more than a note, and the sentence; control characters are shown, not obeyed."""

    def format(self, record: logging.LogRecord) -> str:
        level = "" if record.levelno <= logging.INFO else f"{record.levelname} "
        clock = datetime.fromtimestamp(record.created).strftime("%H:%M:%S")
        lines = f"{clock} {level}{_printable(record.getMessage())}"
        for name in ("prompts", "replies"):
            lines += "".join(f"\n    {name[:-1]}: {_printable(text)}" for text in fields_of(record).get(name, ()))
        if record.exc_info:
            lines += "\n" + self.formatException(record.exc_info)
        return lines


def _printable(text: str) -> str:
    # A client must not forge lines or steer the terminal.
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)
