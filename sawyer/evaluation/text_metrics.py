"""What can be counted in replies without a model: variety and repetition. Pure functions on text.

Words, not a policy's tokens, are counted: the figures of models with different tokenizers can then be compared.
"""

import re
from collections.abc import Iterator, Sequence

_WORD = re.compile(r"\w+(?:['’]\w+)*|[^\w\s]")

Words = Sequence[str]


def words(text: str) -> list[str]:
    """Lower-case words and punctuation marks."""
    return _WORD.findall(text.lower())


def ngrams(tokens: Words, n: int) -> Iterator[tuple[str, ...]]:
    """The runs of ``n`` neighbouring tokens, in order."""
    return zip(*(tokens[start:] for start in range(n)), strict=False)


def distinct(replies: Sequence[str], n: int) -> float:
    """Distinct-n of a whole set of replies: different n-grams over all n-grams (Li et al. 2016, arXiv 1510.03055).

    Counted over the set, it falls when replies repeat themselves and when all prompts get the same reply. It also falls
    as replies grow longer; ``distinct_matched`` takes that out. Without any n-gram it is 0.
    """
    return _distinct([words(reply) for reply in replies], n)


def distinct_matched(first: Sequence[str], second: Sequence[str], n: int) -> tuple[float, float]:
    """Distinct-n of two stages' replies, each pair of replies cut to the words of the shorter one."""
    cut_first, cut_second = [], []
    for one, other in zip(map(words, first), map(words, second), strict=True):
        length = min(len(one), len(other))
        cut_first.append(one[:length])
        cut_second.append(other[:length])
    return _distinct(cut_first, n), _distinct(cut_second, n)


def repetition(reply: str, n: int = 3) -> float:
    """Share of a reply's n-grams that it has had before (seq-rep-n of Welleck et al. 2020): 0 none, near 1 a loop."""
    grams = list(ngrams(words(reply), n))
    return 1 - len(set(grams)) / len(grams) if grams else 0.0


def mean_repetition(replies: Sequence[str], n: int = 3) -> float:
    """``repetition`` averaged over replies; a reply of fewer than ``n`` words counts as 0."""
    return sum(repetition(reply, n) for reply in replies) / len(replies) if replies else 0.0


def _distinct(replies: Sequence[Words], n: int) -> float:
    grams = [gram for reply in replies for gram in ngrams(reply, n)]
    return len(set(grams)) / len(grams) if grams else 0.0
