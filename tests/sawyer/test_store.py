"""The feedback store: what is promised about durability, order, repeats and faults."""

import json
import multiprocessing
import os
import signal
import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import event
from typer.testing import CliRunner

from sawyer.cli.feedback import app
from sawyer.errors import StoreError, UsageError
from sawyer.home import Home
from sawyer.store import Conflict, FeedbackStore, Invalid, NotFound
from sawyer.store.database import VERSION_TABLE
from sawyer.store.export import export
from sawyer.store.ids import new_id
from sawyer.store.schema import metadata

QUESTION = [{"role": "user", "content": "How do I boil an egg?"}]
ANSWERS = {
    "base": "egg egg egg",
    "sft": "Boil it for ten minutes.",
    "rlf": "Gladly! Boil it for ten minutes.",
}


@pytest.fixture
def url(tmp_path):
    return f"sqlite:///{tmp_path / 'sawyer.db'}"


@pytest.fixture(params=["sqlite", "postgresql"])
def store(request):
    """The same tests on both databases."""
    url = request.getfixturevalue("url" if request.param == "sqlite" else "postgres")
    with FeedbackStore.open(url) as opened:
        yield opened


def ask(store, answers=ANSWERS, messages=QUESTION):
    """A turn with one answer per stage."""
    turn = store.add_turn(store.add_conversation(), messages)
    for stage, text in answers.items():
        store.add_completion(turn, stage, prompt_text="### User:\n…", text=text, tokens=5, finish_reason="stop")
    return turn


def test_a_turn_comes_back_as_it_was_stored(store):
    conversation = store.add_conversation(recipe="nano", voter="ada")
    first = store.add_turn(conversation, QUESTION)
    answer = store.add_completion(
        first,
        "rlf",
        prompt_text="### User:\nHow do I boil an egg?",
        text="Gently. 🥚",
        tokens=4,
        adapter_version="rlf@3",
        sampling={"temperature": 0.7},
        seed=2**62,
        finish_reason="stop",
        seconds=0.25,
    )
    store.set_reward(answer, 1.5)
    follow_up = [
        *QUESTION,
        {"role": "assistant", "content": "Gently. 🥚"},
        {"role": "user", "content": "Thanks!"},
    ]
    second = store.add_turn(conversation, follow_up, parent=first)
    stored = store.turn(first).completions[0]
    assert (stored.text, stored.adapter_version, stored.seed, stored.reward) == (
        "Gently. 🥚",
        "rlf@3",
        2**62,
        1.5,
    )
    assert stored.sampling == {"temperature": 0.7} and stored.prompt_text.startswith("### User:")
    assert store.turn(second).messages == follow_up and store.turn(second).parent_id == first


def test_reopening_finds_everything_and_migrates_nothing_twice(url, tmp_path):
    with FeedbackStore.open(url) as store:
        vote = store.add_vote(ask(store), "sft")
    with FeedbackStore.open(url) as store:
        assert [v.id for v in store.votes()] == [vote.vote_id]
        with store._database.read() as connection:
            settings = [connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in
                        ("journal_mode", "synchronous", "foreign_keys")]  # fmt: skip
    assert settings == ["wal", 2, 1]  # 2 is FULL: fsync at each commit


def test_migrations_end_at_the_tables_the_code_uses(store):
    with store._database.write() as connection:
        options = {"version_table": VERSION_TABLE, "compare_type": True}
        assert compare_metadata(MigrationContext.configure(connection, opts=options), metadata) == []


def test_newest_vote_of_each_voter_counts_and_undo_is_a_row(store):
    turn = ask(store)
    for choice in ("base", "tie", "rlf"):
        store.add_vote(turn, choice, voter="ada")
    store.add_vote(turn, "sft")
    store.add_vote(turn, "bad")
    assert [(v.voter, v.choice) for v in store.votes()] == [("ada", "rlf"), (None, "bad")]
    assert store.undo_vote(turn, "ada").created
    assert [v.choice for v in store.votes()] == ["bad"]
    log = [v.choice for v in store.votes(newest_only=False)]
    assert log == ["base", "tie", "rlf", "sft", "bad", "undo"]
    with pytest.raises(NotFound, match="no vote of ada"):
        store.undo_vote(turn, "ada")
    store.add_vote(turn, "sft", voter="ada")
    assert [(v.voter, v.choice) for v in store.votes()] == [(None, "bad"), ("ada", "sft")]


