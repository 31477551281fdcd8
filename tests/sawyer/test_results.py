"""Reports side by side, model cards, and the page of published claims: all figures from reports, bad runs named."""

import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from sawyer.errors import UsageError
from sawyer.evaluation import Report
from sawyer.evaluation.card import render_card
from sawyer.evaluation.results import ABSENT, NANO_CLAIMS, T5_CLAIMS, results
from sawyer.evaluation.runs_compared import changes, differing, print_comparison, read_report
from tests.sawyer.test_evaluation_report import interval, make_report, opinion, pair

ROOT = Path(__file__).resolve().parents[2]


def whole(**changed: Any) -> Report:
    matched = {"tolerance": 0.2, "n": 6, "difference": interval(0.8), "t_p": 0.01, "at_equal_length": interval(0.9)}
    compared = {"before": "sft", "after": "rlf", "gained": 3, "lost": 2, "test": "McNemar", "p": 1.0}
    compared["difference"] = interval(0.01)
    names = ("truthfulqa_mc1", "truthfulqa_mc2", "mmlu_world_religions")
    scores = {stage: interval(0.25, 0.05) for stage in ("base", "sft", "rlf")}
    benchmarks = [
        {"name": name, "metric": "acc", "n": 171, "chance": None, "scores": scores, "comparisons": [compared]}
        for name in names
    ]
    tested = pair(length_matched=matched, mann_whitney_p=0.02, variance_p=0.001, t_p_holm=0.01)
    values = {
        "pairs": [tested],
        "benchmarks": benchmarks,
        "judge": opinion(None),
        "data": {"starter/prompts": "f" * 64},
    }
    return make_report(**{**values, **changed})


def part(name: str, role: str = "reward", change: float = 0.5, p: float = 0.001) -> dict[str, Any]:
    means = {stage: interval(0.7) for stage in ("base", "sft", "rlf")}
    compared = {"before": "sft", "after": "rlf", "n": 90, "difference": interval(change), "t_p": p, "wilcoxon_p": p}
    weight = 1.0 if role == "reward" else None
    return {"name": name, "role": role, "weight": weight, "means": means, "comparisons": [compared]}


def test_the_page_of_claims_is_filled_from_reports() -> None:
    t5 = whole(parts=[part("neutral logit"), part("acceptability logit", p=0.4), part("guard rouge", "guard", -0.1)])
    page = results(whole(), t5)
    assert ABSENT not in page and page.count("\n| ") == 1 + len(NANO_CLAIMS) + len(T5_CLAIMS)
    rows = {line.split(" | ")[0].strip("| "): line for line in page.splitlines() if line.startswith("| ")}
    assert "1.45 → 2.45" in rows["Reward is higher after RL"] and "| holds |" in rows["Reward is higher after RL"]
    assert "| confirmed |" in rows["A model that was not optimised agrees"]
    assert (
        "no change shown" in rows["TruthfulQA mc1 stays the same"] and "n 171" in rows["TruthfulQA mc1 stays the same"]
    )
    assert "| not shown |" in rows["FLAN-T5: grammar is better"]
    assert "| the opposite |" in rows["FLAN-T5: still about the same"]


def test_claims_without_a_report_say_so() -> None:
    page = results(None, None)
    assert page.count(ABSENT) == len(NANO_CLAIMS) + len(T5_CLAIMS)
    alone = make_report(stages=make_report().model_dump()["stages"][:1], pairs=[], acceptance=[], accepted=None)
    assert results(alone, None).count(ABSENT) == len(NANO_CLAIMS) + len(T5_CLAIMS) - 1, (
        "how prompts were split is known"
    )


def test_the_page_in_docs_has_every_claim() -> None:
    page = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    assert all(f"| {claim.says} | {claim.theirs} |" in page for claim in (*NANO_CLAIMS, *T5_CLAIMS))
    assert page.startswith(results(None, None).split("|")[0]), "python -m sawyer.evaluation.results makes it"


def test_a_card_names_everything_that_repeats_it() -> None:
    card = render_card(whole(command="sawyer evaluate trial --stages sft,rlf", judge=opinion()))
    for words in (
        "`sawyer evaluate trial --stages sft,rlf`", "rlf@1", "0" * 64, "f" * 64, "torch 2", "SAWYER 0.1.0",
        "reward hacking", "truthfulqa_mc1", "abc",
    ):  # fmt: skip
        assert words in card
    assert card.startswith("---\nlibrary_name: peft")


def test_runs_side_by_side(tmp_path: Path) -> None:
    later = whole(recipe="trial", created="2025-02-01T00:00:00+00:00")
    later = later.model_copy(update={"stages": [_better(stage) for stage in later.stages]})
    stream = io.StringIO()
    print_comparison([whole(), later], Console(file=stream, width=120))
    shown = stream.getvalue()
    assert "2025-02-01" in shown and "rlf, mean reward" in shown and "truthfulqa_mc1" in shown
    assert [label for label, _ in changes([whole(), later])] == [f"{s}, run 1 → 2" for s in ("base", "sft", "rlf")]
    assert "Not the same" not in shown
    other = whole(reward_model="reward@2")
    assert differing([whole(), other]) == ["the reward model"] and changes([whole(), other]) == []


def _better(stage: Any) -> Any:
    return stage.model_copy(update={"rewards": [value + 1 + place / 7 for place, value in enumerate(stage.rewards)]})


def test_runs_without_a_report_are_named(tmp_path: Path) -> None:
    (tmp_path / "report.json").write_text(whole().model_dump_json())
    assert read_report(tmp_path) == read_report(tmp_path / "report.json") == whole()
    with pytest.raises(UsageError, match=r"no report in .*absent"):
        read_report(tmp_path / "absent")
    (tmp_path / "report.json").write_text('{"recipe": "old"}')
    with pytest.raises(UsageError, match="Evaluate that run again"):
        read_report(tmp_path)
