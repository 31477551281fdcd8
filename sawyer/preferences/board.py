"""The whole board from the counting votes. Pure: no database, no clock."""

from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

import numpy as np

from sawyer.preferences.ballots import Ballot, By, contestant_order
from sawyer.preferences.clusters import clustered_share
from sawyer.preferences.comparisons import Comparisons, compare
from sawyer.preferences.figures import interval
from sawyer.preferences.ladder import FEWEST_CLUSTERS, ladder, length_controlled
from sawyer.preferences.position import position_bias
from sawyer.preferences.rewards import agreement, reward_distributions
from sawyer.types import VERDICTS, Board, BoardQuery, DayVotes, Ladder, PairResult, RoundSummary


def make_board(
    ballots: Iterable[Ballot], query: BoardQuery, *, updated: float, rounds: Sequence[RoundSummary] = ()
) -> Board:
    """Everything the board shows.

    Args:
        query: which votes, and whether stages or versions compete.
        updated: now, in seconds since the epoch. rounds: newest first.
    """
    chosen = [ballot for ballot in ballots if _wanted(ballot, query)]
    by = query.by
    names = {reply.name(by) for ballot in chosen for reply in ballot.replies} | {ballot.choice(by) for ballot in chosen}
    contestants = sorted(names - set(VERDICTS), key=contestant_order)
    voters = [_voter(ballot) for ballot in chosen]
    few = len(set(voters)) < FEWEST_CLUSTERS
    owners = [ballot.conversation for ballot in chosen] if few else voters
    comparisons = compare(chosen, _numbered(owners), contestants, by)
    caution = _caution(len(set(voters))) if few and chosen else None
    choices = Counter(ballot.choice(by) for ballot in chosen)
    return Board(
        by=by,
        blind=query.blind,
        votes=len(chosen),
        voters=len(set(voters)),
        contestants=contestants,
        choices={name: choices[name] for name in (*contestants, *VERDICTS)},
        pairs=_pairs(comparisons, contestants),
        ladder=_with(ladder(comparisons, contestants), caution),
        ladder_length_controlled=_with(length_controlled(comparisons, contestants), caution),
        days=_days(chosen, by),
        position=position_bias(chosen),
        rewards=reward_distributions(chosen, contestants, by),
        agreement=agreement(comparisons),
        rounds=list(rounds),
        updated=updated,
    )


def _wanted(ballot: Ballot, query: BoardQuery) -> bool:
    if query.blind is not None and ballot.blind != query.blind:
        return False
    if query.since is not None and ballot.created < query.since:
        return False
    return query.until is None or ballot.created < query.until


def _voter(ballot: Ballot) -> str:
    """Who votes; of the anonymous, each conversation is taken for one person."""
    return f"voter {ballot.voter}" if ballot.voter is not None else f"conversation {ballot.conversation}"


def _caution(voters: int) -> str:
    who = "one voter" if voters == 1 else f"{voters} voters"
    return f"All votes are those of {who}: the intervals tell how sure their preferences are, and nothing of others'."


def _with(found: Ladder, caution: str | None) -> Ladder:
    note = " ".join(part for part in (found.note, caution) if part)
    return found.model_copy(update={"note": note or None})


def _numbered(owners: Sequence[str]) -> list[int]:
    number = {owner: place for place, owner in enumerate(dict.fromkeys(owners))}
    return [number[owner] for owner in owners]


def _pairs(comparisons: Comparisons, contestants: Sequence[str]) -> list[PairResult]:
    """The record of each pair that was compared."""
    found = []
    for first, second in np.unique(np.stack([comparisons.first, comparisons.second], axis=1), axis=0):
        between = comparisons.between(first, second)
        found.append(
            PairResult(
                first=contestants[first],
                second=contestants[second],
                wins=int((between.score == 1).sum()),
                ties=int((between.score == 0.5).sum()),
                losses=int((between.score == 0).sum()),
                n=len(between),
                win_rate=interval(clustered_share(between.score, between.cluster)),
            )
        )
    return found


def _days(ballots: Iterable[Ballot], by: By) -> list[DayVotes]:
    days: dict[str, Counter[str]] = {}
    for ballot in ballots:
        day = datetime.fromtimestamp(ballot.created, UTC).date().isoformat()
        days.setdefault(day, Counter())[ballot.choice(by)] += 1
    return [DayVotes(day=day, choices=dict(sorted(days[day].items())), n=days[day].total()) for day in sorted(days)]
