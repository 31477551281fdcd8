"""What the votes say: comparisons, win rates, Bradley–Terry strengths, all with honest intervals."""

from sawyer.preferences.ballot_box import BallotBox
from sawyer.preferences.ballots import Ballot, Reply, ballots
from sawyer.preferences.board import make_board

__all__ = ["Ballot", "BallotBox", "Reply", "ballots", "make_board"]
