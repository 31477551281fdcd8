"""The ballots of a store in memory, kept up to date by reading what is new."""

from sawyer.preferences.ballots import Ballot, ballots
from sawyer.store import FeedbackStore

Revision = tuple[int, int, int]


class BallotBox:
    """Ten thousand votes take seconds to read; a board that people watch while they vote reads the newest alone.

    Everything is read again after a review, after rows were removed, and when rows appear out of order. For one thread
    at a time.
    """

    def __init__(self, store: FeedbackStore) -> None:
        self._store = store
        self._read: Revision = (0, 0, 0)
        self._ballots: dict[tuple[str, str | None], Ballot] = {}

    def ballots(self) -> tuple[Revision, list[Ballot]]:
        """The counting votes, and the revision of the store whose votes they hold at least."""
        revision = self._store.revision()
        if revision != self._read:
            if not self._add_newer(revision):
                self._read = (0, 0, 0)  # should reading fail half-way, the next attempt begins anew
                self._ballots.clear()
                self._add(after=0)
            self._read = revision
        return revision, list(self._ballots.values())

    def _add_newer(self, revision: Revision) -> bool:
        (last, count, reviewed), (new_last, new_count, new_reviewed) = self._read, revision
        newer = self._store.voted_between(last, new_last)
        if new_reviewed != reviewed or new_count - count != len(newer):
            return False
        for key in newer:  # whether the new row replaces an older vote or undoes it
            self._ballots.pop(key, None)
        self._add(after=last)
        return True

    def _add(self, after: int) -> None:
        for ballot in ballots(self._store.counting_votes(after)):
            self._ballots.pop((ballot.turn, ballot.voter), None)
            self._ballots[ballot.turn, ballot.voter] = ballot
