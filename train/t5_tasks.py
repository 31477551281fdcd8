"""What a new T5 learns from: rows of random tokens, spans to fill in, first sentences, and the tasks of a recipe.

Copying is what a small T5 lacks most. It is a mechanism (find the place, write the next token; "induction", Olsson et
al. 2022) that forms only when no text can be learnt by heart: in rows of random tokens. The first sentence as the
answer to a text is then the nearest thing to a summary that needs no writer (Zhu et al. 2021, "Leveraging Lead Bias for
Zero-shot Abstractive News Summarization").
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from sawyer.chat import ChatFormat
from sawyer.data import Prompt
from sawyer.errors import TrainingError
from sawyer.recipe import T5Spec
from train.sentences import whole_sentences

SENTINELS = 24  # marks of left-out spans, <extra_id_0> first
NOISE, SPAN = 0.15, 3.0  # share of tokens left out and mean length of a span, as T5's
SHORTEST, LONGEST = 3, 12  # random tokens in a "sentence" to repeat: short ones are learnt from sooner
COMPANY = (0, 1, 1, 2)  # sentences that follow the first one


@dataclass(frozen=True)
class Pair:
    """What the encoder reads and what the decoder must write, as token ids that both end with EOS."""

    source: list[int]
    target: list[int]


def encode(task: Prompt, chat: ChatFormat, spec: T5Spec) -> Pair:
    """A task's prompt and answer, each cut to the recipe's length with EOS kept.

    An answer begins with a space, as a word does that follows another: the first word copied is then the same token
    on both sides. Decoding strips it.
    """
    source, target = chat.encode_prompt(task.messages, "base"), chat.encode_text(f" {task.reference}")
    return Pair([*source[:-1][: spec.max_input - 1], chat.eos_id], [*target[: spec.max_output - 1], chat.eos_id])


def plan(spec: T5Spec, chat: ChatFormat, texts: Sequence[str], tasks: Sequence[Pair], seed: int) -> list[Pair]:
    """Every row of the run in order: batches of random tokens, of spans and of first sentences, then the tasks.

    It depends on the recipe alone, so a resumed run finds its place again.

    Raises:
        TrainingError: steps are asked for that need text, and there is none.
    """
    rows = copies(spec, chat, seed)
    if spec.text_steps:
        pieces = list(chunks(texts, chat, spec.max_input, seed))
        _need(pieces, "text_steps")
        sentinels = [chat.tokenizer.convert_tokens_to_ids(f"<extra_id_{n}>") for n in range(SENTINELS)]
        for place in range(spec.text_steps * spec.batch_size):
            draw = random.Random(f"{seed}:span:{place}")
            rows.append(corrupt(pieces[place % len(pieces)], sentinels, chat.eos_id, draw))
    if spec.lead_steps:
        rows += leads(spec, chat, texts, seed)
    wanted = round(spec.epochs * len(tasks))
    while wanted > 0:
        order = random.Random(f"{seed}:tasks:{wanted}").sample(range(len(tasks)), len(tasks))
        rows += [tasks[index] for index in order[:wanted]]
        wanted -= len(tasks)
    return rows


def copies(spec: T5Spec, chat: ChatFormat, seed: int) -> list[Pair]:
    """``copy_steps`` batches of random tokens up to a full stop, to be repeated up to it, whatever follows."""
    stop = chat.encode_text(".")
    left_out = {*chat.tokenizer.all_special_ids, *stop}
    usual = [token for token in range(len(chat.tokenizer)) if token not in left_out]
    before, after = _around(spec, chat)
    draw = random.Random(f"{seed}:copy")
    rows = []
    for _ in range(spec.copy_steps * spec.batch_size):
        row = draw.choices(usual, k=draw.randint(SHORTEST, LONGEST)) + stop
        rest = draw.choices(usual, k=draw.randint(0, LONGEST)) + stop
        rows.append(_asked(row, [rest], before, after, chat.eos_id, spec))
    return rows


def leads(spec: T5Spec, chat: ChatFormat, texts: Sequence[str], seed: int) -> list[Pair]:
    """``lead_steps`` batches of sentences of ``texts`` with others after them: the answer is the first.

    The company is drawn anew each time, so that hardly a text is met twice.
    """
    written = [chat.encode_text(f" {sentence}") for sentence in whole_sentences(texts)]
    pool = [ids for ids in written if len(ids) < spec.max_output]
    _need(pool, "lead_steps")
    before, after = _around(spec, chat)
    rows = []
    order: list[list[int]] = []
    for place in range(spec.lead_steps * spec.batch_size):
        draw = random.Random(f"{seed}:lead:{place}")
        order = order or draw.sample(pool, len(pool))
        rest = draw.choices(pool, k=draw.choice(COMPANY))
        rows.append(_asked(order.pop(), rest, before, after, chat.eos_id, spec))
    return rows


def chunks(texts: Sequence[str], chat: ChatFormat, length: int, seed: int) -> Iterator[list[int]]:
    """Texts in random order, cut to pieces of at most ``length`` - 1 tokens; short rests are left out."""
    order = random.Random(f"{seed}:texts").sample(range(len(texts)), len(texts))
    for index in order:
        ids = chat.encode_text(texts[index])
        for start in range(0, len(ids), length - 1):
            if len(ids) - start >= 8:
                yield ids[start : start + length - 1]


def corrupt(ids: Sequence[int], sentinels: Sequence[int], eos: int, draw: random.Random) -> Pair:
    """Leave spans of a text out: the source holds a sentinel for each, the target each sentinel and its span."""
    spans = max(1, min(len(sentinels), round(len(ids) * NOISE / SPAN)))
    hidden = max(spans, round(len(ids) * NOISE))
    lengths, gaps = _split(hidden, spans, draw), _split(len(ids) - hidden, spans, draw)
    source: list[int] = []
    target: list[int] = []
    place = 0
    for sentinel, gap, length in zip(sentinels, gaps, lengths, strict=False):
        source += [*ids[place : place + gap], sentinel]
        target += [sentinel, *ids[place + gap : place + gap + length]]
        place += gap + length
    return Pair([*source, *ids[place:], eos], [*target, eos])


def _around(spec: T5Spec, chat: ChatFormat) -> tuple[list[int], list[int]]:
    """Token ids of what the template says before and after the text; the space before the text is the text's own."""
    before, _, after = spec.lead_template.partition("{text}")
    return chat.encode_text(before.rstrip(" ")), chat.encode_text(after)


def _asked(
    first: list[int], rest: list[list[int]], before: list[int], after: list[int], eos: int, spec: T5Spec
) -> Pair:
    """The question for the first of several sentences; what is too long loses the end of the last ones."""
    room = spec.max_input - 1 - len(before) - len(after)
    text = [token for ids in (first, *rest) for token in ids][:room]
    return Pair([*before, *text, *after, eos], [*first[: spec.max_output - 1], eos])


def _need(found: Sequence[object], key: str) -> None:
    if not found:
        raise TrainingError(f"t5.{key} need text, and t5.sources hold none: add sources, or set it to 0.")


def _split(total: int, parts: int, draw: random.Random) -> list[int]:
    """``total`` as the sum of ``parts`` random whole numbers, each at least 1 where there is enough."""
    cuts = sorted(draw.sample(range(1, total), parts - 1)) if total > parts - 1 and parts > 1 else []
    edges = [0, *cuts, total]
    return [after - before for before, after in pairwise(edges)]
