"""Put a recipe's current versions into the package: ``python -m train.ship RECIPE [--out sawyer/assets/nano]
[--keep base]``.

Writes ``base/ sft/ rlf/ reward/`` as plain transformers and PEFT load them, each with a manifest of hashes, and
``card.md`` from the runs' own records and the newest evaluation report. Nothing in the card is typed by hand but
the licences of the data. What is kept (``--keep``) stays as it was shipped before, with its lines of the card.
"""

import argparse
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sawyer.errors import SawyerError, UsageError
from sawyer.home import Home
from sawyer.recipe import DataSource, Recipe, load_recipe
from sawyer.registry import Registry
from sawyer.runs import seal
from train.base_data import source_key

LIMIT_MB = 80
KEEP = {"manifest.json", "README.md"}

# Licence of each data set by the last part of its name; the sources are described in docs/data.md.
SHIPPED = {"base": "base", "sft": "sft", "reward": "reward", "ppo": "rlf"}  # step -> the stage it makes
LICENCES = {
    "classic-books": "public domain in the United States",
    "openstax-text": "CC BY 4.0 (OpenStax, Rice University)",
    "openstax-glossary": "CC BY 4.0 (OpenStax, Rice University)",
    "modern-text": "CC BY (children's stories), public domain (plain-language guides); its other parts are not used",
    "self-dialogue": "BSD-3-Clause",
    "instruct-mix": "Apache-2.0, MIT, BSD-3-Clause",
    "medquad": "CC BY 4.0",
    "hh-helpful": "MIT (Anthropic HH-RLHF)",
    "prefs-mix": "Apache-2.0, MIT",
    "conversations": "Apache-2.0 (this project)",
    "everyday": "Apache-2.0 (this project)",
    "wordings": "Apache-2.0 (this project)",
    "facts": "Apache-2.0 (this project)",
    "pairs": "Apache-2.0 (this project)",
    "prompts": "Apache-2.0 (this project)",
}


def ship(recipe: Recipe, home: Home, out: Path, keep: Sequence[str] = ()) -> None:
    """Copy the current version of every stage but those of ``keep`` into ``out`` and write the model card.

    Raises:
        UsageError: a stage has no trained version, or everything together is larger than 80 MB.
    """
    registry = Registry.of(recipe, home)
    current = {stage: registry.current(stage) for stage in SHIPPED.values() if stage not in keep}
    missing = [stage for stage, version in current.items() if version is None or version.number == 0]
    if missing:
        raise UsageError(
            f"Nothing trained to ship for {', '.join(missing)}: run `sawyer pipeline {recipe.name}` first."
        )
    for stage, version in current.items():
        assert version is not None
        folder = out / stage
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(version.path, folder, ignore=shutil.ignore_patterns(*KEEP))
        _name_base(folder, out)
        marks = {key: version.info[key] for key in ("fingerprint", "backbone") if key in version.info}
        seal(folder, stage=stage, **marks)
    size = sum(file.stat().st_size for file in out.rglob("*") if file.is_file()) / 1e6
    if size > LIMIT_MB:
        raise UsageError(f"The shipped files are {size:.0f} MB, more than {LIMIT_MB}: make the model smaller.")
    before = (out / "card.md").read_text(encoding="utf-8").splitlines() if keep else []
    kept = [line for line in before if line.startswith(tuple(f"| {stage} | " for stage in keep))]
    (out / "card.md").write_text(card(recipe, home, size, kept), encoding="utf-8")


def card(recipe: Recipe, home: Home, size: float, kept: Sequence[str] = ()) -> str:
    """The model card in Markdown, from the runs' manifests, metrics and the newest report; ``kept`` are the table rows
    of stages that were shipped before.
    """
    runs = home.runs / recipe.name
    parts = [
        f"# {recipe.name}: the model that ships with SAWYER",
        recipe.description,
        f"All files together: {size:.1f} MB. Licence of the weights: Apache-2.0; the data's licences are below.",
        "Reproduce with `SAWYER_DATA=<folder of the data sets> sawyer pipeline recipes/"
        f"{recipe.name}.yaml` and `python -m train.ship {recipe.name}`.",
        "## Stages\n" + _stages(runs, kept),
        "## Curves\n" + _curves(runs, kept),
        "## Evaluation\n" + _evaluation(runs),
        "## Data\n" + _data(recipe),
        "## Limits\n" + LIMITS,
        "## Use\n" + USE.format(folder="sawyer/assets/" + recipe.name),
    ]
    return "\n\n".join(parts) + "\n"


LIMITS = (
    "A model of this size, trained for two hours on two CPU cores, shows how the stages differ; it is no source of "
    "facts. It invents names and numbers, loses the thread in long conversations, knows English only, and the "
    "texts it learnt from carry the views of their times. Its reward model is small too: a higher reward is not "
    "always a better answer. Do not use it to decide anything."
)

