"""OpenTelemetry for whoever collects it (the extra ``otel``): FastAPI's own spans and metrics of requests."""

import importlib.util
import os

from fastapi.telemetry import TelemetryConfig

_EXPORTER = "opentelemetry.exporter.otlp.proto.http"


def telemetry_from_environment() -> TelemetryConfig:
    """Traces and metrics to ``OTEL_EXPORTER_OTLP_ENDPOINT``; nothing where that is not set or the extra is missing.

    Logs stay on the error stream (``serve.logs``): they may hold what people said.
    """
    wanted = bool(os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT")) and _installed()
    return {"tracing": wanted, "metrics": wanted, "logs": False, "auto_configure": wanted}


def _installed() -> bool:
    try:
        return importlib.util.find_spec(_EXPORTER) is not None
    except ModuleNotFoundError:  # not even the package that it would be in
        return False
