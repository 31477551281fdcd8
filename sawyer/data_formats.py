"""The layouts that public conversation and preference sets come in, read into messages. Pure functions.

Every function takes one record and returns nothing usable as an empty value, never an exception: what a source
does not offer is dropped and counted by the caller.
"""

import re
from typing import Any

Message = dict[str, str]
ROLES = {
    "system": "system",
    "user": "user",
    "human": "user",
    "prompter": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "bot": "assistant",
    "chatgpt": "assistant",
    "model": "assistant",
}
# Where a record may hold the reply that followed its prompt.
REFERENCES = ("reference", "response", "output", "completion", "answer", "summary")
# Scores of both replies: HuggingFaceH4/ultrafeedback_binarized, argilla/ultrafeedback-binarized-preferences and its
# cleaned form.
SCORES = (
    ("score_chosen", "score_rejected"),
    ("chosen_avg_rating", "rejected_avg_rating"),
    ("chosen-rating", "rejected-rating"),
)
MARKS = {
    # Anthropic HH-RLHF: "\n\nHuman: …\n\nAssistant: …"
    "hh": re.compile(r"\n\n(Human|Assistant):"),
    # timdettmers/openassistant-guanaco: "### Human: …### Assistant: …"
    "guanaco": re.compile(r"### ?(Human|Assistant):"),
}


def messages_of(value: Any) -> list[Message]:
    """Read a list of messages (``role``/``content`` or ShareGPT's ``from``/``value``) or a bare user text."""
    if isinstance(value, str):
        return [{"role": "user", "content": value.strip()}] if value.strip() else []
    messages: list[Message] = []
    for item in value or []:
        role = ROLES.get(str(item.get("role") or item.get("from") or "").lower())
        content = item.get("content") or item.get("value")
        if role is None or not isinstance(content, str) or not content.strip():
            return []
        if messages and messages[-1]["role"] == role:
            messages[-1]["content"] += "\n" + content.strip()
        else:
            messages.append({"role": role, "content": content.strip()})
    return messages


def transcript_of(text: str, layout: str) -> list[Message]:
    """Split a marked transcript (``hh`` or ``guanaco``) into messages."""
    parts = MARKS[layout].split(text)
    turns = [{"from": role, "value": content} for role, content in zip(parts[1::2], parts[2::2], strict=True)]
    while turns and not turns[-1]["value"].strip():
        turns.pop()
    return messages_of(turns)


def conversation_of(record: dict[str, Any], layout: str = "auto") -> list[Message]:
    """Return the conversation of a record, cut after its last assistant turn; empty when there is none."""
    if layout in MARKS:
        messages = transcript_of(str(record.get("text") or record.get("chosen") or ""), layout)
    elif record.get("messages") or record.get("conversations"):
        messages = messages_of(record.get("messages") or record.get("conversations"))
    elif record.get("chosen") is not None:
        pairs = pair_of(record, layout)
        messages = [*pairs[0][0], {"role": "assistant", "content": pairs[0][1]}] if pairs else []
    else:
        messages = _instruction(record)
        reply = _first(record, "response", "output", "completion", "answer")
        messages = [*messages, {"role": "assistant", "content": reply}] if messages and reply else []
    while messages and messages[-1]["role"] != "assistant":
        messages.pop()
    return messages if any(m["role"] == "user" for m in messages) else []


def pair_of(record: dict[str, Any], layout: str = "auto") -> list[tuple[list[Message], str, str, float | None]]:
    """Return ``(prompt, chosen, rejected, margin)`` tuples of a record; several for scored responses."""
    if layout == "scored" or "responses_and_scores" in record:
        return _scored(record)
    chosen, rejected = record.get("chosen"), record.get("rejected")
    if layout in MARKS and isinstance(chosen, str) and isinstance(rejected, str):
        chosen, rejected = transcript_of(chosen, layout), transcript_of(rejected, layout)
    if isinstance(chosen, list) and isinstance(rejected, list):
        chosen, rejected = messages_of(chosen), messages_of(rejected)
        if not chosen or not rejected or chosen[-1]["role"] != "assistant" or rejected[-1]["role"] != "assistant":
            return []
        given = messages_of(record.get("prompt")) if not chosen[:-1] else chosen[:-1]
        prompt, chosen, rejected = given, chosen[-1]["content"], rejected[-1]["content"]
    else:
        prompt = messages_of(record.get("prompt")) or _instruction(record)
    if not (prompt and isinstance(chosen, str) and isinstance(rejected, str)) or prompt[-1]["role"] != "user":
        return []
    if not chosen.strip() or not rejected.strip():
        return []
    return [(prompt, chosen.strip(), rejected.strip(), _margin(record))]


