"""The folder of a run: metrics as JSON lines and TensorBoard, samples, atomic checkpoints, a manifest written last.

A checkpoint is written beside its final name and renamed; its own manifest lists the hash of every file. A torn
or altered one is skipped and the one before it used. ``manifest.json`` in the run folder proves the step done.
"""

import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

from sawyer import __version__
from sawyer.errors import CheckpointError, UsageError
from sawyer.recipe import METHODS, PREFERENCE_METHODS, Recipe, load_recipe, save_resolved

MANIFEST = "manifest.json"
TORCH_WRITER = ("inline_container", "iostream error", "PytorchStreamWriter")
"""What torch 2.13's writer of archives says when a file cannot be written."""


def hash_file(path: Path) -> str:
    """SHA-256 of a file, in hex."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def write_json(path: Path, value: Any) -> None:
    """Write JSON so that readers see the old file or the new one, never half of it; flushed to the disk."""
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with beside.open("w", encoding="utf-8") as stream:
        json.dump(value, stream, indent=2, ensure_ascii=False)
        stream.write("\n")
        stream.flush()
        os.fsync(stream.fileno())
    beside.replace(path)


def seal(folder: Path, **info: Any) -> None:
    """Write the folder's manifest last: the hash of every file in it, and ``info``."""
    files = {str(f.relative_to(folder)): hash_file(f) for f in sorted(folder.rglob("*")) if f.is_file()}
    files.pop(MANIFEST, None)
    write_json(folder / MANIFEST, {**info, "files": files})


