"""The card of a pushed version: what it is, on what it was trained, how it did, how to load it."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from pydantic import BaseModel, ValidationError

from sawyer import __version__
from sawyer.recipe.source import DataSource

if TYPE_CHECKING:
    from sawyer.publishing import Publication

ABOUT = {
    "base": "a language model trained from scratch: it continues text",
    "sft": "a LoRA adapter, fine-tuned on conversations: it answers",
    "rlf": "a LoRA adapter, tuned on from SFT against a reward: it answers the way people prefer",
    "reward": "a reward model: a sequence classifier of the pair (prompt, reply), trained on preferences",
    "classifiers": "text classifiers, of which a reward is made; each in a folder of its own",
}
# What of the recipe each stage was made by.
SECTIONS = {"base": ("base", "t5"), "sft": ("sft",), "rlf": ("ppo", "reward"), "reward": ("reward",)}
_PEFT = """from peft import AutoPeftModelForCausalLM
from transformers import AutoTokenizer

model = AutoPeftModelForCausalLM.from_pretrained("{repo}")
tokenizer = AutoTokenizer.from_pretrained("{tokenizer}")"""
_PLAIN = """from transformers import {kind}, AutoTokenizer

model = {kind}.from_pretrained("{repo}")
tokenizer = AutoTokenizer.from_pretrained("{repo}")"""


def card(publication: "Publication", report: dict[str, Any] | None) -> str:
    """README.md of the repository: YAML for the hub, then Markdown.

    Args:
        report: the figures of an evaluation that asked this version.
    """
    recipe, version = publication.recipe, publication.version
    parts = [
        f"# {recipe.name}: {version.ref}",
        f"{recipe.description}\n\nThis is {ABOUT[version.stage]}. Made by SAWYER {__version__} on "
        f"{version.created:%Y-%m-%d}.",
        "## Use\n\n```python\n" + _use(publication) + "\n```\n\nsafetensors only; no code comes with it.",
        "## Training\n\n" + _training(publication),
        "## Evaluation\n\n" + _evaluation(report),
        "## Limits\n\nA higher reward is not always a better answer, and what it says may be wrong. Its licence is "
        "subject to those of its backbone and of its data, which are not recorded here: fill in `license` above before "
        "others use it.",
    ]
    return f"---\n{yaml.safe_dump(_metadata(publication), sort_keys=False)}---\n\n" + "\n\n".join(parts) + "\n"


def _metadata(publication: "Publication") -> dict[str, Any]:
    """The hub's own fields: https://huggingface.co/docs/hub/model-cards#model-card-metadata"""
    stage = publication.version.stage
    told: dict[str, Any] = {
        "library_name": "peft" if publication.backbone else "transformers",
        "tags": ["sawyer", stage, *(["lora", "rlhf"] if publication.backbone else [])],
    }
    if publication.backbone:
        told |= {"base_model": publication.backbone, "base_model_relation": "adapter"}
    if stage in ("base", "sft", "rlf"):
        told["pipeline_tag"] = "text2text-generation" if publication.recipe.t5 else "text-generation"
    elif stage == "reward":
        told["pipeline_tag"] = "text-classification"
    used = sorted(name for name in _datasets(publication) if "/" in name and not _is_local(name))
    return told | ({"datasets": used} if used else {})


def _use(publication: "Publication") -> str:
    stage, repo = publication.version.stage, publication.repo
    if publication.backbone:
        tokenizer = publication.recipe.model.tokenizer or publication.backbone
        if publication.recipe.t5:
            return _PEFT.replace("ForCausalLM", "ForSeq2SeqLM").format(repo=repo, tokenizer=tokenizer)
        return _PEFT.format(repo=repo, tokenizer=tokenizer)
    if stage == "base":
        return _PLAIN.format(
            kind="AutoModelForSeq2SeqLM" if publication.recipe.t5 else "AutoModelForCausalLM", repo=repo
        )
    return _PLAIN.format(kind="AutoModelForSequenceClassification", repo=repo)


def _training(publication: "Publication") -> str:
    recipe, stage = publication.recipe, publication.version.stage
    rows = ["| setting | value |", "|---|---|"]
    if publication.backbone:
        rows += [f"| backbone | {publication.backbone} |", f"| LoRA | r {recipe.lora.r}, alpha {recipe.lora.alpha} |"]
    for name in SECTIONS.get(stage, ()):
        section = getattr(recipe, name)
        if section is not None:
            plain = section.model_dump(mode="json", include={"lr", "epochs", "steps", "batch_size", "max_length"})
            rows += [f"| {name}.{key} | {value} |" for key, value in plain.items()]
    data = ", ".join(sorted(_shown(name) for name in _datasets(publication))) or "none"
    return "\n".join([*rows, f"| data | {data} |"])


def _datasets(publication: "Publication") -> set[str]:
    """Names of the sources that the stage was trained on."""
    sections = SECTIONS.get(publication.version.stage, ())
    found = [getattr(publication.recipe, name) for name in sections]
    return {source.name for section in found if section is not None for source in _sources(section)}


def _sources(section: BaseModel) -> Iterator[DataSource]:
    for value in section.__dict__.values():
        for one in value if isinstance(value, list) else [value]:
            if isinstance(one, DataSource):
                yield one


def _is_local(name: str) -> bool:
    return name.startswith((".", "/", "~", "starter/")) or Path(name).exists() or name.count("/") > 1


def _shown(name: str) -> str:
    """A data set's name; of a local file, that of the file alone: folders are nobody's business."""
    return f"{Path(name).name} (a local file)" if _is_local(name) else name


def _evaluation(report: dict[str, Any] | None) -> str:
    if report is None:
        return "Not evaluated: `sawyer evaluate` had not asked this version when it was pushed."
    from sawyer.evaluation.markdown import markdown_tables
    from sawyer.evaluation.report import Report

    try:
        return markdown_tables(Report.model_validate(report)) + "\n\nAll figures: report.json; to read: report.html."
    except ValidationError:  # of another version of SAWYER
        return "See report.html and report.json."