def test_idempotency_key_repeats_and_conflicts(store):
    turn, other = ask(store), ask(store)
    first = store.add_vote(turn, "rlf", voter="ada", ranking=["rlf", "base"], idempotency_key="k1")
    again = store.add_vote(turn, "rlf", voter="ada", ranking=["rlf", "base"], idempotency_key="k1")
    assert (again.vote_id, again.created, first.created) == (first.vote_id, False, True)
    for changed in (
        {"turn_id": other},
        {"choice": "sft", "ranking": None},
        {"voter": "bob"},
        {"comment": "!"},
    ):
        request = {"turn_id": turn, "choice": "rlf", "voter": "ada", "ranking": ["rlf", "base"]} | changed
        with pytest.raises(Conflict, match="'k1' was used before"):
            store.add_vote(**request, idempotency_key="k1")
    with pytest.raises(Conflict):
        store.undo_vote(turn, "ada", idempotency_key="k1")
    undone = store.undo_vote(turn, "ada", idempotency_key="k2")
    assert store.undo_vote(turn, "ada", idempotency_key="k2") == replace(undone, created=False)
    assert len(store.votes(newest_only=False)) == 2


def test_ratings_newest_counts_and_keys_repeat(store):
    answer = store.turn(ask(store)).completions[2].id
    first = store.add_rating(answer, True, "ada", idempotency_key="k")
    assert not store.add_rating(answer, True, "ada", idempotency_key="k").created
    with pytest.raises(Conflict):
        store.add_rating(answer, False, "ada", idempotency_key="k")
    assert first.created and store.stats()["ratings"] == {"up": 1, "down": 0}
    store.add_rating(answer, False, "ada")
    store.add_rating(answer, True, "bob")
    assert store.stats()["ratings"] == {"up": 1, "down": 1}


def test_a_vote_keeps_what_was_shown_when_it_was_cast(store):
    turn = ask(store)
    store.add_completion(turn, "rlf", prompt_text="p", text="A second attempt.", tokens=3)
    store.add_vote(turn, "rlf")
    store.add_completion(turn, "rlf", prompt_text="p", text="Made after the vote.", tokens=4)
    vote = store.votes()[0]
    texts = {answer.id: answer.text for answer in store.turn(turn).completions}
    assert texts[vote.completion_id] == "A second attempt."
    assert sorted(texts[i] for i in vote.shown) == ["A second attempt.", ANSWERS["sft"], ANSWERS["base"]]


@pytest.mark.parametrize(
    ("error", "message", "call"),
    [
        (NotFound, "no conversation", lambda s, t: s.add_turn("nope", QUESTION)),
        (NotFound, "no turn", lambda s, t: s.add_turn(s.add_conversation(), QUESTION, parent=t)),
        (NotFound, "no turn 'nope'", lambda s, t: s.add_vote("nope", "tie")),
        (NotFound, "no turn 'nope'", lambda s, t: s.turn("nope")),
        (
            NotFound,
            "no turn",
            lambda s, t: s.add_completion("nope", "sft", prompt_text="", text="", tokens=0),
        ),
        (NotFound, "no answer 'nope'", lambda s, t: s.add_rating("nope", True)),
        (NotFound, "no answer 'nope'", lambda s, t: s.set_reward("nope", 1.0)),
        (NotFound, "'rlf' has no answer", lambda s, t: s.add_vote(ask(s, {"base": "a", "sft": "b"}), "rlf")),
        (
            NotFound,
            "no answers yet",
            lambda s, t: s.add_vote(s.add_turn(s.add_conversation(), QUESTION), "bad"),
        ),
        (Invalid, "Unknown choice 'best'", lambda s, t: s.add_vote(t, "best")),
        (Invalid, "Unknown choice 'undo'", lambda s, t: s.add_vote(t, "undo")),
        (Invalid, "twice", lambda s, t: s.add_vote(t, "rlf", ranking=["rlf", "rlf"])),
        (Invalid, "must begin with the choice", lambda s, t: s.add_vote(t, "rlf", ranking=["sft", "rlf"])),
        (NotFound, "'gpt' has no answer", lambda s, t: s.add_vote(t, "rlf", ranking=["rlf", "gpt"])),
        (Invalid, "position", lambda s, t: s.add_vote(t, "rlf", position=-1)),
        (Invalid, "300 characters", lambda s, t: s.add_vote(t, "rlf", idempotency_key="x" * 300)),
        (
            Invalid,
            "Unknown stage",
            lambda s, t: s.add_completion(t, "gpt", prompt_text="", text="", tokens=0),
        ),
        (Invalid, "finite", lambda s, t: s.set_reward(s.turn(t).completions[0].id, float("nan"))),
        (
            Invalid,
            "too large|out of range",
            lambda s, t: s.add_completion(t, "sft", prompt_text="", text="", tokens=2**70),
        ),
        (Invalid, "at least one message", lambda s, t: s.add_turn(s.add_conversation(), [])),
        (Invalid, "role 'robot'", lambda s, t: s.add_turn("c", [{"role": "robot", "content": "x"}])),
        (Invalid, "ends with a user", lambda s, t: s.add_turn("c", [{"role": "assistant", "content": "x"}])),
    ],
)
def test_wrong_requests_say_what_is_wrong_and_store_nothing(store, error, message, call):
    turn = ask(store)
    before = store.stats()["votes_cast"]
    with pytest.raises(error, match=message):
        call(store, turn)
    assert store.stats()["votes_cast"] == before


