"""Loaded words, and plain sentences with one slipped in: for a classifier that is to see the word, not the subject.

The words are those of labelled records ("a superb view", "the wretched delays"): nobody has to list them. A word counts
that stands between a determiner and another word, that no plain record holds and that ordinary text has less of; a
simple case of comparing two groups' words (Monroe et al. 2008, "Fightin' Words").
"""

import random
import re
from collections import Counter
from collections.abc import Iterable, Sequence

from sawyer.data import Example
from train.corruption import FUNCTION

DETERMINERS = frozenset(["a", "an", "the", "its", "their", "his", "her"])
RARER = 10.0  # times that a loaded word is commoner in loaded records than in ordinary text
WORD = re.compile(r"[A-Za-z]+")
# By sound, not by letter: "a useless", "an honest".
CONSONANT, VOWEL = ("us", "uni", "eu", "one"), ("hon", "hour")


def loaded_words(examples: Sequence[Example], plain: str, ordinary: Iterable[str]) -> dict[str, list[str]]:
    """The loaded words of labelled records by label, sorted; empty when there are none.

    Args:
        plain: label of the records that hold no loaded words.
        ordinary: other text; records among it that are not plain do not count.
    """
    by_label: dict[str, Counter[str]] = {}
    loaded = {example.text: example.label for example in examples if example.label != plain}
    for text, label in loaded.items():
        by_label.setdefault(label, Counter()).update(_counts([text]))
    unloaded = [example.text for example in examples if example.label == plain]
    kept_out = _counts(unloaded)
    usual, marked = _counts(text for text in ordinary if text not in loaded), _counts(loaded)
    scale = RARER * marked.total() / max(usual.total(), 1)
    found: set[str] = set()
    for text in loaded:
        words = text.rstrip(".!?").split()
        for before, word, after in zip(words, words[1:], words[2:], strict=False):
            if before.lower() in DETERMINERS and _is_plain_word(word) and _is_plain_word(after):
                found.add(word)
    chosen: dict[str, list[str]] = {}
    for word in sorted(found):
        if not kept_out[word] and usual[word] * scale <= marked[word]:
            label = max(sorted(by_label), key=lambda one: by_label[one][word])
            chosen.setdefault(label, []).append(word)
    return chosen


def slip(sentence: str, word: str, draw: random.Random) -> str | None:
    """The sentence with ``word`` after one of its determiners, a and an minded; None where it has none."""
    words = sentence.split()
    places = [
        n for n, one in enumerate(words[:-1]) if one.lower() in DETERMINERS and words[n + 1].strip(".,;!?").isalpha()
    ]
    if not places:
        return None
    place = draw.choice(places)
    made = words[place]
    if made.lower() in ("a", "an"):
        made = made[0] + ("n" if _begins_with_vowel(word) else "")
    return " ".join([*words[:place], made, word, *words[place + 1 :]])


def _begins_with_vowel(word: str) -> bool:
    return word.startswith(VOWEL) or (word[0] in "aeiou" and not word.startswith(CONSONANT))


def _is_plain_word(word: str) -> bool:
    return word.isalpha() and word.islower() and word not in FUNCTION


def _counts(texts: Iterable[str]) -> Counter[str]:
    return Counter(word.lower() for text in texts for word in WORD.findall(text))
