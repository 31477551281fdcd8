"""What a round's folder says of it: the record that is replaced after every step."""

import json
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError

from sawyer.errors import CheckpointError
from sawyer.runs import write_json
from sawyer.types.rounds import ROUND_STEPS, RoundDetail, RoundStep, RoundSummary

RECORD, PROGRESS, LOG = "round.json", "progress.json", "log.txt"
LOG_LINES = 60


class RoundRecord(RoundDetail):
    """The record on the disk. Its ``state`` is ``running`` until the round has ended, also if its process is gone."""

    dry_run: bool = False
    cast: int = Field(0, description="votes that counted in the store when the snapshot was taken")

    @property
    def ended_well(self) -> bool:
        """Whether there is nothing left to do: promoted, refused, or passed and dry."""
        return self.state in ("promoted", "refused", "dry")

    def with_step(self, name: str, **changes: Any) -> "RoundRecord":
        """A copy in which one step differs."""
        steps = [step.model_copy(update=changes) if step.name == name else step for step in self.steps]
        return self.model_copy(update={"steps": steps})


def new_record(number: int, recipe: str, method: str, created: float, dry_run: bool) -> RoundRecord:
    """A round of which nothing has been done."""
    steps = [RoundStep(name=name, state="waiting") for name in ROUND_STEPS]
    return RoundRecord(
        number=number, recipe=recipe, method=method, state="running", created=created, dry_run=dry_run, steps=steps
    )


def save_record(folder: Path, record: RoundRecord) -> None:
    """Replace the record; readers see the old one or this one."""
    write_json(folder / RECORD, record.model_dump(mode="json", exclude={"log"}))


def load_record(folder: Path) -> RoundRecord:
    """The record as it was written.

    Raises:
        CheckpointError: there is none, or it is damaged.
    """
    file = folder / RECORD
    try:
        return RoundRecord.model_validate(json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError, ValidationError) as error:
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(
            f"The record {file} of a round is damaged: {reason}. The versions it made are untouched; remove the folder "
            "and start a new round."
        ) from error


def summary_of(record: RoundRecord) -> RoundSummary:
    """The part of a record that lists show."""
    return RoundSummary.model_validate(record.model_dump(include=set(RoundSummary.model_fields)))


def detail_of(record: RoundRecord, folder: Path) -> RoundDetail:
    """A record with how far its step is and the last lines of its log."""
    running = next((step for step in record.steps if step.state == "running"), None)
    if running is not None and record.state == "running":
        label, share = _progress(folder, running.name)
        if share is not None:
            record = record.with_step(running.name, progress=share, detail=label)
    if record.state == "interrupted" and running is not None:
        record = record.with_step(running.name, state="failed", detail="interrupted; --resume goes on here")
    told = record.model_dump(include=set(RoundDetail.model_fields) - {"log"})
    return RoundDetail.model_validate({**told, "log": read_log(folder)})


def read_log(folder: Path) -> list[str]:
    """The last lines that the round's process said."""
    try:
        text = (folder / LOG).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    return text.split("\n")[:-1][-LOG_LINES:]


def _progress(folder: Path, step: str) -> tuple[str, float | None]:
    try:
        found = json.loads((folder / PROGRESS).read_text(encoding="utf-8"))
        if found["step"] != step:
            return "", None
        return str(found["what"]), min(1.0, found["done"] / max(1, found["total"]))
    except (OSError, ValueError, KeyError, TypeError):
        return "", None
