"""The benchmark runs: our side on tiny models (the other side would have to be installed)."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.slow
def test_our_side_runs_and_says_what_it_did() -> None:
    command = [sys.executable, "benchmarks/ppo_vs_trl.py", "--quick", "--only", "ours", "--json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["work_a_step"] == {"response_tokens": 24, "scored": 4, "optimizer_steps": 2}
    assert len(result["seconds"]["ours"]) == 1
    ours = result["ours"]
    assert set(ours["phases"]) == {"generation", "scoring", "measuring", "update", "rest"}
    assert sum(ours["phases"].values()) == pytest.approx(ours["seconds_a_step"])
    assert ours["memory_mib"]["peak"] >= ours["memory_mib"]["imports"] > 0
    assert result["machine"]["cores"] >= 1 and "torch" in result["versions"]["ours"]
    assert not any("ratio" in key for key in result), "a ratio takes two sides"


@pytest.mark.long
@pytest.mark.slow
def test_a_plan_is_within_a_tenth_of_what_is_measured() -> None:
    command = [sys.executable, "benchmarks/plan_accuracy.py", "--only", "sft", "serve", "--sizes", "17m", "--json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=500)
    result = json.loads(done.stdout)
    assert [case["stage"] for case in result["cases"]] == ["sft", "serve"]
    assert done.returncode == 0 and result["within"], result
    for case in result["cases"]:
        assert case["predicted_over_measured"] == case["predicted"]["peak_mib"] / case["measured"]["peak_mib"]
