"""Data sources: hub datasets and local files, read into four kinds of record, split by conversation hash.

A source's ``name`` is looked up as a path, under ``SAWYER_DATA``, among the project's own starter files and at
last on the hub. Records of well-known layouts (messages, ShareGPT, Alpaca, Anthropic HH, Guanaco, scored
responses) are recognised by their field names; ``fields`` maps others.
"""

import hashlib
import os
import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sawyer import hub
from sawyer.data_formats import REFERENCES, Message, conversation_of, pair_of, prompt_of, rated_of, text_of
from sawyer.errors import DataError
from sawyer.lines import read_lines
from sawyer.recipe import DataSource

SUFFIXES = (".jsonl", ".jsonl.gz", ".json", ".json.gz", ".csv", ".parquet")
ASSETS = Path(__file__).parent / "assets"


@dataclass(frozen=True)
class Conversation:
    """A finished conversation: it ends with an assistant turn."""

    messages: list[Message]
    source: str = ""


@dataclass(frozen=True)
class Pair:
    """Two replies to the same prompt; ``margin`` is the score difference where the source gives one."""

    prompt: list[Message]
    chosen: str
    rejected: str
    margin: float | None = None
    source: str = ""


@dataclass(frozen=True)
class Rated:
    """A reply that was liked or disliked by itself."""

    prompt: list[Message]
    reply: str
    liked: bool
    source: str = ""


@dataclass(frozen=True)
class Prompt:
    """A conversation that waits for a reply, with a reference reply where the source has one."""

    messages: list[Message]
    reference: str | None = None
    source: str = ""

    @property
    def asked(self) -> list[Message]:
        """The messages as rewards see them: the last one carries the ``reference``, where there is one."""
        if self.reference is None:
            return self.messages
        return [*self.messages[:-1], {**self.messages[-1], "reference": self.reference}]


@dataclass(frozen=True)
class Example:
    """A text and the name of its label, for classifiers; examples of one ``group`` are never parted by a split."""

    text: str
    label: str
    source: str = ""
    group: str = ""

    def is_held_out(self, share: float) -> bool:
        """Whether it belongs to the held-out ``share``: by hash of its group, of its text where it has none."""
        return is_held_out([{"role": "user", "content": self.group or self.text}], share)


@dataclass(frozen=True)
class Text:
    """A document; ``messages`` is set when the record is a conversation."""

    text: str
    messages: list[Message] = field(default_factory=list)
    source: str = ""


def load_conversations(sources: Sequence[DataSource], seed: int = 0) -> list[Conversation]:
    """Read conversations, a source with ``weight`` w repeated round(w) times.

    Raises:
        DataError: a source is missing, unreadable, or has no usable record.
    """
    return _load(sources, seed, lambda r, s: _some(conversation_of(r, s.format), lambda m: Conversation(m, s.name)))


def load_pairs(sources: Sequence[DataSource], seed: int = 0) -> list[Pair]:
    """Read preference pairs; identical replies are dropped. Raises DataError as ``load_conversations``."""

    def build(record: dict[str, Any], source: DataSource) -> list[Pair]:
        label = str(record.get("source") or source.name)
        return [Pair(*pair, source=label) for pair in pair_of(record, source.format) if pair[1] != pair[2]]

    return _load(sources, seed, build)


def load_rated(sources: Sequence[DataSource], seed: int = 0) -> list[Rated]:
    """Read rated replies (``prompt``, ``completion``, ``label``); a pair counts as a liked and a disliked one."""
    return _load(sources, seed, lambda r, s: [Rated(*rated, source=s.name) for rated in rated_of(r, s.format)])


def load_prompts(sources: Sequence[DataSource], seed: int = 0) -> list[Prompt]:
    """Read prompts, each once: a later one with the same text is dropped. Raises DataError likewise."""
    unique: dict[str, Prompt] = {}
    for prompt in _load(sources, seed, lambda r, s: _some(_prompt(r, s), lambda p: Prompt(*p, s.name))):
        unique.setdefault("\n".join(f"{m['role']}: {m['content']}" for m in prompt.messages), prompt)
    return list(unique.values())


