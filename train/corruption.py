"""Spoilt copies of sound sentences: negatives for a classifier of acceptability that nobody has to write.

Synthetic errors are how detectors of grammatical errors are trained where corrected text is scarce (Rei et al. 2017,
"Artificial Error Generation with Machine Translation and Syntactic Patterns"; Grundkiewicz et al. 2019, "Neural
Grammatical Error Correction Systems with Unsupervised Pre-training on Synthetic Data"). The kinds here are what people
get wrong (a word left out, repeated or swapped, agreement, forms) and what small language models get wrong besides
(loops, word salad, sentences that stop in the middle, word pieces that do not belong together). Pure functions of a
sentence and a random generator.
"""

import random
from collections.abc import Callable, Sequence

# Words whose loss or change makes most sentences wrong.
FUNCTION = frozenset([
    "a", "an", "the", "of", "in", "on", "at", "to", "for", "from", "by", "with", "into", "after", "before", "and",
    "but", "or", "is", "are", "was", "were", "be", "been", "am", "has", "have", "had", "do", "does", "did",
    "will", "would", "can", "could", "should", "may", "might", "must", "not", "that", "which", "who", "it", "its",
    "their", "his", "her", "they", "he", "she", "we", "you",
])  # fmt: skip
SWITCHED = {
    "is": "are", "are": "is", "was": "were", "were": "was", "has": "have", "have": "has", "does": "do", "do": "does",
    "this": "these", "these": "this", "that": "those", "those": "that", "he": "him", "him": "he", "she": "her",
    "they": "them", "them": "they", "we": "us", "us": "we", "i": "me", "their": "they", "his": "him", "its": "it",
    "many": "much", "much": "many", "an": "a", "each": "all", "been": "be", "be": "been", "had": "has", "went": "gone",
    "a": "an", "could": "can to", "will": "will to", "can": "can to", "must": "must to",
}  # fmt: skip


MARKS = ('"', "'", "-", ",", ".", "(", "@", "&")  # pieces that are no letters


def spoil(sentence: str, others: Sequence[str], draw: random.Random, pieces: float = 0.0) -> str:
    """A copy of a sentence with a fault of a random kind; it always differs from the sentence.

    Args:
        others: words that may slip in where they do not belong.
        pieces: share of the faults that are within words; the others are between them.
    """
    body, mark = (sentence[:-1], sentence[-1]) if sentence[-1:] in tuple(".!?") else (sentence, "")
    words = body.split()
    kinds = draw.sample(KINDS, len(KINDS))
    for kind in [_pieced, *kinds] if draw.random() < pieces else kinds:
        made = kind(words, others, draw)
        if made and [word.lower() for word in made] != [word.lower() for word in words]:
            return _written(made, mark, words[0])
    return f"{sentence} {sentence}"  # a single word, say


def _leave_out(words: Sequence[str], others: Sequence[str], draw: random.Random) -> list[str]:
    """One or two words, those that carry the grammar first."""
    made = list(words)
    for _ in range(draw.choice((1, 1, 2))):
        if len(made) > 3:
            inner = range(len(made) - 1)
            places = [n for n in inner if made[n].lower() in FUNCTION] if draw.random() < 0.7 else list(inner)
            del made[draw.choice(places or list(inner))]
    return made


def _beheaded(words: Sequence[str], others: Sequence[str], draw: random.Random) -> list[str]:
    """Without its beginning, where the subject tends to be."""
    return list(words[draw.choice((1, 2, 2, 3)) :]) if len(words) > 5 else []


def _broken_off(words: Sequence[str], others: Sequence[str], draw: random.Random) -> list[str]:
    """Ends after a word that asks for another one."""
    places = [n for n in range(2, len(words) - 1) if words[n].lower() in FUNCTION]
    return list(words[: draw.choice(places) + 1]) if places else []


