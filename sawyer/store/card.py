"""The dataset card of an export: what the rows are, how they were made, what was left out. No names, no identifiers."""

from collections import Counter
from datetime import UTC, datetime

from sawyer.curation import Curation
from sawyer.curation.rows import person
from sawyer.types import FeedbackFilter

_COLUMNS = {
    "preference": "`prompt` (messages), `chosen` and `rejected` (one assistant message each); TRL's DPO, ORPO and"
    " Reward trainers read it",
    "kto": "`prompt` (messages), `completion` (one assistant message), `label` (true: liked), for TRL's KTO trainer",
    "sft": "`messages`, ending with a reply as a person rewrote it; TRL's SFT trainer reads it",
}


def card_of(
    name: str, form: str, rows: list[dict], wanted: FeedbackFilter, curation: Curation, now: datetime | None = None
) -> str:
    """A card in the hub's form (YAML head, Markdown body) for the file `name`."""
    made = (now or datetime.now(UTC)).strftime("%Y-%m-%d %H:%M UTC")
    people = Counter(map(person, rows))
    reader = "json" if name.endswith(".jsonl") else "parquet"
    chosen = wanted.model_dump(exclude_none=True, exclude={"voter"})
    lines = [
        "---",
        f"configs: [{{config_name: default, data_files: {name}}}]",
        "tags: [preference, human-feedback, trl]",
        "---",
        f"# {name}: feedback of people on a chatbot's answers",
        "",
        f"{len(rows)} {form} rows of {len(people)} people and {len({row['turn_id'] for row in rows})} questions, "
        f"written by SAWYER on {made}.",
        "",
        f"- Columns: {_COLUMNS[form]}.",
        f'- Read it with `datasets.load_dataset("{reader}", data_files="{name}", split="train")`.',
        *_counts(form, rows),
        f"- Chosen by filter: {', '.join(f'{key} = {value}' for key, value in chosen.items()) or 'everything'}"
        f"{', of one voter' if wanted.voter else ''}.",
        *_left_out(curation, max(people.values())),
        "",
        "Questions and edits are what people wrote, answers what models generated; neither was checked for truth. The "
        "people agreed that their votes are used for training. When one of them asks to be forgotten, "
        "`sawyer feedback forget` takes their rows out of this file where it was written; copies are yours to mend.",
        "",
    ]
    return "\n".join(lines)


def _counts(form: str, rows: list[dict]) -> list[str]:
    if form == "preference":
        pairs = Counter(f"{row['chosen_stage']} over {row['rejected_stage']}" for row in rows)
        return [f"- Preferred: {', '.join(f'{pair} {count}' for pair, count in pairs.most_common())}."]
    if form == "kto":
        liked = sum(row["label"] for row in rows)
        return [f"- Liked: {liked}; disliked: {len(rows) - liked}."]
    return []


def _left_out(curation: Curation, most: int) -> list[str]:
    lines = [
        "- Left out: votes taken back, replaced by a newer one, without consent, rejected or flagged by a reviewer."
    ]
    if curation.leave_out:
        lines.append(f"- Left out until a reviewer approves: votes found {', '.join(sorted(curation.leave_out))}.")
    if curation.deduplicate:
        lines.append("- Of one voter's near-duplicates only the newest is kept.")
    lines.append(
        f"- One voter gives at most {curation.cap:.0%} of the rows, but at least {curation.floor} where there are so "
        f"many; the most that one gives here is {most}."
    )
    if curation.split != "all":
        side = "without the held-out" if curation.split == "train" else "the held-out"
        lines.append(f"- Split: {side} {curation.share:.0%} of conversations, by hash of their first question.")
    return lines
