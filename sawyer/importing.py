"""Preference data of others, brought into TRL's formats: a folder that recipes name as a data source.

Imports do not go into the feedback store: that holds what people said of this chatbot's own answers, with who and when,
and nothing else may be counted on its board. A round mixes such folders in as its recipe says.
"""

import contextlib
import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from sawyer import argilla
from sawyer.data import read_records
from sawyer.data_formats import MARKS, Message, conversation_of, messages_of, pair_of
from sawyer.errors import DataError, StoreError, UsageError
from sawyer.recipe import DataSource
from sawyer.store import files

Form = Literal["preference", "kto", "sft"]
LAYOUTS = """\
preference: chosen and rejected (with prompt or instruction; texts, messages, or HH-RLHF transcripts)
preference: instruction, chosen_response, rejected_response (UltraFeedback of Argilla)
preference: instruction or prompt, and completions with response and overall_score (UltraFeedback)
preference: Argilla records (fields and responses, or flattened columns such as preference.responses)
kto:        prompt, completion, label (true or false)
sft:        messages or conversations; or prompt (instruction) and completion (output, response)"""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass
class Imported:
    """What an import found. ``skipped`` rows had no usable prompt and replies; ``first_skipped`` counts from 1."""

    form: Form
    rows: list[dict] = field(default_factory=list)
    read: int = 0
    duplicates: int = 0
    contradictions: int = 0
    skipped: int = 0
    first_skipped: int | None = None


def import_records(source: str, *, split: str = "train", subset: str | None = None) -> Imported:
    """Read a local file or hub dataset into rows of one of TRL's formats.

    Exact duplicates are left out; pairs that say the opposite of an earlier one are kept and counted.

    Raises:
        DataError: it cannot be read (bad UTF-8, no JSON), its columns are of no known layout, or no row is usable.
    """
    records = read_records(DataSource(name=source, split=split, subset=subset))
    if not records:
        raise DataError(f"{source} holds no records.")
    found = Imported(_form_of(records[0], source), read=len(records))
    seen: set[str] = set()
    for number, record in enumerate(records, 1):
        made = list(_rows(record, found.form))
        if not made:
            found.skipped += 1
            found.first_skipped = found.first_skipped or number
        for row in made:
            key = json.dumps(row, sort_keys=True)
            if key in seen:
                found.duplicates += 1
                continue
            seen.add(key)
            if found.form == "preference":
                swapped = row | {"chosen": row["rejected"], "rejected": row["chosen"]}
                found.contradictions += json.dumps(swapped, sort_keys=True) in seen
            found.rows.append(row)
    if not found.rows:
        raise DataError(
            f"{source} has {len(records)} records, none usable as {found.form}: a prompt that ends with a user message"
            " and replies that are not empty are needed, for pairs two different ones. Nothing was written."
        )
    return found


def write_folder(found: Imported, name: str, source: str, data: Path, *, overwrite: bool = False) -> Path:
    """Write ``<data>/<name>/train.jsonl`` and its card; the folder is what recipes name.

    Raises:
        UsageError: the name is no folder name, or the folder is there already. StoreError: it cannot be written.
    """
    if not _NAME.fullmatch(name):
        raise UsageError(f"--name {name!r} cannot name a folder: use letters, digits, '.', '_', '-'.")
    folder = data / name
    if folder.exists() and not overwrite:
        raise UsageError(f"{folder} exists already. Choose another --name, or add --overwrite to replace it.")
    file = folder / "train.jsonl"
    temporary = folder / f".train.{os.getpid()}.tmp"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        files.write_rows(iter(found.rows), temporary, ".jsonl")
        (folder / "README.md").write_text(_card(found, name, source), encoding="utf-8")
        os.replace(temporary, file)
    except OSError as error:
        raise StoreError(f"The import could not be written to {folder}: {error.strerror or error}.") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()
    return folder


def _form_of(record: dict[str, Any], source: str) -> Form:
    names = set(record)
    if (
        argilla.is_record(record)
        or {"chosen", "rejected"} <= names
        or {"chosen_response", "rejected_response"} <= names
    ):
        return "preference"
    if {"prompt", "completion", "label"} <= names:
        return "kto"
    if "completions" in names or "responses_and_scores" in names:
        return "preference"
    if names & {"messages", "conversations"} or (
        names & {"prompt", "instruction", "question"} and names & {"completion", "output", "response", "answer"}
    ):
        return "sft"
    raise DataError(
        f"The columns of {source} ({', '.join(sorted(names))}) are of no layout known here. Known are\n{LAYOUTS}\n"
        "Rename the columns, or name the source in a recipe with a mapping under 'fields'."
    )


def _rows(record: dict[str, Any], form: Form) -> Iterator[dict]:
    if form == "preference":
        for prompt, chosen, rejected, margin in _pairs(record):
            if chosen != rejected:
                row: dict[str, Any] = {"prompt": prompt, "chosen": _reply(chosen), "rejected": _reply(rejected)}
                yield row if margin is None else row | {"margin": margin}
    elif form == "kto":
        prompt, reply = messages_of(record["prompt"]), _last(record["completion"])
        if prompt and prompt[-1]["role"] == "user" and reply and isinstance(record["label"], bool):
            yield {"prompt": prompt, "completion": _reply(reply), "label": record["label"]}
    elif messages := conversation_of(record):
        yield {"messages": messages}


def _pairs(record: dict[str, Any]) -> list[tuple[list[Message], str, str, float | None]]:
    if argilla.is_record(record):
        return argilla.pairs(record)
    if "chosen_response" in record:
        record = record | {"chosen": record["chosen_response"], "rejected": record["rejected_response"]}
    if isinstance(record.get("completions"), list):
        scored = [{"response": item.get("response"), "score": _score(item)} for item in record["completions"]]
        record = record | {"responses_and_scores": scored}
    chosen = record.get("chosen")
    layout = "hh" if isinstance(chosen, str) and MARKS["hh"].match(chosen) else "auto"
    return pair_of(record, layout)


def _score(item: dict[str, Any]) -> float | None:
    """UltraFeedback's overall score, else the mean of its four ratings (``fine-grained_score``)."""
    for name in ("overall_score", "fine-grained_score", "score", "rating"):
        if isinstance(item.get(name), int | float):
            return float(item[name])
    return None


def _last(completion: Any) -> str:
    """The text of a completion given as a text or as messages."""
    if isinstance(completion, str):
        return completion.strip()
    messages = messages_of(completion) if isinstance(completion, list) else []
    return messages[-1]["content"] if messages and messages[-1]["role"] == "assistant" else ""


def _reply(text: str) -> list[Message]:
    return [{"role": "assistant", "content": text}]


def _card(found: Imported, name: str, source: str) -> str:
    told = [
        f"{len(found.rows)} {found.form} rows from {found.read} records of `{source}`, by `sawyer feedback import`.",
        f"Left out: {found.duplicates} exact duplicates, {found.skipped} records without a usable prompt and replies.",
    ]
    if found.form == "preference":
        told.append(f"Pairs that say the opposite of an earlier one: {found.contradictions} (kept).")
    told.append("The licence is that of the source.")
    head = "---\nconfigs: [{config_name: default, data_files: train.jsonl}]\n---\n"
    return f"{head}# {name}\n\n" + "\n\n".join(told) + "\n"
