"""Which answers of a turn were on the screen, and what their panes were called. Pure functions on one turn."""

from sawyer.store.records import ANSWER_STAGES, Completion, Turn
from sawyer.types import BLIND_PANES

PANE = "pane"  # key of `Completion.sampling`: the name that the answer was shown under in a comparison


def is_blind(turn: Turn) -> bool:
    """Whether people did not know which stage was which: the panes are letters."""
    return any(answer.sampling.get(PANE) in BLIND_PANES for answer in turn.completions)


def panes_of(turn: Turn) -> dict[str, Completion]:
    """Pane name -> the newest answer shown in it, in showing order.

    A blind turn has its letters. Else an answer is known by stage and version, and its pane is called what it was asked
    as; where that was not noted, the stage, or the version where two versions of the stage were shown.
    """
    if is_blind(turn):
        lettered = {answer.sampling.get(PANE): answer for answer in turn.completions}
        return {pane: lettered[pane] for pane in BLIND_PANES if pane in lettered}
    newest = sorted({identity(answer): answer for answer in turn.completions}.values(), key=lambda answer: answer.id)
    shared = {stage for stage in ANSWER_STAGES if sum(answer.stage == stage for answer in newest) > 1}
    by_name = {_name(answer, answer.stage in shared): answer for answer in newest}
    return {pane: by_name[pane] for pane in sorted(by_name, key=_place)}


def named(turn: Turn, name: str) -> list[Completion]:
    """The answers that a name may mean: the pane of that name, else the version, else all of the stage."""
    panes = panes_of(turn)
    if name in panes:
        return [panes[name]]
    shown = list(panes.values())
    return [a for a in shown if a.adapter_version == name] or [a for a in shown if a.stage == name]


def identity(answer: Completion) -> tuple[str, str | None]:
    """What tells the answers of a turn apart: stage and version."""
    return answer.stage, answer.adapter_version


def contestant(answer: Completion) -> str:
    """What competes: the version, or the stage where the answer has none."""
    return answer.adapter_version or answer.stage


def _name(answer: Completion, shared: bool) -> str:
    asked = answer.sampling.get(PANE)
    if isinstance(asked, str) and asked:
        return asked
    return contestant(answer) if shared else answer.stage


def _place(pane: str) -> tuple[int, int, str]:
    stage, _, number = pane.partition("@")
    place = ANSWER_STAGES.index(stage) if stage in ANSWER_STAGES else len(ANSWER_STAGES)
    return place, int(number) if number.isdigit() else 0, pane