def load_examples(
    sources: Sequence[DataSource], seed: int = 0, names: Mapping[str, str] | None = None
) -> list[Example]:
    """Read labelled texts (fields ``text`` and ``label``, and ``group`` where there is one), each text once.

    Args:
        names: label in the data -> its name, for data that count their labels; others keep their own.

    Raises:
        DataError: as ``load_conversations``.
    """

    def build(record: dict[str, Any], source: DataSource) -> list[Example]:
        text, label = record.get("text"), record.get("label")
        if not isinstance(text, str) or not text.strip() or label is None:
            return []
        group = "" if record.get("group") is None else str(record["group"])
        return [Example(text.strip(), (names or {}).get(str(label), str(label)), source.name, group)]

    return list({example.text: example for example in _load(sources, seed, build)}.values())


def load_texts(source: DataSource, seed: int = 0) -> list[Text]:
    """Read documents of one source; conversations keep their messages for rendering."""

    def build(record: dict[str, Any], source: DataSource) -> list[Text]:
        text, messages = text_of(record, source.format)
        return [Text(text, messages, source.name)] if text or messages else []

    return _load([source.model_copy(update={"weight": 1.0})], seed, build)


def conversation_key(messages: Sequence[Message]) -> str:
    """Hash that decides the split: of the first user turn, case and spacing ignored.

    All turns of a conversation, every pair and every prompt that starts the same way share it, so that no prompt
    is on both sides of a split.
    """
    first = next((m["content"] for m in messages if m["role"] == "user"), "")
    return hashlib.sha256(" ".join(first.lower().split()).encode()).hexdigest()


def is_held_out(messages: Sequence[Message], share: float, fold: int = 0) -> bool:
    """Whether the conversation belongs to the held-out ``share`` (0 to 1) of all conversations.

    The decision depends on the first user turn alone: it stays as data grows, and a larger share only adds. Another
    ``fold`` of the same share is another part of the conversations: no two folds have one in common.
    """
    place = int(conversation_key(messages)[:12], 16) / 16**12
    return fold * share <= place < (fold + 1) * share


def read_records(source: DataSource) -> list[dict[str, Any]]:
    """Read a source's raw records, field mapping applied and ``where`` obeyed.

    Raises:
        DataError: the source is nowhere, cannot be read, lacks a field, or no record passes ``where``.
    """
    file = find_local(source)
    names, table = _table(source, file)
    renamed = {theirs: ours for ours, theirs in source.fields.items()}
    missing = sorted(set(renamed) - set(names))
    if missing:
        raise DataError(
            f"The data source {source.name} has no field {', '.join(missing)}; it has {', '.join(names)}. "
            "Correct the key 'fields' of this source (our name: their name)."
        )
    records = [{renamed.get(key, key): value for key, value in record.items()} for record in table]
    for name, allowed in source.where.items():
        records = _where(records, name, allowed, source)
    return records


def _table(source: DataSource, file: Path | None) -> tuple[list[str], Iterable[dict[str, Any]]]:
    """Field names and records of a source: of ``file``, or of a hub dataset where there is none."""
    if file is not None and _kind(file) == "jsonl":
        try:
            return read_lines(file)
        except (OSError, ValueError) as error:
            raise DataError(_unreadable(source, file, error)) from error
    # Imported here: datasets and pyarrow take a second, and most recipes do without them.
    import datasets

    datasets.disable_progress_bars()
    try:
        if file is not None:
            table = datasets.load_dataset(_kind(file), data_files={"train": str(file)}, split="train")
        else:
            table = datasets.load_dataset(source.name, source.subset, split=source.split, revision=source.revision)
    except (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError, *hub.error_kinds()) as error:
        raise DataError(_unreadable(source, file, error)) from error
    return table.column_names, table


