"""A vote as the findings see it: who, when, on what, what was preferred to what, and how long it took."""

from dataclasses import dataclass

from sawyer.curation.similarity import normalised
from sawyer.store.panes import contestant, is_blind
from sawyer.store.records import Completion, Turn, Vote

WORDS_A_SECOND = 20.0
"""Twice the fastest skimming from which readers still took something (600 words a minute: Rayner, Schotter, Masson,
Potter and Treiman 2016, "So Much to Read, So Little Time"); who votes quicker than this has not read."""

WORDS_THAT_DECIDE = 30
"""Of a long answer only so many words are asked for: its beginning may be enough to put it last."""


@dataclass(frozen=True)
class Ballot:
    """One standing vote.

    Attributes:
        history, question: normalised user messages before the last, and the last.
        picked: the preferred contestant, None for tie and bad. shown: all contestants, in showing order.
        beaten: (winner, loser) of every order the vote states, by contestant.
        position: place of the preferred pane, from 0.
        seconds: from the newest shown answer's end to the vote; None where nothing shown is left.
        needed: seconds for reading the answers at `WORDS_A_SECOND`. streamed: seconds they took to appear.
    """

    vote_id: str
    voter: str | None
    name: str | None
    created: float
    history: str
    question: str
    picked: str | None
    shown: tuple[str, ...]
    beaten: frozenset[tuple[str, str]]
    position: int | None
    blind: bool
    seconds: float | None
    needed: float
    streamed: float
    rejected: bool


def ballot_of(vote: Vote, turn: Turn) -> Ballot:
    """The ballot of a vote and its turn."""
    by_id = {answer.id: answer for answer in turn.completions}
    shown = [by_id[answer] for answer in vote.shown if answer in by_id]
    asked = [normalised(message["content"]) for message in turn.messages if message["role"] == "user"]
    chosen = by_id.get(vote.completion_id or "")
    return Ballot(
        vote_id=vote.id,
        voter=vote.voter,
        name=vote.name,
        created=vote.created,
        history="\n".join(asked[:-1]),
        question=asked[-1],
        picked=None if chosen is None else contestant(chosen),
        shown=tuple(contestant(answer) for answer in shown),
        beaten=_beaten(vote, shown),
        position=vote.position,
        blind=is_blind(turn),
        seconds=seconds_to_vote(vote, turn),
        needed=sum(min(len(a.text.split()), WORDS_THAT_DECIDE) for a in shown) / WORDS_A_SECOND,
        streamed=max((answer.seconds or 0.0 for answer in shown), default=0.0),
        rejected=vote.state == "rejected",
    )


def seconds_to_vote(vote: Vote, turn: Turn) -> float | None:
    """From the end of the newest shown answer to the vote."""
    ended = [answer.created for answer in turn.completions if answer.id in vote.shown]
    return max(0.0, vote.created - max(ended)) if ended else None


def _beaten(vote: Vote, shown: list[Completion]) -> frozenset[tuple[str, str]]:
    if vote.completion_id is None:
        return frozenset()
    rank = {answer: place for place, answer in enumerate(vote.ranking or [vote.completion_id])}
    orders = ((a, b) for a in shown for b in shown if rank.get(a.id, len(rank)) < rank.get(b.id, len(rank)))
    return frozenset((contestant(a), contestant(b)) for a, b in orders)
