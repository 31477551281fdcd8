"""All findings about a set of votes, and one summary a voter."""

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from statistics import median

from sawyer.curation import findings as find
from sawyer.curation.ballot import Ballot, ballot_of
from sawyer.store.records import Turn, Vote
from sawyer.types import Finding, VoterSummary

HABIT = 0.2
"""A finding about single votes is one about their voter when it concerns more than this share of their votes."""


@dataclass(frozen=True)
class Analysis:
    """Findings by vote (in the order of `sawyer.types.Finding`; none: not in it), and the voters."""

    findings: dict[str, list[Finding]]
    voters: list[VoterSummary]


def analyse(voted: Iterable[tuple[Vote, Turn]]) -> Analysis:
    """Look through standing votes, oldest first. The voters come most suspicious first: most findings, then votes."""
    ballots = [ballot_of(vote, turn) for vote, turn in voted]
    by_finding: dict[Finding, set[str]] = {
        "duplicate": find.duplicates(ballots),
        "too_fast": find.too_fast(ballots),
        "one_position": find.one_position(ballots),
        "contradicts": find.contradictions(ballots),
        "disagrees": find.disagreeing(ballots),
    }
    found: dict[str, list[Finding]] = defaultdict(list)
    for finding, votes in by_finding.items():
        for vote in votes:
            found[vote].append(finding)
    agreed = find.agreements(ballots)
    groups: dict[str | None, list[Ballot]] = defaultdict(list)
    for ballot in ballots:
        groups[ballot.voter].append(ballot)
    voters = [_summary(voter, mine, agreed.get(voter or "", []), found) for voter, mine in groups.items()]
    return Analysis(dict(found), sorted(voters, key=lambda v: (-len(v.findings), -v.votes, v.voter or "")))


def _summary(
    voter: str | None, mine: list[Ballot], agreed: list[bool], found: dict[str, list[Finding]]
) -> VoterSummary:
    seconds = [ballot.seconds for ballot in mine if ballot.seconds is not None]
    places = Counter(ballot.position for ballot in mine if ballot.position is not None)
    place, hits = places.most_common(1)[0] if places else (None, 0)
    concerned = Counter(finding for ballot in mine for finding in found.get(ballot.vote_id, ()))
    names = [ballot.name for ballot in mine if ballot.name]
    return VoterSummary(
        voter=voter,
        name=names[-1] if voter is not None and names else None,
        votes=len(mine),
        first=min(ballot.created for ballot in mine),
        last=max(ballot.created for ballot in mine),
        median_seconds=median(seconds) if seconds else None,
        favourite_position=place,
        favourite_share=hits / places.total() if places else None,
        agreement=sum(agreed) / len(agreed) if agreed else None,
        findings=[finding for finding, count in concerned.items() if count > HABIT * len(mine)],
    )
