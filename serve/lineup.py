"""Who answers in which pane of a comparison, and which name the pane has: a stage, a version of one, a letter."""

import random
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace

from sawyer.store import Completion, Turn
from sawyer.store.panes import is_blind, panes_of
from sawyer.types import BLIND_PANES, STAGES, Stage
from serve.engine import Engine
from serve.errors import ApiError, NotReady, unknown_stage

REMEMBERED = 4096
"""Blind turns whose panes are remembered even where no answer came; older ones are read from the store."""


@dataclass(frozen=True)
class Place:
    """One pane. ``version`` is None for the current one of the stage."""

    pane: str
    stage: Stage
    version: str | None = None


@dataclass(frozen=True)
class Lineup:
    """The panes in showing order."""

    places: tuple[Place, ...]
    blind: bool = False

    @property
    def panes(self) -> list[str]:
        return [place.pane for place in self.places]

    def only(self, panes: Sequence[str] | None) -> "Lineup":
        """The panes that are named, in showing order; None: all of them.

        Raises:
            ApiError: one of them is not in this turn.
        """
        for pane in panes or ():
            if pane not in self.panes:
                raise ApiError(
                    400,
                    f"stages {pane!r} is no pane of this turn that can be answered anew. Allowed: "
                    f"{', '.join(self.panes) or 'none; ask again without turn_id'}.",
                    code="invalid_choice",
                    param="stages",
                )
        return replace(self, places=tuple(place for place in self.places if panes is None or place.pane in panes))


def new_lineup(engine: Engine, wanted: Sequence[str] | None, blind: bool) -> Lineup:
    """The stages and versions in ``wanted``, or all stages, in showing order; shuffled and lettered when blind.

    Raises:
        ApiError: 404, one of them is not there. NotReady: nothing is loaded yet.
    """
    if not engine.versions:
        raise NotReady("The model is still being loaded. Try again in a few seconds; GET /readyz tells when it is.")
    places = [_place(engine, name) for name in dict.fromkeys(wanted or engine.versions)]
    places.sort(key=_order)
    if blind:
        random.SystemRandom().shuffle(places)
        places = [replace(place, pane=letter) for place, letter in zip(places, BLIND_PANES, strict=False)]
    return Lineup(tuple(places), blind)


def lineup_of(turn: Turn, engine: Engine, wanted: Sequence[str] | None) -> Lineup:
    """The panes of a stored turn as its answers tell. An open pane that never answered can still be named.

    A blind pane is answered by the version that answered it before, while there is one of that name.
    """
    answers = panes_of(turn)
    if is_blind(turn):
        return Lineup(tuple(_behind(answers[pane], pane, engine) for pane in sorted(answers)), blind=True)
    names = dict.fromkeys([*answers, *(wanted or ())])
    return Lineup(tuple(sorted((_place(engine, name) for name in names), key=_order)))


class RecentLineups:
    """What stands behind the panes of blind turns of this process, so that a pane that failed can be tried again."""

    def __init__(self, size: int = REMEMBERED) -> None:
        self._size = size
        self._known: OrderedDict[str, Lineup] = OrderedDict()

    def remember(self, turn_id: str, lineup: Lineup) -> None:
        if lineup.blind:
            self._known[turn_id] = lineup
            while len(self._known) > self._size:
                self._known.popitem(last=False)

    def get(self, turn_id: str) -> Lineup | None:
        return self._known.get(turn_id)


def _place(engine: Engine, name: str) -> Place:
    stage, _, number = name.partition("@")
    if stage in engine.versions and (not number or name in engine.refs):
        return Place(name, stage, name if number else None)  # type: ignore[arg-type]  # one of its keys
    raise unknown_stage(name, [*engine.versions, *engine.refs], param="stages")


def _behind(answer: Completion, pane: str, engine: Engine) -> Place:
    version, stage = answer.adapter_version, answer.stage
    older = version in engine.refs and engine.versions.get(stage) != version  # type: ignore[call-overload]
    return Place(pane, stage, version if older else None)  # type: ignore[arg-type]


def _order(place: Place) -> tuple[int, float]:
    """By stage; versions from old to new, and the current one, which has no number, last."""
    number = place.version.partition("@")[2] if place.version else ""
    return STAGES.index(place.stage), float(number or "inf")