USE = """```python
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("{folder}/base")
model = AutoModelForCausalLM.from_pretrained("{folder}/base")
model = PeftModel.from_pretrained(model, "{folder}/rlf")
prompt = tokenizer.apply_chat_template(
    [{{"role": "user", "content": "Who are you?"}}], add_generation_prompt=True, return_tensors="pt", return_dict=True
)
print(tokenizer.decode(model.generate(**prompt, max_new_tokens=64, do_sample=False)[0]))
```

The weights are stored in bfloat16 and loaded as float32 (the config says so)."""


def _name_base(folder: Path, out: Path) -> None:
    """Adapters name their backbone by the folder they ship beside, not by a path of the machine they were made on."""
    config = folder / "adapter_config.json"
    if config.exists():
        value = json.loads(config.read_text(encoding="utf-8"))
        value["base_model_name_or_path"] = f"sawyer/assets/{out.name}/base"
        config.write_text(json.dumps(value, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _stages(runs: Path, kept: Sequence[str]) -> str:
    rows = ["| stage | made by | steps | seconds | notes |", "|---|---|---|---|---|"]
    for step, stage in SHIPPED.items():
        old = [row for row in kept if row.startswith(f"| {stage} | `sawyer train {step}` |")]
        if old:
            rows += old
            continue
        manifest = _json(runs / step / "manifest.json")
        known = ("step", "recipe", "sawyer", "seconds", "files", "steps")
        notes = "; ".join(f"{key} {_short(value)}" for key, value in manifest.items() if key not in known)
        rows.append(
            f"| {stage} | `sawyer train {step}` | {manifest.get('steps', '')} "
            f"| {manifest.get('seconds', '')} | {notes} |"
        )
    return "\n".join(rows)


def _curves(runs: Path, kept: Sequence[str]) -> str:
    rows = ["| step | metric | first | middle | last |", "|---|---|---|---|---|"]
    wanted = {
        "base": ("loss", "held_out_loss"),
        "sft": ("loss", "held_out_loss"),
        "reward": ("loss", "accuracy"),
        "ppo": ("score", "kl", "length", "entropy"),
    }
    for step, names in wanted.items():
        old = [row for row in kept if row.startswith(f"| {step} | ") and "`" not in row and row.count("|") == 6]
        if old:
            rows += [row for row in old if row.split(" | ")[1].split("/")[-1] in names]
            continue
        lines = _lines(runs / step / "metrics.jsonl")
        keys = sorted({key for line in lines for key in line if key.split("/")[-1] in names or key in names})
        for key in keys:
            values = [line[key] for line in lines if key in line]
            middle = values[len(values) // 2]
            rows.append(f"| {step} | {key} | {values[0]:.3f} | {middle:.3f} | {values[-1]:.3f} |")
    return "\n".join(rows)


def _evaluation(runs: Path) -> str:
    reports = sorted(runs.glob("evaluate*/report.json"), key=lambda path: path.stat().st_mtime)
    if not reports:
        raise UsageError("There is no evaluation report yet: run `sawyer evaluate` before shipping.")
    from sawyer.evaluation.markdown import markdown_tables
    from sawyer.evaluation.report import Report

    return markdown_tables(Report.model_validate(_json(reports[-1])))


def _data(recipe: Recipe) -> str:
    used: dict[str, list[str]] = {}
    groups: list[tuple[str, list[DataSource]]] = [
        ("base", recipe.base.sources if recipe.base else []),
        ("sft", recipe.sft.sources if recipe.sft else []),
        ("reward", [*recipe.reward.sources, *recipe.reward.text_sources] if recipe.reward else []),
        ("ppo", recipe.ppo.prompts if recipe.ppo else []),
    ]
    for step, sources in groups:
        for source in sources:
            steps = used.setdefault(source_key(source), [])
            if step not in steps:
                steps.append(step)
    rows = ["| data set | used by | licence |", "|---|---|---|"]
    rows += [f"| {key} | {', '.join(steps)} | {LICENCES.get(key, 'not recorded')} |" for key, steps in used.items()]
    return "\n".join(rows)


def _short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3f}"
    if isinstance(value, dict):
        return ", ".join(f"{key} {_short(inner)}" for key, inner in value.items())
    return str(value)


def _json(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"The record {path} cannot be read ({error}): finish the pipeline first.") from error


def _lines(path: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("recipe")
    parser.add_argument("--home")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--keep", nargs="*", default=[], choices=list(SHIPPED.values()), help="stages left as shipped")
    arguments = parser.parse_args()
    try:
        recipe = load_recipe(arguments.recipe)
        out = arguments.out or Path(__file__).resolve().parents[1] / "sawyer" / "assets" / recipe.name
        ship(recipe, Home.find(arguments.home), out, arguments.keep)
    except SawyerError as error:
        raise SystemExit(str(error)) from error
    print(f"Shipped to {out}.")


if __name__ == "__main__":
    main()
