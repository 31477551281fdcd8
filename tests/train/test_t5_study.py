"""The summaries case study in small: a T5 and its classifiers from nothing, PPO under their sum, the report."""

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import (
    AutoModelForSeq2SeqLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    GenerationMixin,
    T5Config,
    T5ForConditionalGeneration,
)

from sawyer.data import load_prompts
from sawyer.errors import DataError, RecipeError, TrainingError, UsageError
from sawyer.evaluation import Report, evaluate
from sawyer.evaluation.markdown import markdown_tables
from sawyer.home import Home
from sawyer.recipe import ClassifierSpec, DataSource, Recipe, load_recipe
from sawyer.registry import Registry
from sawyer.runs import Run
from tests.train.makers import file_bytes, write_lines
from train.classifiers import matthews, train_classifiers
from train.pipeline import Parts, run_pipeline, run_step, steps_of
from train.t5 import BIAS_RATE, Seq2SeqTrainer, train_t5
from train.trainer import training_arguments

SHAPE = "{hidden_size: 32, layers: 1, heads: 2, intermediate_size: 64}"
SMALLER = [
    "threads=1",
    "model.dtype=float32",
    f"t5.architecture={SHAPE}",
    "t5.tokenizer.vocab_size=700",
    "t5.sources=[{name: starter/acceptability, limit: 60}]",
    "t5.copy_steps=1",
    "t5.text_steps=2",
    "t5.lead_steps=2",
    "t5.epochs=1",
    "t5.batch_size=32",
    "t5.save_every=2",
    *(f"classifiers.{name}.scratch={SHAPE[:-1]}, vocab_size: 500}}" for name in ("acceptability", "sentiment")),
    *(f"classifiers.{name}.text_sources=[]" for name in ("acceptability", "sentiment")),
    *(f"classifiers.{name}.text_steps=2" for name in ("acceptability", "sentiment")),
    "classifiers.acceptability.corrupt.sources=[{name: starter/conversations, limit: 20}]",
    "classifiers.sentiment.slip.sources=[{name: starter/news, fields: {text: summary}, limit: 40}]",
    *(f"classifiers.{name}.epochs=1" for name in ("acceptability", "sentiment")),
    *(f"classifiers.{name}.save_every=5" for name in ("acceptability", "sentiment")),
    "ppo.steps=2",
    "ppo.batch_size=8",
    "ppo.minibatch_size=8",
    "ppo.micro_batch=8",
    "ppo.normalize_samples=24",
    "ppo.max_prompt=148",
    "ppo.max_new_tokens=12",
    "ppo.watch=false",
    "evaluate.limit=12",
    "evaluate.max_new_tokens=12",
]


def smaller(*more: str) -> Recipe:
    return load_recipe("tiny-t5-neutral", [*SMALLER, *more])


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """A home in which the small study ran through its pipeline."""
    home = Home.find(tmp_path_factory.mktemp("study")).ensure()
    run_pipeline(smaller(), home)
    return home


def test_the_pipeline_trains_t5_classifiers_and_policy(finished: Home) -> None:
    recipe = smaller()
    assert steps_of(recipe) == ["base", "classifiers", "ppo"]
    registry = Registry.of(recipe, finished)
    rlf = registry.current("rlf")
    assert rlf is not None and (rlf.info["sft"], rlf.info["classifiers"]) == (None, "classifiers@1")
    statistics = rlf.info["statistics"]
    assert set(statistics) == {"acceptability", "neutral"} and all(s["deviation"] > 0 for s in statistics.values())
    base, classifiers = registry.current("base"), registry.current("classifiers")
    assert base is not None and classifiers is not None
    tokenizer, model = AutoTokenizer.from_pretrained(base.path), AutoModelForSeq2SeqLM.from_pretrained(base.path)
    assert isinstance(model, GenerationMixin)
    assert tokenizer("A fire closed the road.")["input_ids"][-1] == tokenizer.eos_token_id
    made = AutoModelForSequenceClassification.from_pretrained(classifiers.path / "sentiment")
    assert made.config.id2label == {0: "negative", 1: "neutral", 2: "positive"}


