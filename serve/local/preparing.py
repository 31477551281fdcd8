"""From a job to a row that can be decoded: the prompt rendered, tokenized and found to fit."""

import logging
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sawyer.errors import SawyerError
from serve.engine import Job, Prepared
from serve.errors import ApiError, ContextExceeded, unknown_stage, without_paths
from serve.local.catalog import Catalog, Loaded

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class LocalPrepared(Prepared):
    """With what it was prepared for, and the folder of a version that is to be loaded first."""

    loaded: Loaded | None = None
    folder: Path | None = None


class Preparing:
    """Makes rows of jobs, from any thread.

    Args:
        catalog: knows where versions lie that are not loaded; None: there are no others.
    """

    def __init__(self, catalog: Catalog | None) -> None:
        self._catalog = catalog
        # Tokenizing and naming prompts switches settings of the shared tokenizer: one request at a time.
        self._lock = threading.Lock()

    def prepare(self, loaded: Loaded, refs: Sequence[str], job: Job) -> LocalPrepared:
        """``job`` for the policy of ``loaded``; ``refs`` are the versions that may be asked by name.

        Raises:
            ContextExceeded: the prompt leaves no room for a reply.
            ApiError: 404 for an unknown stage or version, 503 for one that is damaged, 400 for an empty prompt.
        """
        if job.stage not in loaded.versions or (job.version and job.version not in refs):
            raise unknown_stage(job.version or job.stage, [*loaded.versions, *refs])
        policy, param = loaded.policy, "messages" if job.prompt is None else "prompt"
        with self._lock:
            if job.prompt is None:
                ids = policy.chat.encode_prompt(list(job.messages), job.stage)
            else:
                ids = policy.chat.encode_raw(job.prompt)
            prompt = policy.tokenizer.decode(ids, skip_special_tokens=False)
        room = policy.context - len(ids)
        if room < 1:
            raise ContextExceeded(len(ids), policy.context, job.stage, param=param)
        if not ids:
            text = f"The prompt has no tokens. Give {param} with at least one word."
            raise ApiError(400, text, code="empty_prompt", param=param)
        fitting = job.sampling.model_copy(update={"max_tokens": min(job.sampling.max_tokens, room)})
        version = job.version or loaded.versions[job.stage]
        return LocalPrepared(job, prompt, ids, fitting, version, loaded, self._folder(loaded, job))

    def _folder(self, loaded: Loaded, job: Job) -> Path | None:
        """Where the version lies that has to be loaded for the job, if one has."""
        if not job.version or self._catalog is None or job.stage == "base" or job.version in loaded.policy.stages:
            return None
        try:
            return self._catalog.folder(job.version)
        except SawyerError as error:
            raise unservable(job.version, error) from error


def unservable(version: str, error: SawyerError) -> ApiError:
    """A version that is listed and cannot be loaded, as who asked for it sees it."""
    logger.error("%s cannot be served: %s", version, error)
    text = f"{version} cannot be served: {without_paths(str(error))}"
    return ApiError(503, text, code="version_unavailable", param="model")
