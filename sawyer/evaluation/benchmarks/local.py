"""TruthfulQA and MMLU as their authors publish them, in ``SAWYER_DATA``, in the shape the harness expects."""

import csv
import gzip
import io
import json
import os
from pathlib import Path
from typing import Any

from sawyer.errors import DataError

Docs = list[dict[str, Any]]
LETTERS = "ABCD"


def truthfulqa() -> Docs:
    """The 817 questions: ``question``, ``mc1_targets`` and, where given, ``mc2_targets``: ``choices`` and ``labels``.

    The true answer of mc1 stands first, as the harness expects.

    Raises:
        DataError: the file is absent or not what it should be.
    """
    file = find_data("truthfulqa/mc_task.json")
    if file is None:
        raise _absent("truthfulqa/mc_task.json(.gz)")
    try:
        return [_truthfulqa_doc(row) for row in json.loads(read_data(file))]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{file} is not TruthfulQA's mc_task.json: {error}. Mend it or take it away.") from error


def mmlu(subject: str, split: str) -> Docs:
    """The questions of a subject in ``test`` or ``dev``: ``question``, four ``choices``, ``answer`` (0 to 3).

    Raises:
        DataError: the file is absent or not what it should be.
    """
    name = f"mmlu/{split}/{subject}_{split}.csv"
    file = find_data(name)
    if file is None:
        raise _absent(f"{name}(.gz)")
    docs = []
    for row in csv.reader(io.StringIO(read_data(file))):
        if len(row) != 6 or row[5] not in tuple(LETTERS):
            raise DataError(
                f"{file} is not a subject of MMLU: a row has {len(row)} fields instead of question, four answers "
                "and A, B, C or D. Mend it or take it away."
            )
        docs.append({"question": row[0], "choices": row[1:5], "answer": LETTERS.index(row[5]), "subject": subject})
    return docs


def mmlu_subjects() -> list[str]:
    """The subjects at hand, in order."""
    root = os.environ.get("SAWYER_DATA")
    files = sorted((Path(root) / "mmlu" / "test").glob("*_test.csv*")) if root else []
    return [file.name.split("_test.csv")[0] for file in files]


def find_data(name: str) -> Path | None:
    """A file under ``SAWYER_DATA``, plain or packed by gzip."""
    root = os.environ.get("SAWYER_DATA")
    places = [Path(root) / name, Path(root) / f"{name}.gz"] if root else []
    return next((place for place in places if place.is_file()), None)


def read_data(file: Path) -> str:
    """Its text. DataError: it cannot be read."""
    try:
        if file.suffix == ".gz":
            with gzip.open(file, "rt", encoding="utf-8-sig") as stream:
                return stream.read()
        return file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError, EOFError) as error:
        raise DataError(f"{file} cannot be read: {error}.") from error


def _absent(name: str) -> DataError:
    root = os.environ.get("SAWYER_DATA")
    where = f"is not in {root}" if root else "cannot be looked for, because SAWYER_DATA is not set"
    return DataError(f"The benchmark file {name} {where}. Name the folder that holds it in SAWYER_DATA.")


def _truthfulqa_doc(row: dict[str, Any]) -> dict[str, Any]:
    doc: dict[str, Any] = {"question": row["question"]}
    for key in ("mc1_targets", *(["mc2_targets"] if "mc2_targets" in row else [])):
        answers = sorted(row[key].items(), key=lambda item: -item[1])
        doc[key] = {"choices": [text for text, _ in answers], "labels": [int(label) for _, label in answers]}
    return doc