def rated_of(record: dict[str, Any], layout: str = "auto") -> list[tuple[list[Message], str, bool]]:
    """Return ``(prompt, reply, liked)`` of a record: one with a label gives one, a pair gives one of each kind."""
    if record.get("label") is None:
        unique = {(liked, text): prompt for prompt, good, bad, _ in pair_of(record, layout)
                  for liked, text in ((True, good), (False, bad)) if good != bad}  # fmt: skip
        return [(prompt, text, liked) for (liked, text), prompt in unique.items()]
    prompt, reply = messages_of(record.get("prompt")), record.get("completion")
    if isinstance(reply, list):  # TRL's conversational form: a list of one message
        reply = reply[0].get("content") if reply else None
    if not prompt or prompt[-1]["role"] != "user" or not isinstance(reply, str) or not reply.strip():
        return []
    return [(prompt, reply.strip(), str(record["label"]).lower() in ("true", "1", "1.0"))]


def prompt_of(record: dict[str, Any], layout: str = "auto") -> tuple[list[Message], str | None]:
    """Return the messages up to the last user turn, and the reply that followed it; ``()`` when there is none."""
    if record.get("chosen") is not None:
        pairs = pair_of(record, layout)
        return (pairs[0][0], pairs[0][1]) if pairs else ()  # type: ignore[return-value]
    if layout in MARKS or record.get("messages") or record.get("conversations"):
        messages = conversation_of(record, layout) or messages_of(record.get("messages"))
        reference = None
        if messages and messages[-1]["role"] == "assistant":
            reference = messages[-1]["content"]
            messages = messages[:-1]
    else:
        messages = messages_of(record.get("prompt")) or _instruction(record)
        reference = _first(record, *REFERENCES) or None
    if not messages or messages[-1]["role"] != "user":
        return ()  # type: ignore[return-value]
    return messages, reference


def text_of(record: dict[str, Any], layout: str = "auto") -> tuple[str, list[Message]]:
    """Return a document's text, or the messages of a conversation."""
    if layout == "auto" and isinstance(record.get("text"), str):
        return record["text"].strip(), []
    return "", conversation_of(record, layout)


def _instruction(record: dict[str, Any]) -> list[Message]:
    """Alpaca and Dolly: an instruction with optional context."""
    task = _first(record, "instruction", "question", "user_input", "prompt")
    context = _first(record, "context", "input")
    return messages_of(f"{task}\n\n{context}" if context else task) if task else []


def _scored(record: dict[str, Any]) -> list[tuple[list[Message], str, str, float | None]]:
    """GPT-4-LLM's comparisons: several responses with scores; every pair of unequal scores counts."""
    prompt = _instruction(record) or messages_of(record.get("prompt"))
    scored = [
        (float(item["score"]), str(item["response"]).strip())
        for item in record.get("responses_and_scores") or []
        if item.get("score") is not None and str(item.get("response") or "").strip()
    ]
    scored.sort(key=lambda item: -item[0])
    return [
        (prompt, better, worse, high - low)
        for i, (high, better) in enumerate(scored)
        for low, worse in scored[i + 1 :]
        if prompt and high > low
    ]


def _margin(record: dict[str, Any]) -> float | None:
    if record.get("margin") is not None:
        return float(record["margin"])
    for better, worse in SCORES:
        if record.get(better) is not None and record.get(worse) is not None:
            return float(record[better]) - float(record[worse])
    return None


def _first(record: dict[str, Any], *names: str) -> str:
    for name in names:
        value = record.get(name)
        if isinstance(value, str) and value.strip():
            return value.strip()
    return ""
