"""JSON lines read by hand: local files need neither Arrow nor a second of imports, and an error names its line."""

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ENCODING = "utf-8-sig"  # UTF-8, with or without a byte-order mark


def read_lines(file: Path) -> tuple[list[str], list[dict[str, Any]]]:
    """Field names of a JSON-lines file (plain or ``.gz``) in order of appearance, and its records.

    As in a table, every record has every field, None where it is missing. Empty lines are passed over.

    Raises:
        OSError: the file cannot be read. ValueError: a line is no JSON object, or the text no UTF-8.
    """
    found = list(objects(file))
    names = list(dict.fromkeys(name for record in found for name in record))
    return names, [{name: record.get(name) for name in names} for record in found]


def objects(file: Path) -> Iterator[dict[str, Any]]:
    """The objects of the file as they stand there, one after the other. Raises as `read_lines`."""
    try:
        with gzip.open(file, "rb") if file.suffix == ".gz" else file.open("rb") as stream:
            for number, line in enumerate(stream, 1):
                if line.strip():
                    yield _object(line, number)
    except EOFError as error:  # gzip's word for a file that was cut off
        raise ValueError("it is cut off") from error


def _object(data: bytes, number: int) -> dict[str, Any]:
    try:
        line = data.decode(ENCODING)
        value = json.loads(line)
    except UnicodeDecodeError as error:
        raise ValueError(f"line {number} is not UTF-8 (byte {error.start + 1} of the line: {error.reason})") from error
    except ValueError as error:
        raise ValueError(f"line {number} is no JSON: {error}") from error
    if not isinstance(value, dict):
        raise ValueError(f"line {number} is no JSON object but {type(value).__name__}: {line.strip()[:60]}")
    return value
