"""Which versions were promoted, in order: the one file of a registry that changes."""

import fcntl
import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from sawyer.errors import CheckpointError
from sawyer.runs import write_json
from sawyer.weights import flush

STATE = "state.json"

Trails = dict[str, list[int | None]]
"""Per stage the promoted numbers, the last one current; None where a stage had to be dropped."""


class Promotions:
    """The state file of one recipe's registry, replaced as a whole, never edited."""

    def __init__(self, folder: Path):
        self.folder = folder

    def load(self) -> Trails:
        """The trails as they are now; empty before the first promotion.

        Raises:
            CheckpointError: the file is damaged.
        """
        return {stage: list(trail) for stage, trail in self._state()["trails"].items()}

    def save(self, trails: Trails, action: str, references: list[str]) -> None:
        """Replace the trails and note what was done. Only inside `locked`."""
        current = {stage: trail[-1] for stage, trail in trails.items() if trail}
        entry = {"at": datetime.now(UTC).isoformat(), "action": action, "versions": references}
        history = [*self._state()["history"], entry | {"current": current}]
        write_json(self.folder / STATE, {"trails": trails, "history": history})
        flush(self.folder)

    def history(self) -> list[dict]:
        """Every promotion and rollback: at (ISO 8601), action, versions, and what was current after it."""
        return self._state()["history"]

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the registry's write lock; another process waits. OSErrors come out as CheckpointErrors."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with open(self.folder / ".lock", "w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)  # released when the file is closed, also by a kill
                yield
        except OSError as error:
            raise CheckpointError(
                f"The registry {self.folder} cannot be written: {error.strerror or error}."
                " Nothing was changed; free some space or mend the folder's permissions and try again."
            ) from error

    def _state(self) -> dict:
        file = self.folder / STATE
        try:
            state = json.loads(file.read_text(encoding="utf-8"))
            if not all(isinstance(trail, list) for trail in state["trails"].values()):
                raise ValueError("a trail is not a list")
            return {"trails": state["trails"], "history": state["history"]}
        except FileNotFoundError:
            return {"trails": {}, "history": []}
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise CheckpointError(
                f"{file} is damaged ({error}), so it is not known which versions are current. Restore it,"
                " or remove it and promote versions again; the versions themselves are untouched."
            ) from error
