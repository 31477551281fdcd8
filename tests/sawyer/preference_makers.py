"""Ballots and comparisons made by hand, and people who vote by a hidden strength."""

from itertools import count

import numpy as np

from sawyer.preferences import Ballot, Reply
from sawyer.preferences.comparisons import Comparisons

_numbers = count()


def ballot(
    choice, shown=("base", "sft", "rlf"), *, tokens=None, rewards=None, texts=None, ranks=None, **more
) -> Ballot:
    """A vote for one of ``shown`` (stages or versions), tie or bad; every vote in a turn of its own by default."""
    number = next(_numbers)
    replies = []
    for place, name in enumerate(shown):
        rank = None if choice == "bad" else 0 if choice == "tie" else int(name != choice)
        replies.append(
            Reply(
                id=f"{number}-{place}",
                stage=name.partition("@")[0],
                version=name,
                tokens=tokens[place] if tokens else 10,
                reward=rewards[place] if rewards else None,
                text=texts[place] if texts else place,
                rank=ranks[place] if ranks else rank,
            )
        )
    chosen = next((reply for reply in replies if reply.version == choice), None)
    fields = {"voter": None, "conversation": f"c{number}", "turn": f"t{number}", "created": 0.0, "blind": False}
    fields |= {"place": shown.index(choice) if chosen else None, "verdict": None if chosen else choice}
    return Ballot(replies=tuple(replies), panes=len(shown), chosen=chosen, **fields | more)


def comparisons(rows, clusters=None, lengths=None) -> Comparisons:
    """Rows (first, second, score); each its own cluster unless clusters are given."""
    first, second, score = (np.array(column) for column in zip(*rows, strict=True))
    cluster = np.arange(len(rows)) if clusters is None else np.asarray(clusters)
    length = np.zeros(len(rows)) if lengths is None else np.asarray(lengths, dtype=float)
    return Comparisons(first, second, score.astype(float), cluster, length, np.full(len(rows), np.nan))


def people(generator, voters: int, mean_votes: float) -> np.ndarray:
    """Whose each vote is: geometric numbers of votes, few people many and many few."""
    return np.repeat(np.arange(voters), generator.geometric(1 / mean_votes, voters))
