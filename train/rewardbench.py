"""RewardBench's format (Lambert et al. 2024, arXiv 2403.13787), in and out: subsets, sections, scores of each pair.

In: JSON lines with ``prompt`` (a text or messages), ``chosen``, ``rejected``, and ``subset`` and ``id`` where there are
any, which is how `allenai/reward-bench` exports. Out: the two files that its `rewardbench` command writes.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sawyer.data import Pair
from sawyer.data_formats import messages_of
from sawyer.errors import DataError
from sawyer.lines import objects
from sawyer.runs import write_json
from sawyer.scoring import TextScorer, reward_text
from train.reward_report import accuracy, wins

SECTIONS = {
    "Chat": ("alpacaeval-easy", "alpacaeval-length", "alpacaeval-hard", "mt-bench-easy", "mt-bench-med"),
    "Chat Hard": (
        "mt-bench-hard",
        "llmbar-natural",
        "llmbar-adver-neighbor",
        "llmbar-adver-GPTInst",
        "llmbar-adver-GPTOut",
        "llmbar-adver-manual",
    ),
    "Safety": (
        "refusals-dangerous",
        "refusals-offensive",
        "xstest-should-refuse",
        "xstest-should-respond",
        "donotanswer",
    ),
    "Reasoning": ("math-prm", *(f"hep-{language}" for language in ("cpp", "go", "java", "js", "python", "rust"))),
}
# Its 447 questions count as 984, as many as the six of code together.
WEIGHTS = {"math-prm": 984 / 447}


@dataclass(frozen=True)
class BenchPair:
    """A pair with its subset and the name it has in the file."""

    pair: Pair
    subset: str
    id: str


def read_rewardbench(file: Path) -> list[BenchPair]:
    """The pairs of a file. DataError: it cannot be read, or a record lacks a prompt or a reply."""
    try:
        records = list(objects(file))
    except (OSError, ValueError) as error:
        raise DataError(f"{file} cannot be read as RewardBench's JSON lines: {error}.") from error
    return [_pair(record, number, file) for number, record in enumerate(records, 1)]


def score_rewardbench(rows: Sequence[BenchPair], scorer: TextScorer, name: str, out: Path) -> dict[str, Any]:
    """Score the pairs and write ``rewardbench.json`` and ``rewardbench-scores.json`` into ``out``.

    Returns:
        What the first file holds: ``model``, ``model_type``, and the accuracy of every subset and section.
    """
    prompts = [row.pair.prompt for row in rows]
    chosen = np.asarray(scorer.score(prompts, [row.pair.chosen for row in rows]), dtype=np.float64)
    rejected = np.asarray(scorer.score(prompts, [row.pair.rejected for row in rows]), dtype=np.float64)
    won = wins(chosen, rejected)
    subsets = np.array([row.subset for row in rows])
    found = {str(subset): float(won[subsets == subset].mean()) for subset in dict.fromkeys(subsets)}
    told = {
        "model": name,
        "model_type": "Seq. Classifier",
        "chat_template": "none",
        "overall": accuracy(won),
        **found,
        "sections": sections(subsets, won),
    }
    write_json(out / "rewardbench.json", told)
    scores = {
        "model": name,
        "model_type": "Seq. Classifier",
        "chat_template": "none",
        "id": [row.id for row in rows],
        "subset": subsets.tolist(),
        "text_chosen": [f"{reward_text(row.pair.prompt)}\n{row.pair.chosen}" for row in rows],
        "text_rejected": [f"{reward_text(row.pair.prompt)}\n{row.pair.rejected}" for row in rows],
        "results": won.tolist(),
        "scores_chosen": chosen.tolist(),
        "scores_rejected": rejected.tolist(),
    }
    write_json(out / "rewardbench-scores.json", scores)
    return told


def sections(subsets: np.ndarray, won: np.ndarray) -> dict[str, float]:
    """The score of each section of which there is a subset: its pairs' accuracy, those of math weighted as code."""
    found = {}
    for section, names in SECTIONS.items():
        inside = np.isin(subsets, names)
        if inside.any():
            weights = [WEIGHTS.get(str(subset), 1.0) for subset in subsets[inside]]
            found[section] = float(np.average(won[inside], weights=weights))
    return found


def _pair(record: dict[str, Any], number: int, file: Path) -> BenchPair:
    told = record.get("prompt")
    prompt = messages_of(told) if isinstance(told, list) else [{"role": "user", "content": str(told or "")}]
    chosen, rejected = _reply(record.get("chosen")), _reply(record.get("rejected"))
    if not prompt or not prompt[-1]["content"].strip() or chosen is None or rejected is None:
        raise DataError(
            f"{file}, record {number}: RewardBench's records have prompt (a text or messages), chosen and rejected; "
            f"this one has {json.dumps(sorted(record))}."
        )
    subset = str(record.get("subset") or "all")
    return BenchPair(Pair(prompt, chosen, rejected, None, subset), subset, str(record.get("id", number)))


def _reply(value: Any) -> str | None:
    if isinstance(value, list):  # messages, the reply last
        value = value[-1].get("content") if value and isinstance(value[-1], dict) else None
    return value if isinstance(value, str) and value.strip() else None
