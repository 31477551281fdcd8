"""A round as a machine: what it refuses before it begins, what it learns from, and how it ends and goes on."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sawyer.data import is_held_out, load_pairs
from sawyer.errors import CheckpointError, GateRefused, UsageError
from sawyer.home import Home
from sawyer.recipe import DataSource, Recipe, RewardPartSpec, load_recipe
from sawyer.registry import Registry
from sawyer.rounds import RoundBook, RoundRunning
from sawyer.runs import MANIFEST
from sawyer.store import FeedbackStore
from sawyer.store.forget import forget
from sawyer.types.rounds import ROUND_STEPS
from tests.train.round_makers import add_votes, make_home
from train.round import machine, run_round

Asked = tuple[Recipe, Home]


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Asked:
    told, home = make_home(tmp_path_factory.mktemp("rounds"))
    add_votes(home, 120)
    return told, home


@pytest.fixture
def asked(original: Asked, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Asked:
    """A copy of the home with 120 votes."""
    told, home = original
    mine = tmp_path / "copy"
    shutil.copytree(home.root, mine)
    monkeypatch.delenv("SAWYER_DB", raising=False)
    return told, Home(mine)


class Stubs:
    """The heavy steps replaced: each records its call and does as told."""

    def __init__(self, patch: pytest.MonkeyPatch, passes: bool = True) -> None:
        self.calls: list[str] = []
        self.passes = passes
        self.failing: dict[str, BaseException] = {}
        for name, step in (("train_rewards", "reward"), ("normalise", "normalise"), ("train_rlf", "rlf")):
            patch.setattr(machine, name, self._step(step))
        patch.setattr(machine, "examine", self._step("evaluate"))
        patch.setattr(machine, "pass_gate", self._step("gate"))

    def _step(self, name: str) -> Callable[[Any], dict[str, Any]]:
        def act(work: Any) -> dict[str, Any]:
            self.calls.append(name)
            if name in self.failing:
                raise self.failing.pop(name)
            if name == "rlf":
                folder = work.version("sft")
                made = [
                    work.registry.register(
                        stage,
                        work.version(stage) if stage == "reward" else folder,
                        info={"round": work.diary.record.number},
                    )
                    for stage in ("reward", "rlf")
                ]
                work.diary.update(candidate=made[1].ref, current="rlf@1")
                return {"reward": made[0].ref, "candidate": made[1].ref}
            if name == "gate":
                return {"passed": self.passes, "reasons": [] if self.passes else ["KL: too far."]}
            return {}  # fmt: skip

        return act


def current(asked: Asked) -> dict[str, str | None]:
    registry = Registry.of(*asked)
    return {stage: version.ref if (version := registry.current(stage)) else None for stage in ("sft", "rlf", "reward")}


def changed(recipe: Recipe, **of_round: Any) -> Recipe:
    return recipe.model_copy(update={"round": recipe.round.model_copy(update=of_round)})


def test_a_passed_gate_promotes_both_at_once(asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    stubs = Stubs(monkeypatch)
    record = run_round(*asked)
    assert stubs.calls == ["reward", "normalise", "rlf", "evaluate", "gate"]
    assert (record.state, record.candidate, record.votes, record.voters) == ("promoted", "rlf@2", 120, 5)
    assert current(asked) == {"sft": "sft@1", "rlf": "rlf@2", "reward": "reward@2"}
    history = Registry.of(*asked).promotions.history()
    assert history[-1]["versions"] == ["reward@2", "rlf@2"]
    book = RoundBook(asked[1], "test")
    assert [step.state for step in book.detail(1).steps] == ["done"] * 7
    for step in ROUND_STEPS:
        assert json.loads((book.folder(1) / step / MANIFEST).read_text())["step"] == step
    Registry.of(*asked).rollback("rlf")
    assert current(asked)["rlf"] == "rlf@1"


def test_a_snapshot_opens_the_store_once(asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    Stubs(monkeypatch)
    opened: list[str] = []

    def opening(url: str, real: Any = FeedbackStore.open) -> FeedbackStore:
        opened.append(url)
        return real(url)

    monkeypatch.setattr(FeedbackStore, "open", opening)
    assert run_round(*asked, dry_run=True).state == "dry"
    assert opened == [asked[1].db_url]


def test_a_dry_run_promotes_nothing(asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    Stubs(monkeypatch)
    before = current(asked)
    assert run_round(*asked, dry_run=True).state == "dry"
    assert current(asked) == before and Registry.of(*asked).get("rlf@2").number == 2


def test_a_refusal_keeps_the_candidate_and_says_why(asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    Stubs(monkeypatch, passes=False)
    before = current(asked)
    with pytest.raises(GateRefused, match=r"rlf@2 is not promoted, rlf@1 stays current. KL: too far.") as caught:
        run_round(*asked)
    assert caught.value.exit_code == 3 and current(asked) == before
    found = RoundBook(asked[1], "test").detail(1)
    assert (found.state, found.reasons, found.candidate) == ("refused", ["KL: too far."], "rlf@2")
    with pytest.raises(UsageError, match="no round of test to go on with"):
        run_round(*asked, resume=True)


@pytest.mark.parametrize("step", ["reward", "rlf", "evaluate", "gate"])
def test_a_failed_step_is_resumed_and_no_other_is_done_again(
    asked: Asked, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    stubs = Stubs(monkeypatch)
    stubs.failing[step] = CheckpointError("The checkpoint could not be written: No space left on device.")
    with pytest.raises(CheckpointError):
        run_round(*asked)
    found = RoundBook(asked[1], "test").detail(1)
    assert (found.state, found.step) == ("failed", step) and "No space left" in found.reasons[0]
    done = stubs.calls[:-1]
    stubs.calls.clear()
    add_votes(asked[1], 10, seed=77)  # the snapshot stays as it was
    record = run_round(*asked, resume=True)
    assert (record.number, record.state, record.votes, record.reasons) == (1, "promoted", 120, [])
    assert not set(stubs.calls) & set(done) and stubs.calls[0] == step
    assert len(Registry.of(*asked).versions("rlf")) == 2


def test_killed_between_promotion_and_its_manifest_nothing_is_promoted_twice(
    asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    Stubs(monkeypatch)
    promote = machine.promote

    def die(work: Any) -> dict[str, Any]:
        promote(work)
        raise KeyboardInterrupt

    monkeypatch.setattr(machine, "promote", die)
    with pytest.raises(KeyboardInterrupt):
        run_round(*asked)
    book = RoundBook(asked[1], "test")
    assert book.record(1).state == "interrupted"
    monkeypatch.setattr(machine, "promote", promote)
    assert run_round(*asked, resume=True).state == "promoted"
    assert [entry["versions"] for entry in Registry.of(*asked).promotions.history()].count(["reward@2", "rlf@2"]) == 1


def test_a_version_promoted_meanwhile_makes_the_comparison_stale(asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    stubs = Stubs(monkeypatch)
    stubs.failing["gate"] = CheckpointError("stopped here")
    with pytest.raises(CheckpointError):
        run_round(*asked)
    registry = Registry.of(*asked)
    other = registry.register("rlf", registry.get("sft@1").path, info={"made": "by hand"})
    registry.promote(other.ref)
    with pytest.raises(GateRefused, match="Current rlf unchanged since the round began: rlf@3 is current"):
        run_round(*asked, resume=True)
    found = RoundBook(asked[1], "test").detail(1)
    assert found.state == "refused" and current(asked)["rlf"] == other.ref and not found.conditions[-1].met


def test_an_altered_step_is_done_again(asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    stubs = Stubs(monkeypatch)
    stubs.failing["gate"] = CheckpointError("full")
    with pytest.raises(CheckpointError):
        run_round(*asked)
    (RoundBook(asked[1], "test").folder(1) / "snapshot" / "pairs.jsonl").write_text("{}\n")
    run_round(*asked, resume=True)
    assert "snapshot is done again" in "".join(RoundBook(asked[1], "test").detail(1).log)


def test_too_little_is_refused_in_words(asked: Asked) -> None:
    told, home = asked
    for changes, text in (
        ({"fewest_votes": 500}, "too few votes: 120 prefer an answer and may teach .*lower round.fewest_votes"),
        ({"fewest_voters": 6}, "all 120 votes come from 5 voters, and a round needs 6"),
        ({"held_out": 0.01}, "too few different questions.*raise round.held_out"),
    ):
        with pytest.raises(GateRefused, match=text):
            run_round(changed(told, **changes), home)
    rounds = RoundBook(home, "test").summaries()
    assert [r.state for r in rounds] == ["refused"] * 3 and rounds[0].votes == 120 and rounds[0].step == "snapshot"


def test_one_voter_only_is_refused(original: Asked, tmp_path: Path) -> None:
    told, home = original[0], Home(tmp_path / "alone")
    shutil.copytree(original[1].registry, home.registry)
    add_votes(home.ensure(), 60, voters=1)
    with pytest.raises(GateRefused, match="all 60 votes come from 1 voter, and a round needs 2"):
        run_round(told, home)


def test_wrong_recipes_are_refused_before_anything_is_begun(asked: Asked, tmp_path: Path) -> None:
    told, home = asked
    assert told.ppo is not None
    part = RewardPartSpec.model_validate({"length": {"target": 9, "slack": 3}})
    foreign = told.ppo.model_copy(update={"reward": [part]})
    for recipe, where, method, text in (
        (told.model_copy(update={"reward": None}), home, "ppo", "no section reward"),
        (told.model_copy(update={"ppo": foreign}), home, "ppo", "does not come from votes"),
        (told, Home(tmp_path / "new").ensure(), "ppo", "no reward and no sft yet.*sawyer pipeline test"),
        (told, home, "magic", "no method 'magic'; there are: ppo"),
    ):
        with pytest.raises(UsageError, match=text):
            run_round(recipe, where, method=method)
    assert RoundBook(home, "test").numbers() == []


def test_a_second_round_at_once_is_refused(asked: Asked) -> None:
    with RoundBook(asked[1], "test").lock.held(), pytest.raises(RoundRunning, match="only one can at a time"):
        run_round(*asked)


def test_the_snapshot_is_split_by_prompt_and_stays_so_as_votes_come(
    asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    Stubs(monkeypatch)
    book, sides = RoundBook(asked[1], "test"), []
    for number in (1, 2):
        run_round(*asked, dry_run=True)
        folder = book.folder(number) / "snapshot"
        found = load_pairs([DataSource(name=str(folder / "pairs.jsonl"))])
        sides.append({p.prompt[0]["content"]: is_held_out(p.prompt, 0.2) for p in found})
        compared = [json.loads(line)["prompt"] for line in (folder / "held_out.jsonl").read_text().splitlines()]
        assert len(compared) >= 8 and all(is_held_out(prompt, 0.2) for prompt in compared)
        add_votes(asked[1], 60, seed=123)
    first, second = sides
    assert len(first) < len(second) and all(second[prompt] == side for prompt, side in first.items())
    assert {fold for fold in first.values()} == {True, False}


def test_who_asks_to_be_forgotten_is_gone_from_the_snapshots_as_well(
    asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    Stubs(monkeypatch)
    with FeedbackStore.open(asked[1].db_url) as store:
        asked_by = [(turn.messages[0]["content"], vote.voter) for vote, turn in store.counting_votes()]
        mine = {asked for asked, voter in asked_by if voter == "v3"} - {q for q, voter in asked_by if voter != "v3"}
        run_round(*asked, dry_run=True)
        folder = RoundBook(asked[1], "test").folder(1) / "snapshot"
        files = [folder / name for name in ("pairs.jsonl", "prompts.jsonl", "held_out.jsonl")]
        before = [file.read_text() for file in files]
        forget(store, "v3")
    for text, file in zip(before, files, strict=True):
        assert any(json.dumps(question) in text for question in mine)
        assert file.read_text() and not any(json.dumps(question) in file.read_text() for question in mine)


def test_sources_that_are_not_at_hand_are_named_and_left_out(asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    Stubs(monkeypatch)
    told, home = asked
    assert told.reward is not None
    sources = [*told.reward.sources, DataSource(name="prefs-nobody-has")]
    more = told.model_copy(update={"reward": told.reward.model_copy(update={"sources": sources})})
    run_round(more, home, dry_run=True)
    told_of = {step.name: step.detail for step in RoundBook(home, "test").detail(1).steps}["snapshot"]
    assert "left out: prefs-nobody-has" in told_of and "100 earlier pairs" in told_of


def test_a_server_starts_a_round_in_a_process_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The process takes the lock over, outlives whoever started it, and its failure is on record with its reason."""
    import os
    import time

    from sawyer.cli.rounds import starter
    from sawyer.types import StartRound

    monkeypatch.delenv("SAWYER_DB", raising=False)
    home, told = Home(tmp_path / "home").ensure(), load_recipe("tiny")
    begun = starter(told, home)(StartRound(dry_run=True))
    book = RoundBook(home, "tiny")
    holder = book.lock.holder()
    assert holder is not None and holder.number == begun.number == 1 and holder.pid is not None
    assert os.getsid(holder.pid) == holder.pid  # a session of its own: Ctrl-C at the server does not reach it
    assert book.record(1).state == "running"
    with pytest.raises(RoundRunning):
        starter(told, home)(StartRound())
    end = time.monotonic() + 100
    while book.lock.holder() is not None and time.monotonic() < end:
        time.sleep(0.2)
    record = book.record(1)
    assert (record.state, record.dry_run) == ("failed", True)
    assert "The recipe tiny has no reward and no sft and no base yet" in record.reasons[0]
    assert record.reasons[0] in " ".join((book.folder(1) / "process.log").read_text().split())