def check_sealed(folder: Path) -> dict[str, Any]:
    """Return the folder's manifest after comparing every file with it.

    Raises:
        CheckpointError: the manifest is missing or a file is missing or differs.
    """
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        for name, digest in manifest["files"].items():
            if hash_file(folder / name) != digest:
                raise CheckpointError(f"The file {folder / name} was altered or torn since it was written.")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"The folder {folder} is incomplete: {error}.") from error
    return manifest


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The records of a JSON-lines file up to the first torn one; none if there is no file."""
    rows: list[dict[str, Any]] = []
    # Not splitlines: replies may contain other line separators (U+2028), which JSON leaves as they are.
    for line in path.read_text(encoding="utf-8").split("\n") if path.exists() else []:
        try:
            rows.append(json.loads(line))
        except ValueError:
            break
    return rows


def _refusal(error: BaseException) -> str | None:
    """What the disk said when it refused a file, by being full for instance; None if the error is of another kind.

    Only some libraries pass the system's OSError on. safetensors and tokenizers raise exceptions of their own with
    its text; torch.save raises RuntimeErrors about its archive, the OSError sometimes being their context.
    """
    if isinstance(error, OSError):
        return error.strerror or str(error)
    text = " ".join(str(error).split())
    if type(error).__name__ == "SafetensorError" or "(os error " in text:
        return text
    if isinstance(error, RuntimeError) and any(sign in text for sign in TORCH_WRITER):
        said = error.__context__ and _refusal(error.__context__)
        return said or f"torch could not write a file to its end ({text}), which a full disk is the likely reason of"
    return None


class Run:
    """One step of training or evaluation in a folder of its own.

    Args:
        folder: where everything of the step is written.
        step: name of the step, such as ``sft``.
        recipe: the recipe; its resolved form is saved beside the results.
        resume: continue from the newest sound checkpoint; otherwise an earlier run in the folder is replaced.
    """

    def __init__(self, folder: Path, *, step: str, recipe: Recipe, resume: bool = False) -> None:
        self.folder, self.step, self.recipe, self.resume = folder, step, recipe, resume
        self.started = time.time()
        self._board: Any = None
        try:
            if not resume and folder.exists():
                shutil.rmtree(folder)
            folder.mkdir(parents=True, exist_ok=True)
            if resume:
                self._check_same_recipe()
            save_resolved(recipe, folder / "recipe.yaml")
        except OSError as error:
            raise UsageError(
                f"The run folder {folder} cannot be written: {error.strerror or error}. Free some space, mend its "
                "permissions, or name another home with SAWYER_HOME."
            ) from error

    def __enter__(self) -> "Run":
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None):
        if self._board is not None:
            self._board.close()

    def log(self, step: int, **metrics: float) -> None:
        """Append one line to ``metrics.jsonl`` and the same scalars to TensorBoard; lines past ``step`` are dropped
        on resume by ``truncate_log``."""
        row = {"step": step, "time": round(time.time(), 3)}
        row |= {key: float(value) for key, value in metrics.items()}
        with (self.folder / "metrics.jsonl").open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(row) + "\n")
        if self._board is None:
            # Imported here: TensorBoard takes a second and is not needed to read a run.
            from torch.utils.tensorboard import SummaryWriter

            self._board = SummaryWriter(str(self.folder / "tensorboard"), purge_step=step)
        for key, value in metrics.items():
            self._board.add_scalar(f"{self.step}/{key}", float(value), step)

    def metrics(self) -> list[dict[str, float]]:
        """All logged lines; a torn last line is left out."""
        return read_lines(self.folder / "metrics.jsonl")

    def truncate_log(self, step: int) -> None:
        """Drop metrics and samples after ``step``: they belong to work that is done again after a resume."""
        for name in ("metrics.jsonl", "samples.jsonl"):
            path = self.folder / name
            if path.exists():
                kept = [row for row in read_lines(path) if row["step"] <= step]
                beside = path.with_suffix(".tmp")
                beside.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in kept), encoding="utf-8")
                beside.replace(path)

    def save_samples(self, step: int, rows: list[dict[str, Any]]) -> None:
        """Append sample completions (prompt, reply, …) to ``samples.jsonl``."""
        with (self.folder / "samples.jsonl").open("a", encoding="utf-8") as stream:
            for row in rows:
                stream.write(json.dumps({"step": step, **row}, ensure_ascii=False) + "\n")

    def save_checkpoint(self, step: int, write: Callable[[Path], None], *, keep: int = 2) -> Path:
        """Write a checkpoint atomically and drop all but the newest ``keep``.

        ``write`` fills a folder beside the final one. A full disk leaves the earlier checkpoints intact.

        Raises:
            CheckpointError: the checkpoint could not be written.
        """
        final = self.folder / "checkpoints" / f"step-{step:07d}"
        beside = final.with_name(f".{final.name}.tmp")
        try:
            shutil.rmtree(beside, ignore_errors=True)
            beside.mkdir(parents=True)
            write(beside)
            seal(beside, step=step)
            shutil.rmtree(final, ignore_errors=True)
            beside.rename(final)
        except Exception as error:
            shutil.rmtree(beside, ignore_errors=True)
            reason = _refusal(error)
            if reason is None:
                raise
            raise CheckpointError(
                f"The checkpoint {final} could not be written: {reason}. The one before it is intact: free some space "
                "and go on with --resume."
            ) from error
        for old in self._checkpoints()[keep:]:
            shutil.rmtree(old, ignore_errors=True)
        return final

    def latest_checkpoint(self) -> tuple[int, Path] | None:
        """Return (step, folder) of the newest sound checkpoint, or None; only with ``resume``."""
        for folder in self._checkpoints() if self.resume else []:
            try:
                return int(check_sealed(folder)["step"]), folder
            except CheckpointError:
                continue
        return None

    @property
    def finished(self) -> dict[str, Any] | None:
        """The run's manifest if the step is done and its outputs are whole, else None."""
        try:
            manifest = json.loads((self.folder / MANIFEST).read_text(encoding="utf-8"))
            for name, digest in manifest["files"].items():
                if hash_file(self.folder / name) != digest:
                    return None
        except (OSError, ValueError, KeyError):
            return None
        return manifest

    def finish(self, *outputs: Path, **info: Any) -> None:
        """Write ``manifest.json``: hashes of the output folders' files, versions, seconds. The last act of a step."""
        files = {
            str(file.relative_to(self.folder)): hash_file(file)
            for output in outputs
            for file in (sorted(output.rglob("*")) if output.is_dir() else [output])
            if file.is_file()
        }
        seconds = round(time.time() - self.started, 1)
        body = {"step": self.step, "recipe": self.recipe.name, "sawyer": __version__, "seconds": seconds}
        write_json(self.folder / MANIFEST, {**body, **info, "files": files})

    @contextmanager
    def output(self, name: str) -> Iterator[Path]:
        """Give a folder beside ``name`` to fill and rename it into place when the block ends without error.

        Raises:
            CheckpointError: it could not be written; the checkpoints are intact.
        """
        final, beside = self.folder / name, self.folder / f".{name}.tmp"
        try:
            shutil.rmtree(beside, ignore_errors=True)
            beside.mkdir(parents=True)
            yield beside
            shutil.rmtree(final, ignore_errors=True)
            beside.rename(final)
        except Exception as error:
            reason = _refusal(error)
            if reason is None:
                raise
            shutil.rmtree(beside, ignore_errors=True)
            raise CheckpointError(
                f"The folder {final} could not be written: {reason}. The checkpoints are intact: free some space and "
                "go on with --resume."
            ) from error

    def _checkpoints(self) -> list[Path]:
        return sorted((self.folder / "checkpoints").glob("step-*"), reverse=True)

    def _check_same_recipe(self) -> None:
        """A resumed run must use the settings it began with, or it would end as neither."""
        path = self.folder / "recipe.yaml"
        if not path.exists():
            return
        # Read through the model, so that a key added by a newer version counts with its default.
        before = load_recipe(path).model_dump(mode="json")
        now = self.recipe.model_dump(mode="json")
        step = self.step.split(".")[0]
        also = {
            "base": ("t5",),
            "judge": ("reward",),
            "spin": ("sft",),
            **dict.fromkeys(METHODS, ("ppo",)),
            **dict.fromkeys([method for method in PREFERENCE_METHODS if method != "spin"], ("reward",)),
        }
        shared = also.get(step, ())
        relevant = ("seed", "model", "lora", step, *shared)
        changed = [key for key in relevant if before.get(key) != now.get(key)]
        if changed and self._checkpoints():
            raise UsageError(
                f"The run in {self.folder} began with other settings: {', '.join(changed)} changed since. Resume with "
                f"the recipe it began with ({path}), or start anew without --resume."
            )
