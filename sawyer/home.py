"""Where state lives: SAWYER_HOME (default ``.sawyer/`` in the working directory) and SAWYER_DB."""

import os
from dataclasses import dataclass
from pathlib import Path

from sawyer.errors import UsageError


@dataclass(frozen=True)
class Home:
    """The folder that holds ``sawyer.db``, ``registry/``, ``runs/`` and ``rounds/``."""

    root: Path

    @classmethod
    def find(cls, path: str | Path | None = None) -> "Home":
        """Return the home at ``path``, else ``$SAWYER_HOME``, else ``./.sawyer``. Nothing is created yet."""
        given = path or os.environ.get("SAWYER_HOME") or ".sawyer"
        return cls(Path(given).expanduser().absolute())

    @property
    def db_url(self) -> str:
        """SQLAlchemy URL of the feedback store: ``$SAWYER_DB`` or an SQLite file in the home."""
        return os.environ.get("SAWYER_DB") or f"sqlite:///{self.root / 'sawyer.db'}"

    @property
    def registry(self) -> Path:
        """Folder of the adapter versions."""
        return self.root / "registry"

    @property
    def runs(self) -> Path:
        """Folder of the training and evaluation runs."""
        return self.root / "runs"

    @property
    def rounds(self) -> Path:
        """Folder of the feedback rounds."""
        return self.root / "rounds"

    @property
    def data(self) -> Path:
        """Folder of imported data sets, each a folder that recipes name as a source."""
        return self.root / "data"

    def ensure(self) -> "Home":
        """Create the folders and prove that they can be written.

        Raises:
            UsageError: the folder cannot be created or written (read-only, full, a file in its place).
        """
        probe = self.root / f".write-test-{os.getpid()}"
        try:
            for folder in (self.root, self.registry, self.runs, self.rounds):
                folder.mkdir(parents=True, exist_ok=True)
            probe.write_bytes(b"sawyer" * 1024)
            probe.unlink()
        except OSError as error:
            raise UsageError(
                f"The home folder {self.root} cannot be written: {error.strerror or error}. "
                "Nothing was changed. Free some space, mend its permissions, or name another folder with "
                "--home DIR or the environment variable SAWYER_HOME."
            ) from error
        return self
