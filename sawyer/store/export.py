"""Writing the feedback as training data in TRL's formats, JSON lines or Parquet."""

import contextlib
import json
import os
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from sawyer.errors import StoreError, UsageError
from sawyer.store.store import FeedbackStore

_BATCH = 1000  # rows per Parquet row group


def preference_rows(store: FeedbackStore) -> Iterator[dict]:
    """prompt, chosen, rejected: TRL's DPO, ORPO and Reward trainers."""
    for row in store.pairs():
        yield {
            "prompt": row["prompt"],
            "chosen": _reply(row["chosen"]),
            "rejected": _reply(row["rejected"]),
        }


def kto_rows(store: FeedbackStore) -> Iterator[dict]:
    """prompt, completion, label: TRL's KTO trainer."""
    for row in store.kto_rows():
        yield {"prompt": row["prompt"], "completion": _reply(row["completion"]), "label": row["label"]}


def sft_rows(store: FeedbackStore) -> Iterator[dict]:
    """messages: TRL's SFT trainer."""
    for row in store.sft_rows():
        yield {"messages": row["messages"]}


FORMATS: dict[str, Callable[[FeedbackStore], Iterator[dict]]] = {
    "preference": preference_rows,
    "kto": kto_rows,
    "sft": sft_rows,
}
SUFFIXES = (".jsonl", ".parquet")

_SOURCES = {
    "preference": "votes for one answer over another, or edited answers",
    "kto": "thumbs up or down, or votes that all answers are bad",
    "sft": "edited answers",
}


def export(store: FeedbackStore, path: Path, form: str, *, overwrite: bool = False) -> int:
    """Write all rows of one format to `path` and return their number; the file appears whole or not at all.

    Every text is a list of {"role", "content"} messages, TRL's conversational form, so that a trainer
    applies its own chat template.

    Args:
        path: ends in .jsonl or .parquet.
        form: preference, kto or sft.

    Raises:
        UsageError: another format or suffix, or the file exists and `overwrite` is False.
        StoreError: there are no such rows yet, or the file cannot be written.
    """
    if form not in FORMATS:
        raise UsageError(f"Unknown format {form!r}. Allowed: {', '.join(FORMATS)}.")
    if path.suffix not in SUFFIXES:
        raise UsageError(f"The export file {path} must end in {' or '.join(SUFFIXES)}.")
    if path.exists() and not overwrite:
        raise UsageError(f"{path} exists already. Name another file, or add --overwrite to replace it.")
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    write = _write_jsonl if path.suffix == ".jsonl" else _write_parquet
    try:
        count = write(FORMATS[form](store), temporary)
        if count == 0:
            raise StoreError(
                f"There is nothing to export as {form} yet: such rows come from {_SOURCES[form]}. Nothing was written."
            )
        with open(temporary, "rb") as written:
            os.fsync(written.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise StoreError(
            f"The export could not be written to {path}: {error.strerror or error}. Nothing was left there;"
            " free some space or name a folder that exists and can be written."
        ) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()
    return count


def _reply(text: str) -> list[dict]:
    return [{"role": "assistant", "content": text}]


def _write_jsonl(rows: Iterator[dict], path: Path) -> int:
    count = 0
    with open(path, "w", encoding="utf-8") as lines:
        for row in rows:
            lines.write(json.dumps(row, ensure_ascii=False) + "\n")
            count += 1
    return count


def _write_parquet(rows: Iterator[dict], path: Path) -> int:
    import pyarrow
    import pyarrow.parquet

    count = 0
    writer: Any = None
    try:
        while batch := list(islice(rows, _BATCH)):
            # Declared, not inferred: a batch of one kind only must not narrow the file's column types.
            table = pyarrow.Table.from_pylist(batch, schema=_schema(batch[0]))
            writer = writer or pyarrow.parquet.ParquetWriter(path, table.schema)
            writer.write_table(table)
            count += len(batch)
    finally:
        if writer is not None:
            writer.close()
    return count


def _schema(row: dict) -> Any:
    import pyarrow

    messages = pyarrow.list_(pyarrow.struct([("role", pyarrow.string()), ("content", pyarrow.string())]))
    return pyarrow.schema([(name, pyarrow.bool_() if name == "label" else messages) for name in row])
