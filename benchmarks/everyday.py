"""A hundred everyday prompts that nothing was trained on, and held-out wordings of the fact sheet: what is right?

    python benchmarks/everyday.py ask nano --out sheet  # every stage's replies; a sheet to label without knowing stages
    python benchmarks/everyday.py label sheet           # sheet/labels.txt onto the replies: everyday_labels.jsonl
    python benchmarks/everyday.py count                 # the table of the labels; --json for one JSON object
    python benchmarks/everyday.py facts nano            # facts right; --json, or --wrong to read the others

The prompts are ``tests/data/everyday.jsonl``, the rubric ``everyday_rubric.md`` beside it. A label is a reader's
judgement by that rubric; ``labels.txt`` has a line ``e001 A ok`` for each reply of ``sheet.txt``. Replies are drawn as
the recipe serves them. A fact is right when the reply is, but for case and punctuation, the sentence that other
wordings of the question taught: a right answer in other words counts as wrong.
"""

import argparse
import json
import random
import re
import sys
from collections import Counter
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from sawyer.data import Message, is_held_out, read_records
from sawyer.estimates import wilson
from sawyer.home import Home
from sawyer.lines import objects
from sawyer.recipe import DataSource, Recipe, load_recipe
from sawyer.simulated import STAGES, answers_of, load_current

DATA = Path(__file__).resolve().parents[1] / "tests" / "data"
LABELS = ("ok", "off-topic", "wrong", "garbled", "repetitive", "empty", "cut", "self-contradicting")
SEED = 11


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=("ask", "label", "count", "facts"))
    parser.add_argument("what", nargs="?", default="nano", help="the recipe, or the sheet's folder for label")
    parser.add_argument("--home", type=Path, default=Path(".sawyer"))
    parser.add_argument("--out", type=Path, default=Path("everyday-sheet"))
    parser.add_argument("--labels", type=Path, default=DATA / "everyday_labels.jsonl")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--wrong", action="store_true", help="print the facts whose answer was another one")
    given = parser.parse_args()
    if given.command == "ask":
        ask(load_recipe(given.what), Home(given.home).ensure(), given.out)
    elif given.command == "label":
        label(Path(given.what), given.labels)
    else:
        found = (
            count(given.labels)
            if given.command == "count"
            else facts(load_recipe(given.what), Home(given.home).ensure(), given.wrong)
        )
        print(json.dumps(found) if given.json else table(found))


def ask(recipe: Recipe, home: Home, out: Path) -> None:
    """Write every stage's reply (``replies.jsonl``) and a sheet that shows them in random order, without stages."""
    exam = list(objects(DATA / "everyday.jsonl"))
    replies = replies_of(recipe, home, [row["prompt"] for row in exam])
    out.mkdir(parents=True, exist_ok=True)
    rows, sheet = [], []
    for place, row in enumerate(exam):
        stages = list(replies)
        random.Random(row["id"]).shuffle(stages)
        turns = [f"   {message['role']}: {message['content']}" for message in row["prompt"][:-1]]
        sheet += [f"{row['id']} {row['prompt'][-1]['content']}", *turns]
        for letter, stage in zip("ABC", stages, strict=False):
            text = replies[stage][place]
            rows.append({"id": row["id"], "letter": letter, "stage": stage, "prompt": row["prompt"], "reply": text})
            sheet.append(f"   {letter}: {' '.join(text.split())}")
        sheet.append("")
    (out / "replies.jsonl").write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf-8")
    (out / "sheet.txt").write_text("\n".join(sheet), "utf-8")
    print(f"{len(rows)} replies in {out}; label them in {out}/labels.txt by {DATA}/everyday_rubric.md")


def label(sheet: Path, target: Path) -> None:
    """Put the labels onto the replies; refuses a sheet with missing or unknown labels."""
    given = {}
    for number, line in enumerate((sheet / "labels.txt").read_text("utf-8").splitlines(), 1):
        if line.strip():
            parts = line.split()
            if len(parts) != 3 or parts[2] not in LABELS:
                raise SystemExit(f"labels.txt, line {number}: {line!r}; wanted: e001 A and one of {', '.join(LABELS)}.")
            given[parts[0], parts[1]] = parts[2]
    rows = list(objects(sheet / "replies.jsonl"))
    missing = [f"{row['id']} {row['letter']}" for row in rows if (row["id"], row["letter"]) not in given]
    if missing:
        raise SystemExit(f"{len(missing)} replies have no label: {', '.join(missing[:8])} …")
    labelled = [
        {"id": row["id"], "stage": row["stage"], "reply": row["reply"], "label": given[row["id"], row["letter"]]}
        for row in rows
    ]
    target.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in labelled), "utf-8")
    print(f"{len(labelled)} labelled replies in {target}")


def count(labels: Path) -> dict[str, Any]:
    """Share of replies labelled ok, with a 90 % Wilson interval, and how the others failed, by stage."""
    rows = list(objects(labels))
    found: dict[str, Any] = {}
    for stage in STAGES:
        mine = Counter(row["label"] for row in rows if row["stage"] == stage)
        if mine:
            found[stage] = shares(mine["ok"], mine.total()) | {"failures": {k: mine[k] for k in LABELS[1:] if mine[k]}}
    return found


def facts(recipe: Recipe, home: Home, show: bool) -> dict[str, Any]:
    """Share of the fact sheet's held-out wordings that each stage answers with the sentence the fact has."""
    assert recipe.sft is not None
    records = read_records(DataSource(name="starter/facts"))
    answers: dict[str, set[str]] = {}
    for record in records:
        answers.setdefault(record["fact"], set()).add(plain(record["messages"][-1]["content"]))
    held = [record for record in records if is_held_out(record["messages"], recipe.sft.held_out)]
    replies = replies_of(recipe, home, [record["messages"][:1] for record in held])
    found = {}
    for stage, texts in replies.items():
        right = [plain(text) in answers[row["fact"]] for row, text in zip(held, texts, strict=True)]
        found[stage] = shares(sum(right), len(right))
        for row, text, good in zip(held, texts, right, strict=True):
            if show and not good and stage != "base":
                print(f"{stage} {row['fact']}: {row['messages'][0]['content']} => {' '.join(text.split())}")
    return found


def replies_of(recipe: Recipe, home: Home, prompts: list[list[Message]]) -> dict[str, list[str]]:
    """One reply of every current stage to every prompt, sampled as the recipe serves."""
    policy = load_current(recipe, home)
    stages = [stage for stage in STAGES if stage in policy.stages]
    return {stage: answers_of(policy, recipe, stage, prompts, SEED, as_served=True) for stage in stages}


def plain(text: str) -> str:
    """A text's words and numbers in lower case."""
    return " ".join(re.findall(r"[a-z0-9]+", text.lower()))


def shares(right: int, total: int) -> dict[str, Any]:
    """A count as a share with its 90 % interval."""
    share = wilson(right, total)
    return {"right": right, "of": total, "share": share.value, "low": share.low, "high": share.high}


def table(found: dict[str, Any]) -> str:
    """Stages as a Markdown table."""
    lines = ["| stage | right | of | share [90 %] | the others |", "|---|---|---|---|---|"]
    for stage, row in found.items():
        others = ", ".join(f"{name} {number}" for name, number in row.get("failures", {}).items()) or "–"
        share = f"{row['share']:.0%} [{row['low']:.0%}, {row['high']:.0%}]"
        lines.append(f"| {stage} | {row['right']} | {row['of']} | {share} | {others} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
