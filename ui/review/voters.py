"""The voters' part of the review page: who votes how, and what a machine noticed."""

from html import escape

from sawyer.types import VoterSummary
from ui.numbers import counted, percent
from ui.review import texts
from ui.review.parts import act_button, chip, moment, table


def voters_html(voters: tuple[VoterSummary, ...]) -> str:
    if not voters:
        return f'<p class="bd-wait">{texts.VOTERS_NONE}</p>'
    told = texts.VOTERS.format(voters=counted(len(voters), "voter"))
    rows = (_row(voter) for voter in voters)
    seen = [finding for finding in texts.FINDINGS if any(finding in voter.findings for voter in voters)]
    why = "".join(f"<li><b>{escape(texts.FINDINGS[one])}</b> {escape(texts.FINDING_WHY[one])}</li>" for one in seen)
    legend = f'<ul class="rv-findings">{why}</ul>' if why else ""
    columns = (*texts.VOTER_COLUMNS, "")
    return (
        f'<section class="bd-card"><p>{escape(told)}</p>{legend}{table(texts.TABS["voters"], columns, rows)}</section>'
    )


def _row(voter: VoterSummary) -> tuple[str, ...]:
    name = voter.name or voter.voter or texts.ANONYMOUS
    known = voter.voter if voter.name and voter.voter else ""
    place = texts.NOT_KNOWN
    if voter.favourite_position is not None and voter.favourite_share is not None:
        place = f"{voter.favourite_position + 1} ({percent(voter.favourite_share)})"
    read = (
        act_button(texts.READ_VOTES, "read", label=texts.READ_VOTES_OF.format(name=name), voter=voter.voter)
        if voter.voter
        else ""
    )
    return (
        f"<b>{escape(name)}</b><br><small>{escape(known)}</small>",
        str(voter.votes),
        f"<time>{moment(voter.first)}</time><br><time>{moment(voter.last)}</time>",
        texts.NOT_KNOWN if voter.median_seconds is None else f"{voter.median_seconds:.0f} s",
        place,
        texts.NOT_KNOWN if voter.agreement is None else percent(voter.agreement),
        " ".join(chip("failed", texts.FINDINGS[one], texts.FINDING_WHY[one]) for one in voter.findings),
        read,
    )
