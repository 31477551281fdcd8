"""A round from its first step to its last. Every step that its manifest proves done is skipped, so that a round that
was killed anywhere goes on where it stopped.
"""

import contextlib
import os
from collections.abc import Callable
from typing import Any

from sawyer.errors import GateRefused, SawyerError, UsageError
from sawyer.home import Home
from sawyer.recipe import Recipe, load_recipe
from sawyer.registry import Registry
from sawyer.rounds import Diary, RoundBook, RoundRecord
from sawyer.rounds.gate import reasons
from sawyer.types.rounds import ROUND_STEPS
from train.pipeline import RLF, needs_trained
from train.round.examine import examine, pass_gate, unchanged
from train.round.rewards import train_rewards
from train.round.snapshot import take_snapshot
from train.round.tuning import normalise, train_rlf
from train.round.work import RoundWork

Work = Callable[[RoundWork], dict[str, Any]]


def run_round(
    recipe: Recipe, home: Home, *, method: str = "ppo", dry_run: bool = False, resume: bool = False
) -> RoundRecord:
    """Run one round, or go on with the newest one that did not end.

    Args:
        resume: go on; the round keeps the recipe, the method and the dryness it began with.

    Raises:
        UsageError: the recipe, the method or the registry do not allow a round, another one runs, or there is none to
            go on with. GateRefused: the candidate was refused; the record says why. SawyerError: the work failed.
    """
    book = RoundBook(home.ensure(), recipe.name)
    if not resume:
        check_recipe(recipe, home, method)
    with book.lock.held() as file:
        record = _unfinished(book) if resume else book.create(recipe, method, dry_run=dry_run)
        return continue_round(book, record, file)


def continue_round(book: RoundBook, record: RoundRecord, lock_file: int) -> RoundRecord:
    """Work on a round that has been begun, while holding the lock. Errors as ``run_round``."""
    book.lock.sign(lock_file, os.getpid(), record.number)
    diary = Diary(book, record)
    diary.update(state="running", reasons=[], ended=None)
    try:
        recipe = load_recipe(diary.folder / "recipe.yaml")
        check_recipe(recipe, book.home, record.method)
        work = RoundWork(recipe, book.home, diary, Registry.of(recipe, book.home))
        _steps(work)
    except GateRefused as refusal:
        _end(diary, "refused", work.results.get("gate", {}).get("reasons") or [str(refusal)])
        raise
    except Exception as error:
        text = str(error) if isinstance(error, SawyerError | OSError) else f"{type(error).__name__}: {error}"
        _end(diary, "failed", [text])
        raise
    return diary.record


def _end(diary: Diary, state: str, reasons: list[str]) -> None:
    """Note how the round ended. Where the disk takes no more, it shows as interrupted, which is as true."""
    with contextlib.suppress(OSError):
        diary.end(state, reasons)


def check_recipe(recipe: Recipe, home: Home, method: str) -> None:
    """Whether rounds can be run with it at all.

    Raises:
        UsageError: a section is missing, the reward does not come from votes, or nothing has been trained yet.
    """
    if method not in RLF:
        raise UsageError(f"There is no method {method!r}; there are: {', '.join(RLF)}.")
    missing = [name for name in ("reward", "ppo") if getattr(recipe, name) is None]
    if missing:
        raise UsageError(
            f"A round learns a reward from votes and tunes rlf by it: the recipe {recipe.name} has no section "
            f"{' and no section '.join(missing)}. Add what is missing, or choose another recipe."
        )
    if not needs_trained(recipe):
        raise UsageError(
            f"The reward of {recipe.name} does not come from votes: none of the parts in ppo.reward is the recipe's "
            "own reward model. Add the part {trained: true}."
        )
    registry = Registry.of(recipe, home)
    wanted = ["reward", *(["sft"] if recipe.sft else []), *([] if recipe.model.backbone else ["base"])]
    absent = [stage for stage in wanted if registry.current(stage) is None]
    if absent:
        raise UsageError(
            f"The recipe {recipe.name} has no {' and no '.join(absent)} yet, and a round builds on them: run `sawyer "
            f"pipeline {recipe.name}` first."
        )


def _steps(work: RoundWork) -> None:
    steps: dict[str, Work] = {
        "snapshot": take_snapshot,
        "reward": train_rewards,
        "normalise": normalise,
        "rlf": train_rlf,
        "evaluate": examine,
        "gate": pass_gate,
        "promote": promote,
    }
    assert tuple(steps) == ROUND_STEPS
    for name, act in steps.items():
        work.do(name, act)
        if name == "gate" and not work.results["gate"]["passed"]:
            raise GateRefused(refusal(work))
    record, found = work.diary.record, work.results["promote"]
    work.diary.end("promoted" if found["promoted"] else "dry", [])
    if found["promoted"]:
        work.diary.say(f"{record.candidate} is current; `sawyer models rollback {record.recipe} rlf` goes back")


def promote(work: RoundWork) -> dict[str, Any]:
    """Make candidate and reward model current, both at once; a server that runs loads them. Done twice, done once.

    Raises:
        GateRefused: another version has become current since the round began.
    """
    refs = [work.results["rlf"]["reward"], work.results["rlf"]["candidate"]]
    if work.diary.record.dry_run:
        work.diary.detail("promote", f"a dry run: {refs[1]} stays a candidate")
        return {"promoted": False, "refs": refs}
    now = {stage: work.registry.current(stage) for stage in ("reward", "rlf")}
    if [version.ref if version else None for version in now.values()] != refs:
        stale = unchanged(work)
        if stale:
            work.diary.update(conditions=[*work.diary.record.conditions, *stale])
            raise GateRefused(f"{refs[1]} is not promoted. {' '.join(reasons(stale))} Start a new round.")
        work.registry.promote(*refs)
    work.diary.detail("promote", f"{refs[1]} and {refs[0]} are current")
    return {"promoted": True, "refs": refs}


def refusal(work: RoundWork) -> str:
    """Why the candidate was refused, as one paragraph."""
    record, why = work.diary.record, work.results["gate"]["reasons"]
    return (
        f"Round {record.number} of {record.recipe}: {record.candidate} is not promoted, {record.current} stays "
        f"current. {' '.join(why)} The report is {work.folder('evaluate') / 'report' / 'report.html'}."
    )


def _unfinished(book: RoundBook) -> RoundRecord:
    record = book.unfinished()
    if record is None:
        raise UsageError(
            f"There is no round of {book.recipe_name} to go on with: the newest one has ended, or there is none. Start "
            "one without --resume."
        )
    return record
