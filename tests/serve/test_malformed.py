"""Malformed requests by the thousand, bytes on a wire, at a live server: refused, never a 5xx, never a hang."""

import pytest

from benchmarks.malformed import run
from benchmarks.malformed_requests import KINDS


@pytest.mark.parametrize("count", [600, pytest.param(10_000, marks=pytest.mark.slow)])
def test_nothing_that_is_sent_breaks_the_server(address, engine, count):
    result = run("127.0.0.1", int(address.rpartition(":")[2]), count, seed=1)
    assert result["requests"] == count and len(result["by_kind"]) == len(KINDS) >= 12
    assert result["wrong"] == 0 and result["well_afterwards"]
    assert result["statuses"]["400"] > count / 2
    for kind in ("truncated JSON", "invalid UTF-8", "noise", "deep nesting"):
        assert set(result["by_kind"][kind]) <= {"400", "413"}, kind
