"""Texts that say the same: shingles and their Jaccard similarity, compared without looking at every pair.

A text is the set of its 4-character pieces after case, spacing, accents' spelling and punctuation are evened out; two
are near-duplicates from a Jaccard similarity of 0.8 on. One wrong letter changes four pieces, so of 40 characters one
may differ, of 400 about ten; "boil an egg" and "boil two eggs" are different questions (0.5 or so).
Broder 1997, "On the resemblance and containment of documents".
"""

import math
import re
import unicodedata
from collections import defaultdict
from hashlib import blake2b

PIECE = 4
THRESHOLD = 0.8
READ = 4000  # characters of a text that are looked at: an article pasted twice is found by its beginning
_BETWEEN = re.compile(r"[\W_]+")


def normalised(text: str) -> str:
    """The text without what does not change its sense: case, spacing, punctuation, compatibility forms.

    A text of nothing but punctuation stays as it is, so that "?" and "!" are two questions.
    """
    folded = unicodedata.normalize("NFKC", text).casefold()
    return _BETWEEN.sub(" ", folded).strip() or " ".join(folded.split())


def pieces(text: str) -> frozenset[int]:
    """The hashes of a text's pieces, never empty."""
    even = normalised(text[:READ])
    starts = range(max(1, len(even) - PIECE + 1))
    found = {even[start : start + PIECE].encode("utf-8", "surrogatepass") for start in starts}
    return frozenset(int.from_bytes(blake2b(piece, digest_size=8).digest(), "big") for piece in found)


def jaccard(one: frozenset[int], other: frozenset[int]) -> float:
    """Shared pieces over all pieces, 0 to 1."""
    return len(one & other) / len(one | other)


class NearDuplicates:
    """Texts seen so far, asked for one like a new one.

    Exact: if two sets reach the threshold t, and both are sorted by one order, then the first |x| - ceil(t·|x|) + 1
    of each share an element (prefix filtering: Chaudhuri, Ganti, Kaushik 2006), so only those are indexed.
    """

    def __init__(self, threshold: float = THRESHOLD) -> None:
        self.threshold = threshold
        self._sets: list[frozenset[int]] = []
        self._index: dict[int, list[int]] = defaultdict(list)

    def add(self, text: str) -> int | None:
        """Remember a text; the number (from 0) of the first remembered one that it nearly repeats, if any."""
        new = pieces(text)
        prefix = sorted(new)[: len(new) - math.ceil(self.threshold * len(new)) + 1]
        candidates = sorted({number for piece in prefix for number in self._index[piece]})
        found = next((n for n in candidates if jaccard(new, self._sets[n]) >= self.threshold), None)
        for piece in prefix:
            self._index[piece].append(len(self._sets))
        self._sets.append(new)
        return found
