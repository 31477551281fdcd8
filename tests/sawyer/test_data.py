"""Data sources: layouts of public sets, field mapping, SAWYER_DATA, splits without leaks, clear errors."""

import gzip
import json
from collections import Counter
from pathlib import Path

import pytest

from benchmarks.everyday import plain
from sawyer.data import (
    conversation_key,
    is_held_out,
    load_conversations,
    load_pairs,
    load_prompts,
    load_texts,
    read_records,
)
from sawyer.data_formats import conversation_of, messages_of, pair_of, prompt_of
from sawyer.errors import DataError
from sawyer.lines import objects
from sawyer.recipe import DataSource

EXAM = Path(__file__).parents[1] / "data" / "everyday.jsonl"

U, A = {"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello."}
NO = {"role": "assistant", "content": "No."}
SCORED = [{"response": "No.", "score": 2}, {"response": "Hello.", "score": 9}]


def write(path, rows):
    text = "".join(json.dumps(row) + "\n" for row in rows)
    if path.suffix == ".gz":
        with gzip.open(path, "wt", encoding="utf-8") as stream:
            stream.write(text)
    else:
        path.write_text(text, encoding="utf-8")
    return str(path)


@pytest.mark.parametrize(
    ("record", "layout"),
    [
        ({"messages": [U, A]}, "auto"),
        ({"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello."}]}, "auto"),
        ({"instruction": "Hi", "response": "Hello."}, "auto"),
        ({"instruction": "Hi", "input": "", "output": "Hello."}, "auto"),
        ({"prompt": "Hi", "completion": "Hello."}, "auto"),
        ({"prompt": [U], "chosen": "Hello.", "rejected": "No."}, "auto"),
        ({"text": "### Human: Hi### Assistant: Hello."}, "guanaco"),
        ({"chosen": "\n\nHuman: Hi\n\nAssistant: Hello.", "rejected": "\n\nHuman: Hi\n\nAssistant: No."}, "hh"),
        ({"messages": [U, A, {"role": "user", "content": "And?"}]}, "auto"),
    ],
)
def test_conversations_of_many_layouts(record, layout):
    assert conversation_of(record, layout) == [U, A]


@pytest.mark.parametrize(
    ("record", "layout", "margin"),
    [
        ({"prompt": [U], "chosen": "Hello.", "rejected": "No."}, "auto", None),
        ({"prompt": "Hi", "chosen": "Hello.", "rejected": "No.", "margin": 2}, "auto", 2.0),
        ({"chosen": [U, A], "rejected": [U, NO], "score_chosen": 8, "score_rejected": 5}, "auto", 3),
        ({"chosen": "\n\nHuman: Hi\n\nAssistant: Hello.", "rejected": "\n\nHuman: Hi\n\nAssistant: No."}, "hh", None),
        ({"user_input": "Hi", "responses_and_scores": SCORED}, "scored", 7.0),
    ],
)  # fmt: skip
def test_pairs_of_many_layouts(record, layout, margin):
    assert pair_of(record, layout) == [([U], "Hello.", "No.", margin)]


def test_prompts_keep_their_reference():
    assert prompt_of({"messages": [U, A]}) == ([U], "Hello.")
    assert prompt_of({"prompt": [U], "topic": "greeting"}) == ([U], None)
    assert prompt_of({"instruction": "Sum up.", "context": "Text.", "response": "T."}) == (
        [{"role": "user", "content": "Sum up.\n\nText."}],
        "T.",
    )


def test_neighbouring_turns_of_one_speaker_are_joined_and_odd_roles_dropped():
    assert messages_of([U, {"role": "user", "content": "there"}, A])[0]["content"] == "Hi\nthere"
    assert messages_of([U, {"role": "tool", "content": "x"}]) == []


def test_sawyer_data_is_searched_and_gzip_read(tmp_path, monkeypatch):
    (tmp_path / "set").mkdir()
    write(tmp_path / "set" / "train.jsonl.gz", [{"messages": [U, A]}] * 3)
    monkeypatch.setenv("SAWYER_DATA", str(tmp_path))
    loaded = load_conversations([DataSource(name="set", weight=2)])
    assert len(loaded) == 6 and loaded[0].messages == [U, A]


def test_field_mapping_and_limit(tmp_path):
    path = write(tmp_path / "p.jsonl", [{"q": f"Question {n}", "good": "yes", "bad": "no"} for n in range(5)])
    fields = {"prompt": "q", "chosen": "good", "rejected": "bad"}
    pairs = load_pairs([DataSource(name=path, fields=fields, limit=3)])
    assert len(pairs) == 3 and pairs[0].chosen == "yes"
    with pytest.raises(DataError, match=r"no field nope; it has q, good, bad"):
        load_pairs([DataSource(name=path, fields={"prompt": "nope"})])


def test_equal_replies_are_no_pair_and_equal_prompts_come_once(tmp_path):
    path = write(
        tmp_path / "p.jsonl",
        [{"prompt": "Hi", "chosen": "a", "rejected": "a"}, {"prompt": "Hi", "chosen": "a", "rejected": "b"}],
    )
    assert len(load_pairs([DataSource(name=path)])) == 1
    assert len(load_prompts([DataSource(name=path)])) == 1


def test_the_split_depends_on_the_first_user_turn_alone():
    talk = [U, A, {"role": "user", "content": "And now?"}]
    shouted = [{"role": "user", "content": "  HI "}]
    assert conversation_key(talk) == conversation_key([U]) == conversation_key(shouted)
    prompts = [[{"role": "user", "content": f"prompt {n}"}] for n in range(2000)]
    small = {n for n, p in enumerate(prompts) if is_held_out(p, 0.05)}
    large = {n for n, p in enumerate(prompts) if is_held_out(p, 0.1)}
    assert small < large and 60 < len(small) < 140 and 150 < len(large) < 250


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda d: d / "nothing.jsonl", "no local file, not under SAWYER_DATA"),
        (lambda d: write(d / "empty.jsonl", [{"other": 1}]), "none of them usable here .their fields: other"),
    ],
)
def test_sources_that_give_nothing(tmp_path, make, message):
    with pytest.raises(DataError, match=message):
        load_conversations([DataSource(name=str(make(tmp_path)))])


