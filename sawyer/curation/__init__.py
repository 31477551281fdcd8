"""Which votes to believe, and what training makes of them: findings, voters, curated rows."""

from sawyer.curation.analysis import Analysis, analyse
from sawyer.curation.ballot import Ballot, ballot_of
from sawyer.curation.rows import TRUSTED, Curation, curated_rows

__all__ = ["TRUSTED", "Analysis", "Ballot", "Curation", "analyse", "ballot_of", "curated_rows"]