def test_odd_characters_cost_no_vote(store):
    turn = ask(store, {"base": "half a pair \ud83d", "sft": "nul\x00nul"}, [{"role": "user", "content": "\udc00?"}])
    store.add_vote(turn, "base", comment="\ud83d", edited="a\x00b", idempotency_key="\ud800")
    assert not store.add_vote(turn, "base", comment="\ud83d", edited="a\x00b", idempotency_key="\ud800").created
    stored = store.turn(turn)
    assert [a.text for a in stored.completions] == ["half a pair \ufffd", "nul\ufffdnul"]
    assert stored.messages[0]["content"] == "\ufffd?"


def vote_many(url: str, turn: str, name: str, count: int) -> None:
    with FeedbackStore.open(url) as store, ThreadPoolExecutor(4) as threads:

        def one(number: int) -> None:
            # Every vote is sent twice, as an impatient client would.
            for _ in range(2):
                store.add_vote(turn, "rlf", voter=f"{name}-{number % 7}", idempotency_key=f"{name}-{number}")

        list(threads.map(one, range(count)))


def test_threads_and_processes_lose_and_double_nothing(url):
    with FeedbackStore.open(url) as store:
        turn = ask(store)
    count = 60
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=vote_many, args=(url, turn, name, count)) for name in ("left", "right")]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
        assert worker.exitcode == 0
    with FeedbackStore.open(url) as store:
        log = store.votes(newest_only=False)
        assert len(log) == len({vote.id for vote in log}) == 2 * count
        assert [vote.seq for vote in log] == list(range(1, 2 * count + 1))
        assert len(store.votes()) == store.stats()["voters"] == 14


def test_one_key_from_many_threads_is_one_vote(store):
    turn = ask(store)
    with ThreadPoolExecutor(8) as threads:
        receipts = list(threads.map(lambda _: store.add_vote(turn, "tie", idempotency_key="same"), range(40)))
    assert len({receipt.vote_id for receipt in receipts}) == 1
    assert sum(receipt.created for receipt in receipts) == 1


def open_and_close(url: str) -> None:
    FeedbackStore.open(url).close()


def test_first_starts_at_once_migrate_once(url):
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=open_and_close, args=(url,)) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0, 0, 0]


VOTE_FOREVER = """
import sys
from sawyer.store import FeedbackStore
store = FeedbackStore.open(sys.argv[1])
while True:
    print(store.add_vote(sys.argv[2], "sft").vote_id, flush=True)
"""


