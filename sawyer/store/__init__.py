"""The feedback store: what people were shown, what they preferred, and the training data that gives."""

from sawyer.store.casting import CastVote
from sawyer.store.errors import Conflict, Invalid, NotFound
from sawyer.store.panes import contestant, is_blind, panes_of
from sawyer.store.records import Completion, Rating, RatingRow, Turn, Vote, VoteRow
from sawyer.store.store import FeedbackStore

__all__ = [
    "CastVote",
    "Completion",
    "Conflict",
    "FeedbackStore",
    "Invalid",
    "NotFound",
    "Rating",
    "RatingRow",
    "Turn",
    "Vote",
    "VoteRow",
    "contestant",
    "is_blind",
    "panes_of",
]
