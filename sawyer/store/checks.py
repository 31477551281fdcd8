"""What the store accepts: values are checked and cleaned here before any transaction starts."""

import math
import re

from sawyer.store.errors import Invalid, NotFound, NotShown
from sawyer.store.panes import is_blind, named, panes_of
from sawyer.store.records import ANSWER_STAGES, CHOICES, REVIEW_STATES, VERDICTS, Completion, Turn

ROLES = ("system", "user", "assistant")
_PANE = re.compile(rf"({'|'.join(ANSWER_STAGES)})(@\d{{1,9}})?|[A-C]")
_KEY_LENGTH = 255


def clean(text: str) -> str:
    """Text as every database can hold it: NUL and lone surrogates become U+FFFD.

    Byte-level models and careless clients produce both; PostgreSQL refuses NUL and UTF-8 has no lone
    surrogates. One odd character must not cost a vote.
    """
    text = text.replace("\x00", "\ufffd")
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def clean_or_none(text: str | None) -> str | None:
    """Cleaned text, or None when it says nothing."""
    return clean(text) if text is not None and text.strip() else None


def checked_messages(messages: list[dict]) -> list[dict]:
    """The messages with only role and content. Raises Invalid unless they end with a user message."""
    if not messages:
        raise Invalid("A turn needs at least one message; none was given.")
    checked = []
    for place, message in enumerate(messages):
        role, content = message.get("role"), message.get("content")
        if role not in ROLES or not isinstance(content, str):
            raise Invalid(
                f"Message {place} of the turn has role {role!r} and content of type"
                f" {type(content).__name__}. Allowed: role {', '.join(ROLES)} and text as content."
            )
        checked.append({"role": role, "content": clean(content)})
    if checked[-1]["role"] != "user":
        raise Invalid(f"A turn ends with a user message; this one ends with role {checked[-1]['role']!r}.")
    return checked


def check_stage(stage: str) -> None:
    if stage not in ANSWER_STAGES:
        raise Invalid(f"Unknown stage {stage!r}. Allowed: {', '.join(ANSWER_STAGES)}.")


def check_reward(reward: float | None) -> None:
    if reward is not None and not math.isfinite(reward):
        raise Invalid(f"A reward must be a finite number; {reward!r} was given.")


def checked_key(idempotency_key: str | None) -> str | None:
    if idempotency_key is not None and len(idempotency_key) > _KEY_LENGTH:
        raise Invalid(f"The idempotency key has {len(idempotency_key)} characters; at most {_KEY_LENGTH} are allowed.")
    return clean_or_none(idempotency_key)


def check_vote(choice: str, ranking: list[str] | None, position: int | None) -> None:
    """What can be said about a vote without looking at its turn. `choice` and `ranking` name panes."""
    if choice not in VERDICTS and not _PANE.fullmatch(choice):
        raise Invalid(f"Unknown choice {choice!r}. Allowed: {', '.join(CHOICES)}, a version (rlf@2), a letter (A).")
    if ranking is not None:
        if len(set(ranking)) != len(ranking):
            raise Invalid(f"The ranking {ranking!r} names a pane twice.")
        if ranking[:1] != [choice]:
            raise Invalid(f"The ranking {ranking!r} must begin with the choice, {choice!r}, best first.")
    if position is not None and position < 0:
        raise Invalid(f"The position {position!r} is the chosen pane's place, counted from 0.")


def check_review(state: str) -> None:
    if state not in REVIEW_STATES:
        raise Invalid(f"Unknown review state {state!r}. Allowed: {', '.join(REVIEW_STATES)}.")


def check_answered(turn: Turn) -> None:
    """Raises NotFound while a turn has no answers."""
    if not turn.completions:
        raise NotFound(f"Turn {turn.id} has no answers yet, so there is nothing to vote on.")


def answer_named(turn: Turn, name: str, param: str) -> Completion:
    """The answer on the screen that a vote's ``param`` means by a pane's name, a version or a stage.

    Raises:
        NotFound: there is none. Invalid: two versions of that stage were shown.
    """
    found, shown = named(turn, name), ", ".join(panes_of(turn))
    if not found:
        raise NotFound(f"{name!r} has no answer in turn {turn.id}. It has those of {shown}.")
    if len(found) > 1:
        raise Invalid(f"{param} {name!r} means {len(found)} answers of turn {turn.id}. Name one of {shown}.")
    return found[0]


def pane_shown(turn: Turn, name: str, param: str) -> Completion:
    """The answer that a person means who sees nothing but the screen: in a blind turn, only letters name one.

    Raises:
        NotShown: the name means no pane, or several.
    """
    found, panes = named(turn, name), panes_of(turn)
    if len(found) == 1 and (name in panes or not is_blind(turn)):
        return found[0]
    reason = "means several panes of this turn" if len(found) > 1 else "was not shown in this turn"
    allowed = [*panes, *VERDICTS] if param == "choice" else list(panes)
    raise NotShown(param, f"{param} {name!r} {reason}. Allowed: {', '.join(allowed)}.")
