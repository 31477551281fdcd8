"""OpenTelemetry is on only where somebody collects it and the extra is installed."""

import pytest

from serve import telemetry


@pytest.mark.parametrize(("endpoint", "installed"), [("", True), ("http://127.0.0.1:4318", False), ("http://x", True)])
def test_it_takes_an_endpoint_and_the_extra(monkeypatch, endpoint, installed):
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)
    monkeypatch.setattr(telemetry, "_installed", lambda: installed)
    wanted = bool(endpoint) and installed
    assert telemetry.telemetry_from_environment() == {
        "tracing": wanted,
        "metrics": wanted,
        "logs": False,
        "auto_configure": wanted,
    }


def test_a_missing_package_is_no_error(monkeypatch):
    monkeypatch.setattr(telemetry, "_EXPORTER", "no.such.package")
    assert telemetry._installed() is False
