"""From what people did to what a trainer reads. Pure functions on one vote or rating and its turn.

A turn's answers all reply to the same messages, so every pair compares like with like:

    choice is a stage   chosen > each other answer shown; with a ranking, each earlier > each later one
    tie                 nothing
    bad                 each answer shown is a KTO negative
    thumb up / down     one KTO row
    edit                an SFT example, and edited > the answer it corrects (after a tie or "all bad":
                        > each answer shown)

Answers with the same text make no pair, and answers that never ended properly teach nothing. Nor does what its voter
gave no consent for, or what a reviewer rejected or flagged.
"""

from collections.abc import Iterable, Iterator

from sawyer.store.records import Completion, Rating, Turn, Vote

# Cut off by the person or by a fault: the text is not what the model would have said.
UNFINISHED = ("cancelled", "error")


def preference_rows(voted: Iterable[tuple[Vote, Turn]]) -> Iterator[dict]:
    """The preference rows of votes."""
    for vote, turn in voted:
        if vote.teaches:
            yield from pairs(vote, turn)


def kto_rows(voted: Iterable[tuple[Vote, Turn]], rated: Iterable[tuple[Rating, Turn]]) -> Iterator[dict]:
    """The KTO rows of thumbs and "all bad" votes; where a voter gave one answer both, the thumb counts."""
    thumbed = set()
    for rating, turn in rated:
        thumbed.add((rating.voter, rating.completion_id))
        if rating.consent:
            yield from thumb(rating, turn)
    for vote, turn in voted:
        for row in negatives(vote, turn) if vote.teaches else ():
            if (vote.voter, row["completion_id"]) not in thumbed:
                yield row


def sft_rows(voted: Iterable[tuple[Vote, Turn]]) -> Iterator[dict]:
    """The SFT rows of edits."""
    for vote, turn in voted:
        if vote.teaches:
            yield from edits(vote, turn)


def pairs(vote: Vote, turn: Turn) -> Iterator[dict]:
    """Rows {"prompt": messages, "chosen": str, "rejected": str, and where they come from}."""
    answers = _compared(vote, turn)
    preferred = [(better.text, better.stage, worse.text, worse.stage) for better, worse in _orderings(vote, answers)]
    if vote.edited is not None:
        for worse in _corrected(vote, answers):
            preferred.append((vote.edited, "edited", worse.text, worse.stage))
    for chosen, chosen_stage, rejected, rejected_stage in preferred:
        if chosen.strip() and chosen.strip() != rejected.strip():
            row = {"prompt": turn.messages, "chosen": chosen, "rejected": rejected}
            yield row | {"chosen_stage": chosen_stage, "rejected_stage": rejected_stage} | _origin(vote, turn)


def negatives(vote: Vote, turn: Turn) -> Iterator[dict]:
    """KTO rows of a vote: {"prompt": messages, "completion": str, "label": False} for "all bad"."""
    if vote.choice == "bad":
        for answer in _compared(vote, turn):
            yield _kto_row(answer, False, turn, vote)


def thumb(rating: Rating, turn: Turn) -> Iterator[dict]:
    """The KTO row of a rating, if the answer it rates was a proper one."""
    for answer in turn.completions:
        if answer.id != rating.completion_id or answer.finish_reason in UNFINISHED:
            continue
        if rating.up is False or (rating.up and answer.text.strip()):
            yield _kto_row(answer, rating.up, turn, rating)


def edits(vote: Vote, turn: Turn) -> Iterator[dict]:
    """SFT rows {"messages": the turn's messages and the edited reply}; an unchanged edit gives none."""
    if vote.edited is None:
        return
    if any(vote.edited.strip() == answer.text.strip() for answer in _corrected(vote, _compared(vote, turn))):
        return
    reply = {"role": "assistant", "content": vote.edited}
    yield {"messages": [*turn.messages, reply]} | _origin(vote, turn)


def _compared(vote: Vote, turn: Turn) -> list[Completion]:
    """The properly ended answers that were on the screen when the vote was cast."""
    return [a for a in turn.completions if a.id in vote.shown and a.finish_reason not in UNFINISHED]


def _orderings(vote: Vote, answers: list[Completion]) -> Iterator[tuple[Completion, Completion]]:
    """(better, worse) for every order the vote states."""
    chosen = [answer for answer in answers if answer.id == vote.completion_id]
    if not chosen:
        return
    rank = {answer: place for place, answer in enumerate(vote.ranking or [chosen[0].id])}
    last = len(rank)  # answers left out of the ranking come after all ranked ones, unordered
    for better in answers:
        for worse in answers:
            if rank.get(better.id, last) < rank.get(worse.id, last):
                yield better, worse


def _corrected(vote: Vote, answers: list[Completion]) -> list[Completion]:
    """The answers an edit improves on: the chosen one, or all of them when none was chosen."""
    if vote.completion_id is None:
        return answers
    return [answer for answer in answers if answer.id == vote.completion_id]


def _kto_row(answer: Completion, label: bool, turn: Turn, source: Vote | Rating) -> dict:
    row = {"prompt": turn.messages, "completion": answer.text, "label": label, "stage": answer.stage}
    return row | {"completion_id": answer.id} | _origin(source, turn)


def _origin(source: Vote | Rating, turn: Turn) -> dict:
    # The conversation is the unit of train/held-out splits.
    return {"conversation_id": turn.conversation_id, "turn_id": turn.id, "voter": source.voter}