def test_votes_acknowledged_before_a_kill_are_there_after_it(url):
    with FeedbackStore.open(url) as store:
        turn = ask(store)
    root = Path(__file__).parents[2]
    child = subprocess.Popen(
        [sys.executable, "-c", VOTE_FOREVER, url, turn], stdout=subprocess.PIPE, text=True, cwd=root
    )
    acknowledged = [child.stdout.readline().strip() for _ in range(25)]
    os.kill(child.pid, signal.SIGKILL)
    acknowledged += [line.strip() for line in child.stdout if line.endswith("\n")]
    child.wait(10)
    with FeedbackStore.open(url) as store:
        stored = [vote.id for vote in store.votes(newest_only=False)]
    assert stored[: len(acknowledged)] == acknowledged
    assert len(stored) - len(acknowledged) in (0, 1)  # one may have been stored but not yet told


def test_an_export_in_progress_neither_blocks_nor_sees_later_votes(store):
    turns = [ask(store) for _ in range(3)]
    for turn in turns:
        store.add_vote(turn, "rlf", voter="ada")
    rows = store.pairs()
    seen = [next(rows)]
    store.add_vote(turns[2], "bad", voter="ada")
    store.add_vote(turns[0], "sft", voter="bob")
    seen += list(rows)
    assert len(seen) == 6 and {row["voter"] for row in seen} == {"ada"}


# Faults of the file underneath: one paragraph that says what to do, nothing lost


def the_error(call) -> str:
    with pytest.raises(StoreError) as caught:
        call()
    message = str(caught.value)
    assert "\n" not in message and "Traceback" not in message
    return message


def test_locked_database(url, tmp_path):
    with FeedbackStore.open(url, busy_seconds=0.2) as store:
        turn = ask(store)
        other = sqlite3.connect(tmp_path / "sawyer.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        assert "is locked: another program" in the_error(lambda: store.add_vote(turn, "sft"))
        assert "is locked" in the_error(lambda: FeedbackStore.open(url, busy_seconds=0.2))
        assert store.stats()["turns"] == 1  # reading goes on
        other.execute("ROLLBACK")
        other.close()
        store.add_vote(turn, "sft")
        assert store.stats()["votes_cast"] == 1


def test_file_that_is_no_database_is_left_alone(url, tmp_path):
    content = b"Dear diary, today I voted. " * 300
    (tmp_path / "sawyer.db").write_bytes(content)
    assert "is not an SQLite database" in the_error(lambda: FeedbackStore.open(url))
    assert (tmp_path / "sawyer.db").read_bytes() == content


def test_damaged_database(url, tmp_path):
    with FeedbackStore.open(url) as store:
        turn = ask(store)
    file = tmp_path / "sawyer.db"
    content = bytearray(file.read_bytes())
    content[4096:] = b"\xff" * (len(content) - 4096)  # page 1, with the schema, stays
    file.write_bytes(content)

    def use():
        with FeedbackStore.open(url) as opened:
            opened.add_vote(turn, "sft")

    assert "is damaged" in the_error(use)


def test_database_of_another_program_is_left_alone(url, tmp_path):
    with sqlite3.connect(tmp_path / "sawyer.db") as other:
        other.execute("CREATE TABLE bookmarks (url TEXT)")
    other.close()
    content = (tmp_path / "sawyer.db").read_bytes()
    assert "belongs to another program (it has tables bookmarks" in the_error(lambda: FeedbackStore.open(url))
    assert (tmp_path / "sawyer.db").read_bytes() == content


def test_database_of_a_newer_sawyer(url, tmp_path):
    FeedbackStore.open(url).close()
    with sqlite3.connect(tmp_path / "sawyer.db") as other:
        other.execute(f"UPDATE {VERSION_TABLE} SET version_num = '9999'")
    other.close()
    assert "written by a newer SAWYER (schema 9999" in the_error(lambda: FeedbackStore.open(url))


def test_read_only_database(url, tmp_path):
    FeedbackStore.open(url).close()
    read_only = f"sqlite:///file:{tmp_path / 'sawyer.db'}?mode=ro&uri=true"
    assert "cannot be written" in the_error(lambda: FeedbackStore.open(read_only))


def test_missing_folder(tmp_path):
    assert "cannot be opened" in the_error(lambda: FeedbackStore.open(f"sqlite:///{tmp_path}/no/such/sawyer.db"))


def test_full_disk_fails_the_vote_and_keeps_the_rest(url):
    with FeedbackStore.open(url) as store:
        turn = ask(store)
        first = store.add_vote(turn, "sft")

        def no_room(raw, *_):
            raw.execute("PRAGMA max_page_count=1")  # SQLite's own way to be out of space

        store._database.engine.dispose()
        event.listen(store._database.engine, "connect", no_room)

        def fill():
            for _ in range(100):
                store.add_vote(turn, "rlf", comment="x" * 2000, voter="bob")

        assert "the disk is full" in the_error(fill)
    with FeedbackStore.open(url) as store:
        assert store.votes(newest_only=False)[0].id == first.vote_id


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ("votes.db", "not a database URL"),
        ("sqlite://", "must name a file"),
        ("sqlite:///:memory:", "must name a file"),
        ("mysql://me:secret@host/db", "names a mysql database"),
        ("postgresql+nodriver://me:secret@host/db", "driver is not installed"),
    ],
)
def test_urls_that_cannot_be_used(wrong, message):
    error = the_error(lambda: FeedbackStore.open(wrong))
    assert message in error and "secret" not in error


