"""The seam between the store and a round: the pairs that people's votes give, with who cast them."""

from collections.abc import Iterable
from dataclasses import dataclass, fields

from sawyer.curation import TRUSTED, Curation, curated_rows
from sawyer.data import conversation_key, is_held_out
from sawyer.data_formats import Message
from sawyer.errors import GateRefused
from sawyer.evaluation.stats import FEWEST_PAIRS
from sawyer.recipe.rounds import RoundSpec
from sawyer.store import FeedbackStore


@dataclass(frozen=True)
class VotedPair:
    """One reply that somebody preferred to another reply to the same messages."""

    prompt: list[Message]
    chosen: str
    rejected: str
    turn_id: str
    conversation_id: str
    voter: str | None

    @property
    def origin(self) -> dict[str, str | None]:
        """Whose words they are, for the store's ledger of files."""
        return {"conversation_id": self.conversation_id, "voter": self.voter}


def voted_pairs(store: FeedbackStore) -> list[VotedPair]:
    """Every pair of the votes that may teach: consented to, not rejected or flagged, each once, no voter too loud, and
    none that a check doubts unless a reviewer approved it.
    """
    rows = curated_rows(store, "preference", Curation(leave_out=TRUSTED))
    return [VotedPair(**{field.name: row[field.name] for field in fields(VotedPair)}) for row in rows]


def votes_in(pairs: Iterable[VotedPair]) -> set[tuple[str, str | None]]:
    """The votes behind pairs, as (turn, voter)."""
    return {(pair.turn_id, pair.voter) for pair in pairs}


def check_enough(pairs: list[VotedPair], cast: int, spec: RoundSpec) -> None:
    """Refuse to learn from too little.

    Args:
        cast: votes that count in the store, ties and the like included.

    Raises:
        GateRefused: too few votes or voters, or too few conversations held out to measure anything by.
    """
    votes, voters = len(votes_in(pairs)), len({pair.voter for pair in pairs})
    if votes < spec.fewest_votes:
        raise GateRefused(
            f"There are too few votes: {votes} prefer an answer and may teach (of {cast}), and a round needs "
            f"{spec.fewest_votes}. Collect more, approve doubted ones in the review, or lower round.fewest_votes."
        )
    if voters < spec.fewest_voters:
        raise GateRefused(
            f"Too few people voted: all {votes} votes come from {voters} voter{'s' * (voters > 1)}, and a round needs "
            f"{spec.fewest_voters}, so that one person's taste or mischief does not decide. Invite others, or lower "
            "round.fewest_voters."
        )
    for fold, whom in ((0, "the reward model"), (1, "the judge")):
        kept = {conversation_key(p.prompt) for p in pairs if is_held_out(p.prompt, spec.held_out, fold)}
        if len(kept) < FEWEST_PAIRS:
            raise GateRefused(
                f"The votes are on too few different questions: {len(kept)} of them are held out to test {whom} by, "
                f"and {FEWEST_PAIRS} are needed. Collect votes on other questions, or raise round.held_out "
                f"({spec.held_out:g})."
            )