def test_a_broken_file_is_named(tmp_path):
    (tmp_path / "bad.jsonl").write_text('{"messages": [\n', encoding="utf-8")
    with pytest.raises(DataError, match=r"bad\.jsonl cannot be read"):
        load_conversations([DataSource(name=str(tmp_path / "bad.jsonl"))])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"messages": []}\n[1, 2]\n', "line 2 is no JSON object but list"),
        ('\n\n{"messages"\n', "line 3 is no JSON"),
        ("\udcff", "cannot be read"),
    ],
    ids=["list", "broken", "no text"],
)
def test_the_line_at_fault_is_named(tmp_path, text: str, message: str):
    file = tmp_path / "bad.jsonl"
    file.write_text(text, encoding="utf-8", errors="surrogateescape")
    with pytest.raises(DataError, match=message):
        load_conversations([DataSource(name=str(file))])


def test_a_file_that_was_cut_off_is_named(tmp_path):
    whole = gzip.compress(json.dumps({"text": "x" * 5000}).encode())
    (tmp_path / "cut.jsonl.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"cut\.jsonl\.gz cannot be read"):
        load_conversations([DataSource(name=str(tmp_path / "cut.jsonl.gz"))])


def test_a_field_that_some_lines_lack_is_none_there(tmp_path):
    (tmp_path / "mixed.jsonl").write_text('\ufeff{"a": 1}\n\n{"b": 2, "a": 3}\n', encoding="utf-8")
    assert read_records(DataSource(name=str(tmp_path / "mixed.jsonl"))) == [{"a": 1, "b": None}, {"a": 3, "b": 2}]


def test_where_keeps_only_the_records_named(tmp_path):
    rows = [{"messages": [U, A], "kind": kind} for kind in ("good", "odd", "good", None)]
    file = write(tmp_path / "mixed.jsonl", rows)
    assert len(load_conversations([DataSource(name=file, where={"kind": ["good"]})])) == 2
    assert len(load_conversations([DataSource(name=file, where={"kind": ["good", "odd"]})])) == 3
    renamed = DataSource(name=file, fields={"source": "kind"}, where={"source": ["odd"]})
    assert len(load_conversations([renamed])) == 1


def test_where_that_fits_no_record_says_what_there_is(tmp_path):
    file = write(tmp_path / "mixed.jsonl", [{"messages": [U, A], "kind": "good"}])
    with pytest.raises(DataError, match=r"has kind in bad: kind holds good. Correct the key 'where'"):
        load_conversations([DataSource(name=file, where={"kind": ["bad"]})])
    with pytest.raises(DataError, match=r"sort is not one of its fields .their fields: messages, kind"):
        load_conversations([DataSource(name=file, where={"sort": ["bad"]})])


def test_a_template_writes_prompts_from_fields_and_keeps_the_reference(tmp_path):
    rows = [{"text": "Rain {fell} on Monday.", "summary": "It rained.", "source": "x"}]
    source = DataSource(name=write(tmp_path / "news.jsonl", rows), template="Summarize ({source}): {text}")
    (prompt,) = load_prompts([source])
    assert prompt.messages == [{"role": "user", "content": "Summarize (x): Rain {fell} on Monday."}]
    assert prompt.reference == "It rained."
    with pytest.raises(DataError, match=r"KeyError: 'title'.*its fields are: text, summary, source"):
        load_prompts([source.model_copy(update={"template": "{title}"})])


def test_the_starter_set_is_what_it_says():
    conversations = load_conversations([DataSource(name="starter/conversations")])
    pairs = load_pairs([DataSource(name="starter/pairs")])
    prompts = load_prompts([DataSource(name="starter/prompts")])
    assert len(conversations) >= 600 and len(pairs) >= 1500 and len(prompts) >= 600
    assert sum(len(c.messages) > 2 for c in conversations) >= len(conversations) / 3
    # Length alone must not tell the better reply.
    assert 0.4 < sum(len(p.rejected) >= len(p.chosen) for p in pairs) / len(pairs) < 0.65
    firsts = [c.messages[0]["content"].lower() for c in conversations if len(c.messages) == 2]
    assert len(set(firsts)) == len(firsts)


def test_the_fact_sheet_teaches_each_fact_in_several_wordings():
    wordings = Counter(record["fact"] for record in read_records(DataSource(name="starter/facts")))
    assert len(wordings) >= 300 and min(wordings.values()) >= 3
    # A wording belongs to one fact alone.
    questions = [plain(c.messages[0]["content"]) for c in load_conversations([DataSource(name="starter/facts")])]
    assert len(set(questions)) >= 0.99 * len(questions)


def test_no_prompt_of_the_everyday_exam_is_in_the_starter_set():
    exam = {plain(m["content"]) for row in objects(EXAM) for m in row["prompt"] if m["role"] == "user"}
    assert len(exam) >= 100
    names = [f"starter/{name}" for name in ("everyday", "conversations", "wordings", "facts", "pairs", "prompts")]
    asked = {plain(m["content"]) for p in load_prompts([DataSource(name=n) for n in names]) for m in p.messages}
    assert len(asked) > 15_000 and not exam & asked


def test_texts_keep_their_messages():
    texts = load_texts(DataSource(name="starter/conversations", limit=3))
    assert len(texts) == 3 and texts[0].messages and texts[0].text == ""
