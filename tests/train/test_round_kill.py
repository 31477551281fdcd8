"""Real rounds on a small model: to the end, and killed by SIGKILL in every step, which changes nothing."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from sawyer.home import Home
from sawyer.recipe import Recipe
from sawyer.recipe.load import save_resolved
from sawyer.registry import Registry
from sawyer.rounds import RoundBook
from sawyer.types.rounds import ROUND_STEPS, RoundDetail
from tests.train.makers import file_bytes
from tests.train.round_makers import add_votes, make_home
from train.round import run_round

ROOT = Path(__file__).resolve().parents[2]
# A gate that any candidate of three steps passes: what is tested is the way there.
OPEN = {"level": 0.500001, "chance": 0.6, "fall": 9, "forget": 1, "kl": 999, "repetition": 1, "distinct": 0,
        "shortest": 0.01, "longest": 99}  # fmt: skip


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> tuple[Recipe, Home, Path]:
    told, home = make_home(tmp_path_factory.mktemp("kill"))
    add_votes(home, 120)
    told = Recipe.model_validate(told.model_dump() | {"round": told.round.model_dump() | {"gate": OPEN}})
    path = home.root.parent / "test.yaml"
    save_resolved(told, path)
    return told, home, path


def copy_of(home: Home, place: Path) -> Home:
    shutil.copytree(home.root, place)
    return Home(place)


def weights(home: Home, ref: str) -> dict[str, bytes]:
    """The bytes of a version's weights."""
    files = file_bytes(Registry(home.registry, "test").get(ref).path)
    return {name: data for name, data in files.items() if name.endswith(".safetensors")}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where both rounds run: the order of records is drawn from the path of their file."""
    return tmp_path_factory.mktemp("place") / "home"


@pytest.fixture(scope="module")
def undisturbed(prepared: tuple[Recipe, Home, Path], place: Path) -> Home:
    """A home in which the round ran without interruption; moved away once it has ended."""
    from sawyer.errors import GateRefused

    home = copy_of(prepared[1], place)
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("SAWYER_DB", raising=False)
        try:
            run_round(prepared[0], home)
        except GateRefused as refusal:
            # Whether three steps of PPO make a random model better is luck: either end is a whole round.
            assert "not promoted" in str(refusal)
    return Home(place.rename(place.with_name("done")))


def test_a_round_measures_what_the_gate_judges(undisturbed: Home) -> None:
    found: RoundDetail = RoundBook(undisturbed, "test").detail(1)
    names = {condition.name for condition in found.conditions}
    assert {"better by the reward, at equal length", "better by the judge, at equal length"} <= names
    assert {"reward agrees with held-out votes", "no worse by the reward of before these votes"} <= names
    assert found.figures["reward_accuracy"] > 0.7 and found.figures["judge_accuracy"] > 0.7
    assert found.figures["prompts"] == 20 and found.figures["kl"] > -1
    assert found.samples and found.samples[0].current_reward is not None
    folder = RoundBook(undisturbed, "test").folder(1)
    assert (folder / "evaluate" / "report" / "report.html").exists()
    statistics = json.loads((folder / "normalise" / "statistics.json").read_text())
    version = Registry(undisturbed.registry, "test").get("rlf@2")
    assert version.info["statistics"] == statistics and version.info["from"] == "rlf@1"
    assert "TruthfulQA is not measured" in "".join(found.log)
    assert not list(folder.rglob("checkpoints"))


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_killed_in_every_step_it_ends_as_if_undisturbed(
    prepared: tuple[Recipe, Home, Path], undisturbed: Home, place: Path
) -> None:
    home = copy_of(prepared[1], place)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    environment.pop("SAWYER_DB", None)
    done = subprocess.run(
        [sys.executable, "-m", "tests.train.round_killer", str(home.root), str(prepared[2])],
        cwd=ROOT, capture_output=True, text=True, timeout=800, env=environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    *kills, end = [json.loads(line) for line in done.stdout.splitlines()]
    log = (home.root / "killer.log").read_text()
    usual = RoundBook(undisturbed, "test").detail(1)
    steps = [s for s in ROUND_STEPS if usual.state == "promoted" or s != "promote"]
    struck = {(kill["step"], kill["where"]) for kill in kills if kill["killed"]}
    assert {(step, "manifest") for step in steps} | {("reward", "middle"), ("rlf", "middle")} <= struck, (
        kills,
        log[-2000:],
    )
    assert all(kill["state"] == "interrupted" for kill in kills if kill["killed"])
    found = RoundBook(home, "test").detail(1)
    assert (found.state, found.figures) == (usual.state, usual.figures), log[-2000:]
    assert end["ended"] in ({0} if usual.state == "promoted" else {2, 3})
    for ref in ("rlf@2", "reward@2"):
        assert weights(home, ref) == weights(undisturbed, ref)
    assert len(Registry(home.registry, "test").versions("rlf")) == 2
