"""What a reviewer's page knows, as one frozen value."""

from dataclasses import dataclass, field, replace

from sawyer.types import (
    FeedbackFilter,
    FeedbackItem,
    FeedbackPage,
    RegistryState,
    ReviewState,
    RoundDetail,
    RoundList,
    VoterSummary,
)
from ui.review.acts import Tab

UNDECIDED = FeedbackFilter(state="pending")
"""What a reviewer sees first."""


@dataclass(frozen=True)
class File:
    """A file for the browser to save. ``serial`` tells it from the one before."""

    name: str
    text: str
    serial: int


@dataclass(frozen=True)
class Desk:
    """Everything on the review page.

    ``key`` is empty until one has been accepted. ``notice`` says what went wrong and ``done`` what was just done;
    both, and ``file``, last until the next act. ``stale`` says why no news come. ``next`` continues the list of votes;
    parts that were never asked for are None. ``files`` counts the files saved so far.
    """

    key: str = field(default="", repr=False)
    tab: Tab = "feedback"
    notice: str = ""
    done: str = ""
    stale: str = ""
    chosen: FeedbackFilter = UNDECIDED
    items: tuple[FeedbackItem, ...] = ()
    total: int = 0
    next: str | None = None
    voters: tuple[VoterSummary, ...] | None = None
    rounds: RoundList | None = None
    detail: RoundDetail | None = None
    registry: RegistryState | None = None
    file: File | None = None
    files: int = 0

    def cleared(self) -> "Desk":
        """Before the next act."""
        return replace(self, notice="", done="", stale="", file=None)

    def saving(self, name: str, text: str) -> "Desk":
        return replace(self, file=File(name, text, self.files + 1), files=self.files + 1)

    def showing(self, page: FeedbackPage, *, more: bool = False) -> "Desk":
        """With a page of votes: a new list, or the old one continued."""
        before = self.items if more else ()
        return replace(self, items=(*before, *page.items), total=page.total, next=page.next)

    def decided(self, vote_ids: list[str], state: ReviewState, note: str | None) -> "Desk":
        """The votes stay where they are and show their new state, so that nothing jumps away under the hand."""
        changed = {"state": state} | ({"note": note} if note else {})
        items = (one.model_copy(update=changed) if one.vote_id in vote_ids else one for one in self.items)
        return replace(self, items=tuple(items))
