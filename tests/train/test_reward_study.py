"""The study of a reward model: calibration and agreement by hand, RewardBench in and out, a whole run, bad input."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sawyer.errors import DataError, UsageError
from sawyer.home import Home
from sawyer.registry import Registry
from tests.sawyer.evaluation_makers import make_recipe
from tests.train.makers import pairs, write_lines
from train.reward_report import calibration
from train.reward_study import Scored, agreement, study
from train.rewardbench import read_rewardbench, score_rewardbench, sections


class Longer:
    """Prefers the longer reply."""

    def score(self, prompts: Any, responses: Any) -> np.ndarray:
        return np.array([len(text) for text in responses], np.float32)


def test_calibration_by_hand() -> None:
    # Margins of ±log 3: 0.75 sure. Right in three of four: perfectly calibrated in one bin.
    margin = np.float32(np.log(3))
    found = calibration(np.float32([1, 1, 1, 1]) * margin * [1, 1, 1, 0], np.float32([0, 0, 0, 1]) * margin, parts=1)
    assert found["bins"][0]["confidence"] == pytest.approx(0.75) and found["bins"][0]["accuracy"] == 0.75
    assert found["expected_error"] == pytest.approx(0, abs=1e-6)
    sure = calibration(np.float32([0.0] * 8), np.float32([50.0] * 8), parts=2)
    assert sure["expected_error"] == pytest.approx(1.0) and [one["n"] for one in sure["bins"]] == [4, 4]


def test_agreement_by_hand() -> None:
    one = Scored("reward@1", np.float32([1, 1, 1, 0]), np.float32([0, 0, 0, 1]))
    other = Scored("judge@1", np.float32([2, 2, 0, 0]), np.float32([0, 1, 1, 1]))
    found = agreement(one, other)
    # Alike on three of four; by chance 3/4 · 1/2 + 1/4 · 1/2 = 1/2; kappa (3/4 − 1/2) / (1/2).
    assert found["same_choice"] == 0.75 and found["kappa"] == pytest.approx(0.5)
    alike = agreement(one, Scored("x", np.float32([9, 9, 9, 0]), np.float32([0, 0, 0, 9])))
    assert alike["same_choice"] == 1.0 and alike["kappa"] == pytest.approx(1.0)
    always = Scored("y", np.float32([1, 1]), np.float32([0, 0]))
    assert agreement(always, always)["kappa"] is None


def bench_file(path: Path) -> Path:
    rows = [
        {"id": 7, "prompt": "Why?", "chosen": "because of it", "rejected": "no", "subset": "alpacaeval-easy"},
        {
            "id": 8,
            "prompt": [{"role": "user", "content": "Sum?"}],
            "chosen": "4",
            "rejected": "five",
            "subset": "math-prm",
        },
        {"id": 9, "prompt": "Code?", "chosen": "print(4)", "rejected": "x", "subset": "hep-python"},
        {"prompt": "No subset?", "chosen": [{"role": "assistant", "content": "longest"}], "rejected": "short"},
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_rewardbench_in_and_out(tmp_path: Path) -> None:
    rows = read_rewardbench(bench_file(tmp_path / "bench.jsonl"))
    assert [row.subset for row in rows] == ["alpacaeval-easy", "math-prm", "hep-python", "all"]
    told = score_rewardbench(rows, Longer(), "reward@1", tmp_path)
    assert (told["alpacaeval-easy"], told["math-prm"], told["hep-python"], told["all"]) == (1.0, 0.0, 1.0, 1.0)
    assert told["sections"] == {"Chat": 1.0, "Reasoning": pytest.approx(1 / (1 + 984 / 447))}
    assert json.loads((tmp_path / "rewardbench.json").read_text())["overall"]["n"] == 4
    scores = json.loads((tmp_path / "rewardbench-scores.json").read_text())
    assert scores["id"] == ["7", "8", "9", "4"] and scores["results"] == [1.0, 0.0, 1.0, 1.0]
    assert scores["scores_chosen"][0] == len("because of it") and scores["subset"][1] == "math-prm"


def test_sections_weigh_pairs() -> None:
    subsets = np.array(["hep-go"] * 3 + ["hep-js"])
    assert sections(subsets, np.array([1.0, 1.0, 0.0, 0.0])) == {"Reasoning": 0.5}


@pytest.mark.parametrize(
    "text", ["not json\n", '{"prompt": "x", "chosen": "y"}\n', '{"prompt": " ", "chosen": "y", "rejected": "z"}\n']
)
def test_unusable_rewardbench_files_are_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "bad.jsonl").write_text(text)
    with pytest.raises(DataError, match=r"bad\.jsonl"):
        read_rewardbench(tmp_path / "bad.jsonl")
    with pytest.raises(DataError, match=r"absent\.jsonl"):
        read_rewardbench(tmp_path / "absent.jsonl")


def test_a_whole_study(tiny_backbone: Path, tiny_classifier: Path, tmp_path: Path, sawyer_home: Path) -> None:
    data = write_lines(tmp_path / "pairs.jsonl", pairs(160))
    section = {"sources": [{"name": data}], "held_out": 0.3, "max_length": 48}
    recipe, home = make_recipe(tiny_backbone, data, reward=section), Home.find(sawyer_home).ensure()
    with pytest.raises(UsageError, match="sawyer train reward trial"):
        study(recipe, home, tmp_path / "out")
    registry = Registry.of(recipe, home)
    registry.promote(registry.register("reward", tiny_classifier, info={}).ref)
    alone = study(recipe, home, tmp_path / "alone")
    assert alone["agreement"] is None and list(alone["models"]) == ["reward@1"]
    registry.promote(registry.register("judge", tiny_classifier, info={}).ref)
    found = study(recipe, home, tmp_path / "out", bench_file(tmp_path / "bench.jsonl"))
    assert found["agreement"]["same_choice"] == 1.0, "the same weights agree"
    told = found["models"]["reward@1"]
    assert told["overall"]["n"] == found["n"] >= 20 and len(told["calibration"]["bins"]) == 10
    assert told["shuffled_prompt"]["n"] == found["n"] and found["rewardbench"]["overall"]["n"] == 4
    assert {file.name for file in (tmp_path / "out").iterdir()} == {
        "reward.json", "calibration.png", "calibration.svg", "rewardbench.json", "rewardbench-scores.json"
    }  # fmt: skip
    few = recipe.model_copy(update={"reward": recipe.reward.model_copy(update={"held_out": 0.01})})  # type: ignore[union-attr]
    with pytest.raises(DataError, match="at least 20"):
        study(few, home, tmp_path / "few")
    none = recipe.model_copy(update={"reward": None})
    with pytest.raises(UsageError, match="no reward section"):
        study(none, home, tmp_path / "none")
