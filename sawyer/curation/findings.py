"""What a machine notices about votes. Pure functions on ballots; each returns the ids of the votes concerned.

Findings about a voter (`one_position`, `disagrees`) concern all votes of that voter, since a test speaks of the habit
and not of one vote. The anonymous voter is many people and has no habits. All tests are at ACCUSED.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from sawyer.curation.ballot import Ballot
from sawyer.curation.similarity import NearDuplicates

ACCUSED = 0.001
"""An honest voter is accused by a test once in a thousand. With three panes, eight votes all for one place are enough
(3 · (1/3)^8 = 0.0005), seven are not."""

ONE_STAGE = 1e-6
"""Preferring one stage is no fault where stages are named: it must be far beyond how often others prefer it."""

ALWAYS = 0.95
"""Share of a voter's open votes from which on it is called always."""

FEWEST_OTHERS = 20
"""Votes of others that a comparison with them needs: from fewer, their own rate is not known."""


def duplicates(ballots: Iterable[Ballot]) -> set[str]:
    """Votes on a question that nearly repeats one this voter has voted on before, after the same history."""
    seen: dict[tuple[str, str], NearDuplicates] = defaultdict(NearDuplicates)
    found = set()
    for ballot in ballots:
        if ballot.voter is not None and seen[ballot.voter, ballot.history].add(ballot.question) is not None:
            found.add(ballot.vote_id)
    return found


def too_fast(ballots: Iterable[Ballot]) -> set[str]:
    """Votes that came before the answers could be read, the time that they took to appear included."""
    return {b.vote_id for b in ballots if b.seconds is not None and b.seconds + b.streamed < b.needed}


def one_position(ballots: Iterable[Ballot]) -> set[str]:
    """Votes of people who always pick one place in blind turns, or one stage in open ones far more than others do.

    Places: the chance that random picks hit the favourite place so often, times the number of places. Stages: the same
    with the others' share of that stage as the chance of a pick.
    """
    picks = [b for b in ballots if b.picked is not None and len(b.shown) > 1 and not b.rejected]
    accused = set()
    for voter, mine in _by_voter(picks):
        blind = [b for b in mine if b.blind and b.position is not None]
        others = (b for b in picks if b.voter != voter and not b.blind)
        if _favours_a_place(blind) or _favours_a_stage([b for b in mine if not b.blind], others):
            accused.add(voter)
    return {b.vote_id for b in ballots if b.voter in accused}


def contradictions(ballots: Iterable[Ballot]) -> set[str]:
    """Votes of one voter on one question that prefer the same two contestants both ways."""
    groups: dict[tuple[str, str, str], list[Ballot]] = defaultdict(list)
    for ballot in ballots:
        if ballot.voter is not None:
            groups[ballot.voter, ballot.history, ballot.question].append(ballot)
    found = set()
    for group in groups.values():
        orders = {order for ballot in group for order in ballot.beaten}
        both = {(a, b) for a, b in orders if (b, a) in orders}
        found |= {ballot.vote_id for ballot in group if ballot.beaten & both}
    return found


def disagreeing(ballots: Iterable[Ballot]) -> set[str]:
    """Votes of people who agree with the others' majority far less than the others do with theirs."""
    agreed = agreements(ballots)
    total, hits = sum(map(len, agreed.values())), sum(map(sum, agreed.values()))
    accused = set()
    for voter, mine in agreed.items():
        others = total - len(mine)
        if others < FEWEST_OTHERS:
            continue
        usual = (hits - sum(mine) + 1) / (others + 2)
        missed = len(mine) - sum(mine)
        if mine and chance_of_at_least(missed, [1 - usual] * len(mine)) < ACCUSED:
            accused.add(voter)
    return {b.vote_id for b in ballots if b.voter in accused}


def agreements(ballots: Iterable[Ballot]) -> dict[str, list[bool]]:
    """Voter -> for each shared question, whether they picked what most others did.

    A question is shared when at least two others picked an answer, more of them one contestant than any other, and
    this voter was shown it too. Ties and all-bad are left out: people differ in how strict they are.
    """
    picks: dict[tuple[str, str], dict[str, Ballot]] = defaultdict(dict)
    for ballot in ballots:
        if ballot.voter is not None and ballot.picked is not None and not ballot.rejected:
            picks[ballot.history, ballot.question][ballot.voter] = ballot
    agreed: dict[str, list[bool]] = defaultdict(list)
    for voted in picks.values():
        counts = Counter(ballot.picked for ballot in voted.values())
        for voter, ballot in voted.items():
            others = counts - Counter([ballot.picked])
            ranked = others.most_common(2)
            clear = len(ranked) == 1 or (len(ranked) == 2 and ranked[0][1] > ranked[1][1])
            if others.total() >= 2 and clear and ranked[0][0] in ballot.shown:
                agreed[voter].append(ranked[0][0] == ballot.picked)
    return agreed


def chance_of_at_least(hits: int, chances: Sequence[float]) -> float:
    """The probability of `hits` or more successes in independent trials of these chances (Poisson binomial)."""
    ways = np.zeros(len(chances) + 1)
    ways[0] = 1.0
    for place, chance in enumerate(chances):
        ways[1 : place + 2] = ways[1 : place + 2] * (1 - chance) + ways[: place + 1] * chance
        ways[0] *= 1 - chance
    return float(ways[hits:].sum())


def _by_voter(ballots: Iterable[Ballot]) -> Iterator[tuple[str, list[Ballot]]]:
    groups: dict[str, list[Ballot]] = defaultdict(list)
    for ballot in ballots:
        if ballot.voter is not None:
            groups[ballot.voter].append(ballot)
    yield from groups.items()


def _favours_a_place(mine: list[Ballot]) -> bool:
    if not mine:
        return False
    place, hits = Counter(b.position for b in mine).most_common(1)[0]
    assert place is not None
    places = max(len(b.shown) for b in mine)
    chances = [1 / len(b.shown) for b in mine if place < len(b.shown)]
    return places * chance_of_at_least(min(hits, len(chances)), chances) < ACCUSED


def _favours_a_stage(mine: list[Ballot], others: Iterable[Ballot]) -> bool:
    picked, hits = Counter(b.picked for b in mine).most_common(1)[0] if mine else (None, 0)
    if picked is None or hits < ALWAYS * len(mine):
        return False
    offered = [b for b in others if picked in b.shown]
    if len(offered) < FEWEST_OTHERS:
        return False
    usual = (sum(b.picked == picked for b in offered) + 1) / (len(offered) + 2)
    return chance_of_at_least(hits, [usual] * len(mine)) < ONE_STAGE