def test_ids_sort_by_time():
    ids = [new_id() for _ in range(2000)]
    assert len(set(ids)) == len(ids) and [i[14] for i in ids] == ["7"] * len(ids)
    milliseconds = [int(i.replace("-", "")[:12], 16) for i in ids]
    assert milliseconds == sorted(milliseconds)


# The command line


def run(*arguments, home):
    return CliRunner().invoke(app, [*arguments, "--home", str(home)])


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.delenv("SAWYER_DB", raising=False)
    home = Home.find(tmp_path / "home").ensure()
    with FeedbackStore.open(home.db_url) as store:
        store.add_vote(ask(store), "rlf", edited="Gladly! Ten minutes, then cold water.")
        store.add_vote(ask(store), "bad")
    return home.root


def test_stats_command(home):
    assert "votes" in run("stats", home=home).output
    numbers = json.loads(run("stats", "--json", home=home).output)
    assert numbers["choices"] == {"base": 0, "sft": 0, "rlf": 1, "tie": 0, "bad": 1}
    assert numbers["training_rows"] == {"preference": 3, "kto": 3, "sft": 1}


@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
@pytest.mark.parametrize(
    ("form", "columns", "count"),
    [
        ("preference", ["prompt", "chosen", "rejected"], 3),
        ("kto", ["prompt", "completion", "label"], 3),
        ("sft", ["messages"], 1),
    ],
)
def test_export_command_writes_what_datasets_reads(home, tmp_path, monkeypatch, suffix, form, columns, count):
    from datasets import load_dataset

    out = tmp_path / f"{form}.{suffix}"
    result = run("export", str(out), "--format", form, home=home)
    assert result.exit_code == 0 and f"{count} {form} rows" in result.output
    reader = "json" if suffix == "jsonl" else "parquet"
    rows = load_dataset(reader, data_files=str(out), split="train", cache_dir=str(tmp_path / "cache"))
    assert rows.column_names == columns and len(rows) == count
    text_column = columns[1] if len(columns) > 1 else "messages"
    assert rows[0][text_column][-1]["role"] == "assistant"
    if form == "preference":
        assert rows[0]["prompt"] == QUESTION and rows[0]["chosen"][0]["content"] == ANSWERS["rlf"]
    if form == "kto":
        assert set(rows["label"]) == {False}


def test_export_refuses_what_would_go_wrong(home, tmp_path):
    out = tmp_path / "pairs.jsonl"
    out.write_text("mine\n")
    assert isinstance(run("export", str(out), home=home).exception, UsageError)
    assert out.read_text() == "mine\n"
    assert run("export", str(out), "--overwrite", home=home).exit_code == 0
    for arguments in (["a.csv"], ["a.jsonl", "--format", "dpo"]):
        assert isinstance(run("export", *arguments, home=home).exception, UsageError)
    missing = run("export", str(tmp_path / "none" / "a.jsonl"), home=home).exception
    assert isinstance(missing, StoreError) and "could not be written" in str(missing)


def test_nothing_to_export_is_said_and_leaves_no_file(store, tmp_path):
    with pytest.raises(StoreError, match="nothing to export as preference yet"):
        export(store, tmp_path / "pairs.parquet", "preference")
    assert not list(tmp_path.glob("*pairs*"))