def test_the_report_shows_each_part_and_the_guard(finished: Home) -> None:
    report = evaluate(smaller(), finished)
    assert [(part.name, part.role, part.weight) for part in report.parts] == [
        ("acceptability", "reward", 1.0), ("neutral", "reward", 0.5), ("guard rouge-l", "guard", None)
    ]  # fmt: skip
    assert [stage.stage for stage in report.stages] == ["base", "rlf"]
    for part in report.parts:
        (change,) = part.comparisons
        assert (change.before, change.after) == ("base", "rlf")
        if change.n == report.prompts.count:  # no empty reply was left out
            difference = part.means["rlf"].value - part.means["base"].value
            assert change.difference.value == pytest.approx(difference, abs=1e-6)
    assert report.acceptance[-1].name == "guard rouge-l, upper end"
    folder = finished.runs / "tiny-t5-neutral" / "evaluate"
    assert Report.model_validate_json((folder / "report.json").read_text()) == report
    assert "Parts of the reward" in (folder / "report.html").read_text()
    table = markdown_tables(report)
    assert "| 0.5 · neutral |" in table and "| guard rouge-l |" in table


def test_training_the_t5_resumes_bit_for_bit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = smaller()
    with Run(tmp_path / "whole", step="base", recipe=recipe) as run:
        whole = train_t5(recipe, run)
    saved: list[int] = []
    write = Run.save_checkpoint

    def and_stop(self: Run, step: int, *rest: Any, **more: Any) -> None:
        write(self, step, *rest, **more)
        saved.append(step)
        if len(saved) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(Run, "save_checkpoint", and_stop)
    with pytest.raises(KeyboardInterrupt), Run(tmp_path / "broken", step="base", recipe=recipe) as run:
        train_t5(recipe, run)
    with Run(tmp_path / "broken", step="base", recipe=recipe, resume=True) as run:
        assert file_bytes(train_t5(recipe, run)) == file_bytes(whole)


