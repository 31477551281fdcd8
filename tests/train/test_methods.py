"""``compare-methods``: what is trained again and what is not, failures, the table, and that nothing is promoted."""

import io
import json
import os
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from sawyer.errors import TrainingError, UsageError
from sawyer.home import Home
from sawyer.recipe import Recipe, load_recipe
from sawyer.registry import Registry
from tests.train.makers import make_ending_backbone, make_sft, pairs, recipe, sentence, write_lines
from train import methods
from train.method_table import print_comparison, to_markdown
from train.methods import compare_methods, peak_memory

ROOT = Path(__file__).resolve().parents[2]


class Here:
    """A process that runs at once in this one, and counts."""

    started: list[str]  # set anew by each test

    def __init__(self, target: Callable[..., None], args: tuple[Any, ...]) -> None:
        self.target, self.args, self.exitcode = target, args, 0

    def start(self) -> None:
        Here.started.append(f"{self.args[0]}{' again' if self.args[-1] else ''}")
        self.target(*self.args)

    def join(self) -> None:
        """It has ended."""


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Trains in this process; gives the list of what was started."""
    Here.started = []
    context = SimpleNamespace(get_context=lambda kind: SimpleNamespace(Process=Here), parent_process=lambda: None)
    monkeypatch.setattr(methods, "multiprocessing", context)
    return Here.started


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("models")
    backbone = make_ending_backbone(folder / "backbone")
    return backbone, make_sft(backbone, folder / "sft")


@pytest.fixture
def world(models: tuple[Path, Path], tmp_path: Path) -> tuple[Recipe, Home]:
    """A recipe whose reward is a length, and a home with an SFT adapter and a promoted rlf."""
    backbone, sft = models
    prompts = write_lines(tmp_path / "p.jsonl", [{"prompt": sentence(random.Random(n), 3)} for n in range(40)])
    asked = write_lines(tmp_path / "e.jsonl", [{"prompt": sentence(random.Random(99 + n), 4)} for n in range(12)])
    given = write_lines(tmp_path / "pairs.jsonl", pairs(24))
    small = {"batch_size": 8, "micro_batch": 4, "lr": 1e-2}
    told = recipe(
        backbone,
        sft={"sources": [{"name": given}], "max_length": 90},
        reward={"sources": [{"name": given}], "held_out": 0.2},
        ppo={
            "prompts": [{"name": prompts}],
            "reward": [{"length": {"target": 3}}],
            "max_prompt": 40,
            "max_new_tokens": 8,
        },
        dpo=small,
        kto=small,
        evaluate={"prompts": [{"name": asked}], "max_new_tokens": 8},
    )
    home = Home(tmp_path / "home").ensure()
    registry = Registry.of(told, home)
    registry.promote(registry.register("sft", sft, info={}).ref, registry.register("rlf", sft, info={}).ref)
    return told, home


def test_methods_are_compared_and_nothing_is_promoted(world: tuple[Recipe, Home], here: list[str]) -> None:
    told, home = world
    registry = Registry.of(told, home)
    before = (registry.folder / "state.json").read_bytes()
    made = compare_methods(told, home, ["dpo", "kto"])
    assert here == ["dpo", "kto"] and (registry.folder / "state.json").read_bytes() == before
    assert [(row.method, row.version) for row in made.rows] == [("sft", "sft@1"), ("dpo", "rlf@2"), ("kto", "rlf@3")]
    assert registry.get("rlf@2").info["method"] == "dpo" and registry.get("rlf@2").info["sft"] == "sft@1"
    first, *others = (row.figures for row in made.rows)
    assert first is not None and first.win_rate is None and first.kl is None
    for row in others:
        assert row is not None and row.win_rate is not None and row.win_rate.level == 0.9
        assert row.kl is not None and row.reward.low <= row.reward.value <= row.reward.high
    assert made.rows[1].memory_mib is not None and made.rows[1].memory_mib > 50
    folder = home.runs / "test" / "methods"
    assert json.loads((folder / "comparison.json").read_text()) == made.model_dump(mode="json")
    table = (folder / "comparison.md").read_text()
    assert "| dpo | rlf@2 |" in table and "12 held-out prompts" in table and (folder / "evaluate/report.html").exists()
    shown = io.StringIO()
    print_comparison(made, Console(file=shown, width=80))
    assert "rlf@3" in shown.getvalue() and "…\n" not in shown.getvalue()

    # Nothing is trained twice; a changed setting trains that method again, a new SFT all of them.
    again = compare_methods(told, home, ["dpo", "kto"])
    assert here == ["dpo", "kto"] and again.rows == made.rows
    assert told.kto is not None
    changed = told.model_copy(update={"kto": told.kto.model_copy(update={"beta": 0.3})})
    assert [row.version for row in compare_methods(changed, home, ["dpo", "kto"]).rows] == ["sft@1", "rlf@2", "rlf@4"]
    assert here == ["dpo", "kto", "kto"]
    registry.promote(registry.register("sft", registry.get("sft@1").path, info={"new": True}).ref)
    assert compare_methods(changed, home, ["dpo"]).rows[1].version == "rlf@5"
    assert here == ["dpo", "kto", "kto", "dpo"] and registry.get("rlf@5").info["sft"] == "sft@2"


def test_a_failing_method_leaves_the_others_and_is_tried_again(world: tuple[Recipe, Home], here: list[str]) -> None:
    told, home = world
    assert told.kto is not None
    broken = told.model_copy(update={"kto": told.kto.model_copy(update={"max_length": 3})})
    made = compare_methods(broken, home, ["kto", "dpo"])
    kto, dpo = made.rows[1:]
    assert kto.version is None and kto.figures is None and "longer than 3 tokens" in (kto.error or "")
    assert dpo.figures is not None
    assert "| kto | failed | – |" in to_markdown(made) and "kto failed: Nothing of" in to_markdown(made)
    with pytest.raises(TrainingError, match="Every method failed: kto: Nothing of"):
        compare_methods(broken, home, ["kto"])
    assert here == ["kto", "dpo", "kto again"]


def test_a_killed_process_goes_on(world: tuple[Recipe, Home], here: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    told, home = world

    def killed(self: Here) -> None:
        self.exitcode = -9
        Here.started.append("killed")

    with monkeypatch.context() as patch, pytest.raises(TrainingError, match=r"ended by signal 9 .* to go on"):
        patch.setattr(Here, "start", killed)
        compare_methods(told, home, ["dpo"])
    record = home.runs / "test" / "methods" / "dpo.json"
    record.write_text(json.dumps(json.loads(record.read_text()) | {"seconds": 1000.0}))
    made = compare_methods(told, home, ["dpo"])
    assert here == ["killed", "dpo again"] and made.rows[1].version == "rlf@2"
    assert made.rows[1].seconds is not None and made.rows[1].seconds > 1000  # all sittings together


def test_what_cannot_be_compared_is_refused_before_anything_is_trained(
    world: tuple[Recipe, Home], here: list[str]
) -> None:
    told, home = world
    for names, message in [
        (["dpo", "pop"], "of: ppo, grpo, rloo, dpo, ipo, kto, orpo, spin; given: pop"),
        ([], "given: none"),
        (["dpo", "dpo"], "given twice: dpo"),
    ]:
        with pytest.raises(UsageError, match=message):
            compare_methods(told, home, names)
    with pytest.raises(UsageError, match="sawyer train base tiny"):
        compare_methods(load_recipe("tiny"), home, ["dpo"])
    without = told.model_copy(update={"ppo": None})
    with pytest.raises(UsageError, match="compared by the recipe's reward: run `sawyer train reward test`"):
        compare_methods(without, home, ["dpo"])
    assert here == []


def test_peak_memory_is_this_process_own() -> None:
    assert 20 < peak_memory() < 100_000


@pytest.mark.slow
def test_the_command_trains_each_method_in_a_process_of_its_own(world: tuple[Recipe, Home], tmp_path: Path) -> None:
    told, home = world
    (tmp_path / "small.yaml").write_text(json.dumps(told.model_dump(mode="json")), encoding="utf-8")

    def run(*more: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "sawyer.cli.app", "compare-methods", "small.yaml", "--home", str(home.root)]
        return subprocess.run(
            [*command, *more], cwd=tmp_path, capture_output=True, text=True, timeout=500,
            env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "100"},
        )  # fmt: skip

    done = run("--methods", "dpo,kto", "--set", "kto.max_length=3")
    assert done.returncode == 1, done.stderr[-3000:]
    assert "rlf@2" in done.stdout and "kto failed: Nothing of" in " ".join(done.stdout.split())
    done = run("--methods", "dpo,kto")
    assert done.returncode == 0, done.stderr[-3000:]
    assert "dpo: trained before, rlf@2" in done.stderr and "rlf@3" in done.stdout
    assert run("--methods", "pop").returncode == 2
