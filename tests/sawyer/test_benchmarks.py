"""Benchmarks by lm-evaluation-harness: equal to its own tasks to the last digit, kept, compared, refused clearly."""

import csv
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from sawyer.errors import DataError, UsageError
from sawyer.evaluation.benchmarks import harness, local
from sawyer.evaluation.benchmarks.ask import BenchmarkPlan, ask_benchmarks
from sawyer.evaluation.benchmarks.figures import benchmark_figures, mcnemar, paired_bootstrap
from sawyer.models import Policy

SUBJECTS = ("world_religions", "high_school_physics")


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A few questions of TruthfulQA and of two subjects of MMLU, as their authors publish them."""
    root = tmp_path / "data"
    (root / "truthfulqa").mkdir(parents=True)
    rows = [
        {
            "question": f"What about the cat, {n}?",
            "mc1_targets": {f"It sat on the mat {n} times.": 1, "It flew.": 0, f"It boils at {n} degrees.": 0},
            "mc2_targets": {"It sat.": 1, "It flew.": 0, f"It looked at the dog {n}.": 1, "It barked.": 0},
        }
        for n in range(7)
    ]
    (root / "truthfulqa" / "mc_task.json").write_text(json.dumps(rows))
    for split, count in (("test", 9), ("dev", 5)):
        (root / "mmlu" / split).mkdir(parents=True)
        for subject in SUBJECTS:
            with (root / "mmlu" / split / f"{subject}_{split}.csv").open("w", newline="") as stream:
                for n in range(count):
                    answers = [f"tea {n}", "a mat, soft", "the sun", f"hot water {n}"]
                    csv.writer(stream).writerow([f" What is {subject} {n}? ", *answers, "ABCD"[n % 4]])
    monkeypatch.setenv("SAWYER_DATA", str(root))
    return root


def stock_samples(name: str, docs: dict[str, local.Docs], backbone: Path, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The harness's own task on a model it loads itself; only the download of its data is replaced."""
    import datasets
    from lm_eval.evaluator import simple_evaluate

    splits = {split: datasets.Dataset.from_list(rows) for split, rows in docs.items()}
    monkeypatch.setattr(datasets, "load_dataset", lambda *args, **kwargs: splits)
    arguments = {"pretrained": str(backbone), "dtype": "float32", "max_length": 256}
    found = simple_evaluate("hf", model_args=arguments, tasks=[name], device="cpu", batch_size=8, bootstrap_iters=0)
    assert found is not None
    return sorted(found["samples"][name], key=lambda sample: sample["doc_id"])


@pytest.mark.parametrize("name", ["truthfulqa_mc1", "truthfulqa_mc2", "mmlu_world_religions"])
def test_our_local_task_equals_the_harness_to_the_last_digit(
    name: str, data: Path, tiny_backbone: Path, spec: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("lm_eval")
    if name.startswith("mmlu"):
        docs = {split: local.mmlu("world_religions", split) for split in ("test", "dev")}
    else:
        docs = {"validation": local.truthfulqa()}
    policy = Policy.load(tiny_backbone, spec=spec)
    with policy.using("base"):
        model, task = harness.open_model(policy, "base", 8), harness.build_task(name)
        values, metric = harness.run_task(model, task, limit=None, fewshot=None, seed=1)
    theirs = stock_samples(name, docs, tiny_backbone, monkeypatch)
    assert metric == "acc" and values.tolist() == [float(sample["acc"]) for sample in theirs]
    assert len(values) == len(docs[task.config.test_split or "validation"])


def test_results_are_kept_and_compared(
    data: Path, policy: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("lm_eval")
    plan = BenchmarkPlan(("truthfulqa", "mmlu"), limit=4)
    arguments = (policy, ["base", "sft"], [("base", "sft")], plan, tmp_path / "kept.json", 1)
    whole = ask_benchmarks(*arguments)
    names = ["truthfulqa_mc1", "truthfulqa_mc2", "mmlu_high_school_physics", "mmlu_world_religions", "mmlu"]
    assert [figures.name for figures in whole] == names and [figures.n for figures in whole] == [4, 4, 4, 4, 8]
    assert whole[-1].chance == 0.25 and whole[0].comparisons[0].test == "McNemar"
    kept = json.loads((tmp_path / "kept.json").read_text())
    kept.pop(next(key for key, row in kept.items() if row["stage"] == "sft"))
    (tmp_path / "kept.json").write_text(json.dumps(kept))
    asked = []
    run = harness.run_task
    module = sys.modules["sawyer.evaluation.benchmarks.ask"]
    monkeypatch.setattr(module, "run_task", lambda *args, **kwargs: asked.append(1) or run(*args, **kwargs))
    assert ask_benchmarks(*arguments) == whole and asked == [1]
    (tmp_path / "kept.json").write_text("torn")
    with pytest.raises(UsageError, match="Remove the file"):
        ask_benchmarks(*arguments)


def test_a_missing_harness_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    with pytest.raises(UsageError, match=r"pip install -c constraints.txt -e '\.\[harness\]'"):
        harness.check_harness()


def test_missing_and_damaged_data_are_named(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert harness.expand(["truthfulqa", "mmlu"]) == [*harness.TRUTHFULQA, *(f"mmlu_{s}" for s in sorted(SUBJECTS))]
    with pytest.raises(DataError, match=r"mmlu/test/alchemy_test\.csv"):
        local.mmlu("alchemy", "test")
    (data / "mmlu" / "test" / "world_religions_test.csv").write_text("only,three,fields\n")
    with pytest.raises(DataError, match="3 fields"):
        local.mmlu("world_religions", "test")
    (data / "truthfulqa" / "mc_task.json").write_text("[{}]")
    with pytest.raises(DataError, match=r"not TruthfulQA's mc_task.json"):
        local.truthfulqa()
    monkeypatch.delenv("SAWYER_DATA")
    with pytest.raises(DataError, match="SAWYER_DATA is not set"):
        harness.expand(["mmlu"])
    with pytest.raises(UsageError, match="at least one benchmark"):
        harness.expand([])


def test_tests_between_stages_by_hand() -> None:
    # Eight gained, one lost of nine answered differently: 2 · (1 + 9) / 2^9.
    assert mcnemar(8, 1) == pytest.approx(20 / 512) and mcnemar(0, 0) is None
    generator = np.random.default_rng(0)
    shifted = generator.normal(0.2, 1.0, 200)
    assert paired_bootstrap(shifted, 0) == pytest.approx(stats.ttest_1samp(shifted, 0).pvalue, abs=0.01)
    assert paired_bootstrap(np.zeros(5), 0) is None


def test_subjects_together_count_every_question_once() -> None:
    found = {
        "mmlu_a": {"base": np.array([1.0, 0.0, 0.0]), "sft": np.array([1.0, 1.0, 0.0])},
        "mmlu_b": {"base": np.array([1.0]), "sft": np.array([1.0])},
    }
    figures = benchmark_figures(found, {"mmlu_a": "acc", "mmlu_b": "acc"}, [("base", "sft")], 0)
    whole = figures[-1]
    assert whole.name == "mmlu" and whole.n == 4 and whole.scores["sft"].value == 0.75
    assert (whole.comparisons[0].gained, whole.comparisons[0].lost, whole.comparisons[0].p) == (1, 0, 1.0)