def test_position_biases_have_a_rate_of_their_own(tmp_path: Path) -> None:
    """All parameters are trained, each once; the biases BIAS_RATE times as fast, and as fast when the rate falls."""
    recipe = smaller()
    assert recipe.t5 is not None
    shape = {"d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 1, "num_heads": 2, "vocab_size": 50}
    model = T5ForConditionalGeneration(T5Config(**shape, decoder_start_token_id=0))
    with Run(tmp_path / "run", step="base", recipe=recipe) as run:
        options = training_arguments(run, recipe.t5, device=torch.device("cpu"), dtype=torch.float32, micro_batch=4)
        trainer = Seq2SeqTrainer(run=run, lengths=[], dtype=torch.float32, model=model, args=options)
        trainer.create_optimizer_and_scheduler(100)
    groups = trainer.optimizer.param_groups
    assert {id(p) for group in groups for p in group["params"]} == {id(p) for p in model.parameters()}
    assert sum(len(group["params"]) for group in groups) == len(list(model.parameters()))
    fast = [group for group in groups if group["initial_lr"] == pytest.approx(BIAS_RATE * recipe.t5.lr)]
    names = {name for name, p in model.named_parameters() for g in fast for q in g["params"] if p is q}
    assert names == {name for name, _ in model.named_parameters() if "relative_attention_bias" in name} and names


def test_an_interrupted_classifier_goes_on_and_finished_ones_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = smaller()
    with Run(tmp_path / "whole", step="classifiers", recipe=recipe) as run:
        whole = train_classifiers(recipe, run)
    write = Run.save_checkpoint

    def and_stop(self: Run, step: int, *rest: Any, **more: Any) -> None:
        write(self, step, *rest, **more)
        if self.step == "classifiers.sentiment" and step == 10:
            raise KeyboardInterrupt

    monkeypatch.setattr(Run, "save_checkpoint", and_stop)
    with pytest.raises(KeyboardInterrupt), Run(tmp_path / "broken", step="classifiers", recipe=recipe) as run:
        train_classifiers(recipe, run)
    monkeypatch.undo()
    first = (tmp_path / "broken" / "acceptability" / "manifest.json").stat().st_mtime_ns
    with Run(tmp_path / "broken", step="classifiers", recipe=recipe, resume=True) as run:
        assert file_bytes(train_classifiers(recipe, run)) == file_bytes(whole)
    assert (tmp_path / "broken" / "acceptability" / "manifest.json").stat().st_mtime_ns == first


def test_a_classifier_learns_and_its_report_tells_how_well(tmp_path: Path) -> None:
    draw = random.Random(1)
    words = ["tea", "river", "lamp", "bread", "stone", "wind"]
    rows = [
        {"text": f"{' '.join(draw.choice(words) for _ in range(5))} {('good', 'bad')[n % 2]}", "label": n % 2}
        for n in range(240)
    ]
    name = write_lines(tmp_path / "rows.jsonl", rows)
    spec = {
        "scratch": {"vocab_size": 400, "hidden_size": 32, "layers": 1, "heads": 2, "intermediate_size": 64},
        "sources": [{"name": name}],
        "labels": {0: "fine", 1: "spoilt"},
        "epochs": 12,
        "lr": 3e-3,
        "held_out": 0.2,
    }
    recipe = smaller().model_copy(update={"classifiers": {"taste": ClassifierSpec.model_validate(spec)}})
    with Run(tmp_path / "run", step="classifiers", recipe=recipe) as run:
        folder = train_classifiers(recipe, run)
    report = json.loads((folder / "taste" / "classifier_report.json").read_text())
    assert report["labels"] == ["fine", "spoilt"] and report["held_out"]["n"] > 20
    assert report["held_out"]["accuracy"] > 0.95 > report["held_out"]["commonest"]
    assert report["held_out"]["matthews"] > 0.9


def test_matthews_correlation_by_hand() -> None:
    assert matthews(np.array([[5, 0], [0, 5]])) == pytest.approx(1.0)
    assert matthews(np.array([[0, 5], [5, 0]])) == pytest.approx(-1.0)
    assert matthews(np.array([[5, 0], [5, 0]])) == 0.0  # always the same answer
    table = np.array([[6, 2], [1, 3]])
    assert matthews(table) == pytest.approx((6 * 3 - 2 * 1) / np.sqrt(8 * 4 * 7 * 5))


def test_prompts_carry_their_reference_to_the_reward() -> None:
    source = DataSource(name="starter/news", template="Summarize: {text}", limit=3)
    for prompt in load_prompts([source]):
        assert prompt.messages[-1].keys() == {"role", "content"}
        assert prompt.asked[-1] == {**prompt.messages[-1], "reference": prompt.reference}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["ppo.reward=[{own: spelling}]"], "no key of classifiers; there are: acceptability, sentiment"),
        (["classifiers.sentiment.model=roberta-base"], "give one of model"),
        (["sft.sources=[{name: starter/conversations}]"], "sft trains decoder-only models"),
        (["base.sources=[{name: a}]", "base.phases=[{tokens: 9}]"], "base and t5 exclude each other"),
    ],
)
def test_sections_that_do_not_fit_are_refused(changes: list[str], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        smaller(*changes)


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    home, recipe = Home.find(tmp_path).ensure(), smaller()
    with pytest.raises(UsageError, match="run `sawyer train classifiers tiny-t5-neutral` first"):
        run_step("ppo", recipe, home, Parts(backbone="anything"))
    one = write_lines(tmp_path / "one.jsonl", [{"text": "a b c", "label": "x"}, {"text": "d e f", "label": "x"}])
    spec = recipe.classifiers["sentiment"].model_copy(update={"sources": [DataSource(name=one)], "slip": None})
    alike = recipe.model_copy(update={"classifiers": {"alike": spec}})
    with pytest.raises(TrainingError, match=r"have the label 'x'"):
        run_step("classifiers", alike, home, Parts())
    bare = write_lines(tmp_path / "bare.jsonl", [{"text": "a b c"}])
    spec = spec.model_copy(update={"sources": [DataSource(name=bare)]})
    with pytest.raises(DataError, match="none of them usable"):
        run_step("classifiers", recipe.model_copy(update={"classifiers": {"bare": spec}}), home, Parts())
