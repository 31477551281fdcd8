"""Rows in files: JSON lines and Parquet."""

import json
import os
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from sawyer.lines import objects

SUFFIXES = (".jsonl", ".parquet")
_BATCH = 1000  # rows per Parquet row group


def write_rows(rows: Iterator[dict], path: Path, suffix: str, like: Path | None = None) -> int:
    """Write rows and return their number; they are on the disk when this returns.

    Args:
        suffix: .jsonl or .parquet, whatever `path` is called.
        like: a Parquet file whose columns the new one gets even if no row is left.
    """
    count = _write_jsonl(rows, path) if suffix == ".jsonl" else _write_parquet(rows, path, like)
    with open(path, "rb") as written:
        os.fsync(written.fileno())
    return count


def read_rows(path: Path) -> Iterator[dict]:
    """The rows of a file that `write_rows` made. Raises OSError or ValueError when it is not one."""
    if path.suffix == ".jsonl":
        yield from objects(path)
        return
    import pyarrow.parquet

    with pyarrow.parquet.ParquetFile(path) as file:
        for batch in file.iter_batches(_BATCH):
            yield from batch.to_pylist()


def _write_jsonl(rows: Iterator[dict], path: Path) -> int:
    count = 0
    with open(path, "w", encoding="utf-8") as lines:
        for row in rows:
            lines.write(json.dumps(row, ensure_ascii=False) + "\n")
            count += 1
    return count


def _write_parquet(rows: Iterator[dict], path: Path, like: Path | None) -> int:
    import pyarrow
    import pyarrow.parquet

    count = 0
    writer: Any = None
    try:
        if like is not None:
            writer = pyarrow.parquet.ParquetWriter(path, pyarrow.parquet.read_schema(like))
        while batch := list(islice(rows, _BATCH)):
            # Declared, not inferred: a batch of one kind only must not narrow the file's column types.
            schema = _schema(batch[0]) if writer is None else writer.schema
            table = pyarrow.Table.from_pylist(batch, schema=schema)
            writer = writer or pyarrow.parquet.ParquetWriter(path, schema)
            writer.write_table(table)
            count += len(batch)
    finally:
        if writer is not None:
            writer.close()
    return count


def _schema(row: dict) -> Any:
    import pyarrow

    kinds = {bool: pyarrow.bool_(), float: pyarrow.float64(), str: pyarrow.string()}
    messages = pyarrow.list_(pyarrow.struct([("role", pyarrow.string()), ("content", pyarrow.string())]))
    return pyarrow.schema([(name, kinds.get(type(value), messages)) for name, value in row.items()])
