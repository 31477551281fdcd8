"""A version of a stage as a model repository: the weights, a card, the report; nothing of this machine's folders."""

import json
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sawyer.errors import CheckpointError, SawyerError, UsageError
from sawyer.home import Home
from sawyer.hub import causes, cure, error_kinds
from sawyer.recipe import Recipe
from sawyer.runs import write_json
from sawyer.stage_version import ADAPTERS, Version
from sawyer.weights import check_weights

# Everything that transformers and PEFT read of a model, a tokenizer or an adapter. What a trainer left beside these
# (optimiser states, logs, manifests with paths) stays here.
PUBLISHED = re.compile(
    r"(adapter_model|model)(-\d{5}-of-\d{5})?\.safetensors|model\.safetensors\.index\.json|(adapter_|generation_)?config"
    r"\.json|tokenizer(_config)?\.json|tokenizer\.model|special_tokens_map\.json|added_tokens\.json|vocab\.(json|txt)"
    r"|merges\.txt|spiece\.model|chat_template\.jinja|(reward|classifier)_report\.json"
)
REPORTS = ("report.json", "report.html")
_REPO = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


@dataclass(frozen=True)
class Publication:
    """What is published, and where.

    Attributes:
        repo: ``owner/name`` on the hub.
        backbone: hub id that the adapter's users load; None for versions that are no adapters.
    """

    recipe: Recipe
    version: Version
    repo: str
    backbone: str | None


def plan(recipe: Recipe, version: Version, repo: str, backbone: str | None = None) -> Publication:
    """Check what is asked before anything is written.

    Args:
        backbone: hub id of an adapter's backbone, where the recipe trains its own.

    Raises:
        UsageError: the repository's name is none, or nobody could load the adapter.
    """
    if not _REPO.fullmatch(repo) or len(repo) > 96 or "--" in repo or ".." in repo:
        raise UsageError(f"{repo!r} names no repository: write OWNER/NAME, in letters, digits, '-', '_' and '.'.")
    if version.stage not in ADAPTERS:
        if backbone:
            raise UsageError(f"--backbone is for adapters (sft, rlf); {version.ref} is none: leave it out.")
        return Publication(recipe, version, repo, None)
    named = backbone or recipe.model.backbone
    if named is None or not _REPO.fullmatch(named) or Path(named).is_dir():
        raise UsageError(
            f"{version.ref} is an adapter on {'a base trained here' if named is None else f'the folder {named}'}, "
            f"which nobody else has. Push that base first (`sawyer models push {recipe.name} base OWNER/NAME`), then "
            "name it here with --backbone OWNER/NAME."
        )
    return Publication(recipe, version, repo, named)


def write_repo(publication: Publication, home: Home) -> Path:
    """Make the folder that will be pushed, anew, and return it: ``push/RECIPE/STAGE-NUMBER`` in the home.

    Raises:
        CheckpointError: the version holds a pickle, a torn file or no weights. SawyerError: the disk refuses.
    """
    version = publication.version
    check_weights(version.path)
    folder = home.root / "push" / publication.recipe.name / version.ref.replace("@", "-")
    try:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        for file in sorted(version.path.rglob("*")):
            if file.is_file() and PUBLISHED.fullmatch(file.name):
                place = folder / file.relative_to(version.path)
                place.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(file, place)
        if publication.backbone:
            _name_backbone(folder / "adapter_config.json", publication)
        report = _copy_report(publication, home, folder)
        from sawyer.model_card import card

        (folder / "README.md").write_text(card(publication, report), encoding="utf-8")
    except OSError as error:
        raise SawyerError(
            f"The folder {folder} cannot be written: {error.strerror or error}. Nothing was pushed."
        ) from error
    return folder


def _name_backbone(file: Path, publication: Publication) -> None:
    """PEFT loads the backbone that the adapter's config names: by hub id, not by a path of this machine."""
    try:
        value = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{publication.version.ref} has no readable adapter_config.json ({error}).") from error
    own = publication.backbone == publication.recipe.model.backbone
    revision = publication.recipe.model.revision if own else None
    write_json(file, value | {"base_model_name_or_path": publication.backbone, "revision": revision})


def _copy_report(publication: Publication, home: Home, folder: Path) -> dict[str, Any] | None:
    """Copy the newest evaluation that asked this very version, and return its figures; None where there is none."""
    runs = home.runs / publication.recipe.name
    for found in sorted(runs.glob("evaluate*/report.json"), key=lambda path: -path.stat().st_mtime):
        try:
            figures = json.loads(found.read_text(encoding="utf-8"))
            asked = {stage["version"] for stage in figures["stages"]}
        except (OSError, ValueError, KeyError, TypeError):
            continue
        if publication.version.ref in asked:
            for file in [found.parent / name for name in REPORTS] + sorted(found.parent.glob("*.png")):
                if file.is_file():
                    shutil.copyfile(file, folder / file.name)
            return figures
    return None


def push(publication: Publication, folder: Path, *, private: bool) -> str:
    """Create the repository if there is none, upload the folder as one commit, and return that commit's address.

    Files that were there before and belong to an earlier push are removed; no branch or tag is touched but main.

    Raises:
        UsageError: HF_HUB_OFFLINE is set.
        SawyerError: the hub refuses or cannot be reached; nothing was changed there, or a repository is empty.
    """
    from huggingface_hub import HfApi, constants
    from huggingface_hub.utils import disable_progress_bars

    if constants.HF_HUB_OFFLINE:
        raise UsageError(f"HF_HUB_OFFLINE is set: unset it to push. What would be pushed is in {folder}.")
    disable_progress_bars()
    api = HfApi(library_name="sawyer")
    faults: tuple[type[BaseException], ...] = (OSError, ValueError, RuntimeError, *error_kinds())
    try:
        api.create_repo(publication.repo, private=private, exist_ok=True)
        done = api.upload_folder(
            repo_id=publication.repo,
            folder_path=folder,
            commit_message=f"{publication.recipe.name}: {publication.version.ref}",
            delete_patterns=["*.safetensors", "*.json", "*.html", "*.png"],
        )
    except faults as error:
        told = cure(publication.repo, error, key="the command") or " ".join(str(next(causes(error))).split())[:240]
        raise SawyerError(f"{folder} could not be pushed to {publication.repo}. {told}") from error
    return str(done.commit_url)
