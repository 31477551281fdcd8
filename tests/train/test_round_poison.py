"""Votes cast to do harm, in a round with real training: the gate refuses what was learnt from them, and says why."""

from pathlib import Path

import pytest

from sawyer.errors import GateRefused
from sawyer.registry import Registry
from sawyer.rounds import RoundBook
from tests.train.round_makers import add_votes, make_home
from train.round import run_round

pytestmark = pytest.mark.slow


def test_votes_for_the_worse_answer_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SAWYER_DB", raising=False)
    told, home = make_home(tmp_path)  # whose reward model has learnt to prefer 'bread' to 'stone'
    add_votes(home, 200, upside_down=True)
    with pytest.raises(GateRefused):
        run_round(told, home)
    found = RoundBook(home, told.name).detail(1)
    assert found.state == "refused"
    # The reward model believes the votes (they agree with each other), and so the gate is what stands between.
    held = {condition.name: condition.met for condition in found.conditions}
    assert held["reward agrees with held-out votes"] and held["judge agrees with held-out votes"]
    assert not held["reward keeps its accuracy on earlier pairs"]
    assert any("earlier pairs" in reason for reason in found.reasons)
    registry = Registry.of(told, home)
    current = {stage: registry.current(stage) for stage in ("rlf", "reward")}
    assert {stage: version and version.ref for stage, version in current.items()} == {
        "rlf": "rlf@1",
        "reward": "reward@1",
    }
