"""Votes as the board's statistics see them: who was shown, what was said of it. No text, no database."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from sawyer.store.derive import UNFINISHED
from sawyer.store.panes import is_blind
from sawyer.store.records import Completion, Turn, Vote
from sawyer.types import STAGES

By = Literal["stage", "version"]


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer that was on the screen. ``text`` is a hash: equal texts are equal answers.

    ``rank`` is its place in the voter's order, 0 the best; None where the vote says nothing of it. ``tokens`` is its
    length, ``reward`` its score, None without one.
    """

    id: str
    stage: str
    version: str
    tokens: int
    reward: float | None
    text: int
    rank: int | None

    def name(self, by: By) -> str:
        return self.stage if by == "stage" else self.version


@dataclass(frozen=True, slots=True)
class Ballot:
    """One counting vote. ``chosen`` is the preferred reply; without one, ``verdict`` is tie or bad.

    ``place`` is where the chosen pane stood, of ``panes``. ``voter`` None is an anonymous one. ``created`` is in
    seconds since the epoch.
    """

    voter: str | None
    conversation: str
    turn: str
    created: float
    blind: bool
    replies: tuple[Reply, ...]
    panes: int
    chosen: Reply | None = None
    verdict: str | None = None
    place: int | None = None

    def choice(self, by: By) -> str:
        """What the vote counts for: a contestant, tie or bad."""
        return self.chosen.name(by) if self.chosen else self.verdict or "bad"


def ballots(votes: Iterable[tuple[Vote, Turn]]) -> Iterator[Ballot]:
    """The votes of :meth:`FeedbackStore.counting_votes` without their texts."""
    for vote, turn in votes:
        yield _ballot(vote, turn)


def contestant_order(name: str) -> tuple[int, int, str]:
    """Key that sorts contestants as the stages are made, older versions first."""
    stage, _, number = name.partition("@")
    place = STAGES.index(stage) if stage in STAGES else len(STAGES)
    return place, int(number) if number.isdigit() else 0, name


def _ballot(vote: Vote, turn: Turn) -> Ballot:
    shown = [answer for answer in turn.completions if answer.id in vote.shown]
    ranks = _ranks(vote, shown)
    # A reply that was cut off is not what its model would have said, so nothing is concluded from it.
    replies = [_reply(answer, ranks.get(answer.id)) for answer in shown if answer.finish_reason not in UNFINISHED]
    chosen = next((_reply(answer, 0) for answer in shown if answer.id == vote.completion_id), None)
    return Ballot(
        voter=vote.voter,
        conversation=turn.conversation_id,
        turn=turn.id,
        created=vote.created,
        blind=is_blind(turn),
        replies=tuple(replies),
        panes=len(shown),
        chosen=chosen,
        verdict=None if chosen else vote.choice,
        place=vote.position if chosen else None,
    )


def _ranks(vote: Vote, shown: list[Completion]) -> dict[str, int]:
    """Answer id -> its place in the voter's order. Those left out of a ranking come last and share their place."""
    if vote.completion_id is None:
        return {answer.id: 0 for answer in shown} if vote.choice == "tie" else {}
    best_first = [_named(name, shown) for name in vote.ranking or ()] or [vote.completion_id]
    places = {answer: place for place, answer in enumerate(best_first) if answer}
    return {answer.id: places.get(answer.id, len(best_first)) for answer in shown}


def _named(name: str, shown: list[Completion]) -> str | None:
    """The answer that a ranking means by an id, a version or a stage."""
    for answer in shown:
        if name in (answer.id, answer.adapter_version, answer.stage):
            return answer.id
    return None


def _reply(answer: Completion, rank: int | None) -> Reply:
    version = answer.adapter_version or answer.stage
    text = hash(answer.text.strip())
    return Reply(answer.id, answer.stage, version, answer.tokens, answer.reward, text, rank)
