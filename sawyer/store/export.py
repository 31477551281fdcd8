"""Writing the feedback as training data in TRL's formats, JSON lines or Parquet, with a card that says what it is."""

import contextlib
import os
from collections.abc import Callable
from pathlib import Path

from sawyer.curation import Curation, curated_rows
from sawyer.curation.rows import Form
from sawyer.errors import StoreError, UsageError
from sawyer.store import files, ledger
from sawyer.store.card import card_of
from sawyer.store.errors import NotFound
from sawyer.store.store import FeedbackStore
from sawyer.types import FeedbackFilter


def preference_row(row: dict) -> dict:
    """prompt, chosen, rejected: TRL's DPO, ORPO and Reward trainers."""
    return {"prompt": row["prompt"], "chosen": _reply(row["chosen"]), "rejected": _reply(row["rejected"])}


def kto_row(row: dict) -> dict:
    """prompt, completion, label: TRL's KTO trainer."""
    return {"prompt": row["prompt"], "completion": _reply(row["completion"]), "label": row["label"]}


def sft_row(row: dict) -> dict:
    """messages: TRL's SFT trainer."""
    return {"messages": row["messages"]}


FORMATS: dict[str, Callable[[dict], dict]] = {"preference": preference_row, "kto": kto_row, "sft": sft_row}

_SOURCES = {
    "preference": "votes for one answer over another, or edited answers",
    "kto": "thumbs up or down, or votes that all answers are bad",
    "sft": "edited answers",
}


def export(
    store: FeedbackStore,
    path: Path,
    form: Form,
    *,
    overwrite: bool = False,
    wanted: FeedbackFilter | None = None,
    curation: Curation | None = None,
    stays: bool = True,
) -> int:
    """Write the rows of one format to `path` and return their number; the file appears whole or not at all.

    Every text is a list of {"role", "content"} messages, TRL's conversational form, so that a trainer
    applies its own chat template. The file goes into the ledger, so that `forget` and `redact` reach it, and a dataset
    card is written beside it (pairs.jsonl: pairs.card.md).

    Args:
        path: ends in .jsonl or .parquet.
        form: preference, kto or sft.
        wanted: which votes; default: all that may teach. curation: what is left out of them.
        stays: False for a file that leaves this machine at once: neither ledger nor card.

    Raises:
        UsageError: another format or suffix, or the file exists and `overwrite` is False.
        NotFound: there are no such rows. StoreError: the file cannot be written.
    """
    if form not in FORMATS:
        raise UsageError(f"Unknown format {form!r}. Allowed: {', '.join(FORMATS)}.")
    if path.suffix not in files.SUFFIXES:
        raise UsageError(f"The export file {path} must end in {' or '.join(files.SUFFIXES)}.")
    if path.exists() and not overwrite:
        raise UsageError(f"{path} exists already. Name another file, or add --overwrite to replace it.")
    wanted, curation = wanted or FeedbackFilter(), curation or Curation()
    sources = curated_rows(store, form, curation, wanted)
    if not sources:
        chosen = ", ".join(f"{key} {value}" for key, value in wanted.model_dump(exclude_none=True).items())
        raise NotFound(
            f"There is nothing to export as {form}{f' with {chosen}' if chosen else ' yet'}: such rows come from"
            f" {_SOURCES[form]}. Nothing was written."
        )
    rows = [FORMATS[form](source) for source in sources]
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        files.write_rows(iter(rows), temporary, path.suffix)
        if stays:  # noted before it is there: a file that nobody knows of could not be reached again
            ledger.note(store, path, form, zip(rows, sources, strict=True))
            path.with_suffix(".card.md").write_text(card_of(path.name, form, sources, wanted, curation), "utf-8")
        os.replace(temporary, path)
    except OSError as error:
        raise StoreError(
            f"The export could not be written to {path}: {error.strerror or error}. Nothing was left there;"
            " free some space or name a folder that exists and can be written."
        ) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()
    return len(rows)


def _reply(text: str) -> list[dict]:
    return [{"role": "assistant", "content": text}]
