"""Feedback rounds: their state on the disk, the lock that keeps them apart, the gate. The work is in train.round."""

from sawyer.rounds.book import RoundBook, every_round
from sawyer.rounds.diary import Diary
from sawyer.rounds.lock import Holder, RoundLock, RoundRunning
from sawyer.rounds.record import RoundRecord

__all__ = ["Diary", "Holder", "RoundBook", "RoundLock", "RoundRecord", "RoundRunning", "every_round"]