def _swapped(words: Sequence[str], others: Sequence[str], draw: random.Random) -> list[str]:
    """Neighbours change places, once or in many places."""
    made = list(words)
    for _ in range(draw.choice((1, 2, max(2, len(words) // 3)))):
        if len(made) > 2:
            place = draw.randrange(len(made) - 1)
            made[place], made[place + 1] = made[place + 1], made[place]
    return made


def _shuffled(words: Sequence[str], others: Sequence[str], draw: random.Random) -> list[str]:
    """Word salad, sometimes with a word of another dish."""
    made = draw.sample(list(words), len(words))
    if others and draw.random() < 0.5:
        made.insert(draw.randrange(len(made) + 1), draw.choice(others))
    return made


def _doubled(words: Sequence[str], others: Sequence[str], draw: random.Random) -> list[str]:
    """One word, or a few, said twice."""
    width = draw.choice((1, 1, 2, 3))
    place = draw.randrange(max(1, len(words) - width))
    return [*words[: place + width], *words[place : place + width], *words[place + width :]]


def _looping(words: Sequence[str], others: Sequence[str], draw: random.Random) -> list[str]:
    """A phrase again and again, as a language model that is stuck writes it."""
    width = draw.choice((2, 3, 4))
    place = draw.randrange(max(1, len(words) - width))
    phrase = words[place : place + width]
    return [*words[: place + width], *(list(phrase) * draw.choice((2, 3, 4)))]


def _switched(words: Sequence[str], others: Sequence[str], draw: random.Random) -> list[str]:
    """Agreement, case or a little word wrong."""
    places = [n for n, word in enumerate(words) if word.lower() in SWITCHED]
    made = list(words)
    for place in draw.sample(places, min(len(places), draw.choice((1, 2)))):
        made[place] = SWITCHED[made[place].lower()]
    return made


def _inflected(words: Sequence[str], others: Sequence[str], draw: random.Random) -> list[str]:
    """One or two words with an ending too many, too few or another one."""
    places = [n for n, word in enumerate(words) if len(word) > 3 and word.isalpha() and word.lower() not in FUNCTION]
    made = list(words)
    for place in draw.sample(places, min(len(places), draw.choice((1, 1, 2)))):
        made[place] = _other_ending(made[place], draw)
    return made


def _other_ending(word: str, draw: random.Random) -> str:
    for ending in ("ing", "ed", "es", "s"):
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            stem = word[: -len(ending)]
            return stem + draw.choice([other for other in ("", "ing", "ed", "s") if other != ending])
    return word + draw.choice(("s", "ed", "ing"))


def _slipped_in(words: Sequence[str], others: Sequence[str], draw: random.Random) -> list[str]:
    """Words that do not belong, beside the others or in the place of one."""
    made = list(words)
    for _ in range(draw.choice((1, 2, 3)) if others else 0):
        place = draw.randrange(len(made))
        made[place : place + draw.choice((0, 1))] = [draw.choice(others)]
    return made


def _pieced(words: Sequence[str], others: Sequence[str], draw: random.Random) -> list[str]:
    """Some letters, at one to three places, give way to pieces of other words; sometimes all that follows is lost.

    So writes a model of word pieces that is unsure of the next one: "a biscuitNoory", "the frie of Low Sands".
    """
    made = " ".join(words)
    for _ in range(draw.choice((1, 1, 1, 2, 3)) if others else 0):
        start = draw.randrange(len(made))
        if draw.random() < 0.5:  # where a word begins or the one before it ends, as most wrong pieces do
            start = max(made.rfind(" ", 0, start + 1) + draw.choice((0, 1)), 0)
        end = len(made) if draw.random() < 0.1 else start + draw.choice((0, 0, 1, 2, 3, 4, 6, 9, 14, 30))
        pieces = "".join(_piece(others, draw) for _ in range(draw.choice((1, 1, 1, 2, 2, 3, 5))))
        made = made[:start] + pieces + made[end:]
    return made.split()


def _piece(others: Sequence[str], draw: random.Random) -> str:
    """A few letters of a word, a word, or a mark; with a space before it or without."""
    if draw.random() < 0.08:
        return draw.choice(MARKS)
    word, kind = draw.choice(others), draw.random()
    if kind < 0.3:
        return f" {word}"
    if kind < 0.5:
        return f" {word[: draw.randint(1, 4)]}"
    start = draw.randrange(len(word))
    return word[start : start + draw.randint(1, 4)]


def _written(words: Sequence[str], mark: str, first: str) -> str:
    """Words as a sentence; a little word that came first loses its capital where it has moved."""
    made = [
        first.lower() if n and word == first and first.lower() in FUNCTION else word for n, word in enumerate(words)
    ]
    text = " ".join(made)
    return text[:1].upper() + text[1:] + mark


KINDS: tuple[Callable[[Sequence[str], Sequence[str], random.Random], list[str]], ...] = (
    _leave_out, _beheaded, _broken_off, _swapped, _shuffled, _doubled, _looping, _switched, _inflected, _slipped_in,
)  # fmt: skip