def find_local(source: DataSource) -> Path | None:
    """Return the file of a local source, or None when it can only be a hub dataset."""
    roots = [Path(), *([Path(os.environ["SAWYER_DATA"])] if os.environ.get("SAWYER_DATA") else []), ASSETS]
    for root in roots:
        place = (root / source.name).expanduser()
        if place.is_file():
            return place
        for folder, stem in ((place, source.split), (place.parent, place.name)):
            for suffix in SUFFIXES:
                if (folder / f"{stem}{suffix}").is_file():
                    return folder / f"{stem}{suffix}"
    return None


def _load(
    sources: Sequence[DataSource], seed: int, build: Callable[[dict[str, Any], DataSource], Iterable[Any]]
) -> list[Any]:
    loaded: list[Any] = []
    for source in sources:
        records = read_records(source)
        order = list(range(len(records)))
        random.Random(f"{seed}:{source.name}:{source.split}").shuffle(order)
        items = [item for index in order for item in build(records[index], source)]
        if not items:
            raise DataError(
                f"The data source {source.name} (split {source.split}) has {len(records)} records, none of them "
                f"usable here{_fields_of(records)}. Name the fields under 'fields', or set 'format'."
            )
        loaded += items[: source.limit] * max(1, round(source.weight))
    return loaded


def _prompt(record: dict[str, Any], source: DataSource) -> tuple[list[Message], str | None]:
    """Prompt and reference of a record; the source's template writes the prompt where there is one."""
    if source.template is None:
        return prompt_of(record, source.format)
    try:
        text = source.template.format_map(record)
    except (KeyError, IndexError, ValueError, AttributeError) as error:
        raise DataError(
            f"The template of the data source {source.name} cannot be filled ({type(error).__name__}: {error}); its "
            f"fields are: {', '.join(record)}. Correct the key 'template': fields stand in braces, as in {{text}}."
        ) from error
    return prompt_of({**{key: record.get(key) for key in REFERENCES}, "prompt": text})


def _where(records: list[dict[str, Any]], name: str, allowed: list[str], source: DataSource) -> list[dict[str, Any]]:
    """The records whose field ``name`` holds one of ``allowed``; no record at all is an error that names the choice."""
    present = sorted({str(record[name]) for record in records if record.get(name) is not None})
    kept = [record for record in records if str(record.get(name)) in allowed]
    if not kept:
        has = f"holds {', '.join(present[:12])}" if present else f"is not one of its fields{_fields_of(records)}"
        raise DataError(
            f"No record of the data source {source.name} has {name} in {', '.join(allowed) or 'nothing'}: "
            f"{name} {has}. Correct the key 'where' of this source."
        )
    return kept


def _some(value: Any, wrap: Callable[[Any], Any]) -> Iterator[Any]:
    if value:
        yield wrap(value)


def _kind(file: Path) -> str:
    return file.name.removesuffix(".gz").rsplit(".", 1)[-1]


def _fields_of(records: list[dict[str, Any]]) -> str:
    return f" (their fields: {', '.join(records[0])})" if records else ""


def _unreadable(source: DataSource, file: Path | None, error: Exception) -> str:
    # datasets wraps what the reader said; our own reader of JSON lines names the line itself.
    said_by = error if file is not None and _kind(file) == "jsonl" else error.__cause__ or error
    reason = " ".join(str(said_by).split())[:300]
    if file is not None:
        return f"The data file {file} cannot be read: {reason}. It must be UTF-8 JSON lines, JSON, CSV or Parquet."
    told = hub.cure(source.name, error, key="name", kind="dataset")
    where = f"not under SAWYER_DATA ({os.environ.get('SAWYER_DATA') or 'not set'})"
    said = told or f"{reason}. Check the name, or give a local path."
    return f"The data source {source.name} is no local file, {where}, and could not be read from the hub. {said}"
