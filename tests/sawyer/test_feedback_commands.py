"""`sawyer feedback` from the terminal: review, voters, forget, filtered exports, backup and restore."""

import json
import sqlite3

import pytest
from typer.testing import CliRunner

from sawyer.cli.feedback import app
from sawyer.errors import StoreError, UsageError
from sawyer.home import Home
from sawyer.store import FeedbackStore
from tests.serve.test_admin import cast


@pytest.fixture
def home(tmp_path):
    return Home.find(tmp_path / "home").ensure()


@pytest.fixture
def votes(home):
    with FeedbackStore.open(home.db_url) as store:
        return [
            cast(store, "How do I boil an egg?", edited="Gently.", name="[red]Ada[/red]\x1b[31m"),
            cast(store, "Why is the sky blue?", voter="bob", later=0.0),
            cast(store, "Tell me a joke", "base", voter="bob"),
        ]


def run(home, *arguments, given=None):
    return CliRunner().invoke(app, [*arguments, "--home", str(home.root)], input=given)


def states(home):
    with FeedbackStore.open(home.db_url) as store:
        return [vote.state for vote in store.votes(newest_only=False)]


def test_votes_are_listed_as_plain_text(home, votes):
    shown = run(home, "review", "list").output
    assert all(vote in shown for vote in votes) and "[red]Ada[/red]" in shown and "\x1b[31m" not in shown
    fast = run(home, "review", "list", "--finding", "too_fast").output
    assert votes[1] in fast and votes[0] not in fast and "1 votes shown" in fast
    assert "No votes match" in run(home, "review", "list", "--text", "nowhere").output


def test_deciding_by_id_and_by_filter(home, votes):
    assert "1 votes approved" in run(home, "review", "approve", votes[0], "--note", "fine").output
    assert run(home, "review", "reject", "--voter", "bob", given="n\n").exit_code == 1
    assert states(home) == ["approved", "pending", "pending"]
    assert "2 votes rejected" in run(home, "review", "reject", "--voter", "bob", "--yes").output
    assert states(home) == ["approved", "rejected", "rejected"]
    assert "1 votes flagged" in run(home, "review", "flag", "--finding", "too_fast", "--yes").output
    assert states(home) == ["approved", "flagged", "rejected"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["review", "approve"], "one of the two"),
        (["review", "approve", "x", "--voter", "bob"], "one of the two"),
        (["review", "approve", "nope"], "0 votes have an id that begins with 'nope'"),
        (["review", "list", "--state", "accepted"], "--state 'accepted'"),
        (["export", "x.jsonl", "--split", "test"], "Allowed: all, train, held_out"),
    ],
)
def test_wrong_use(home, votes, arguments, message):
    error = run(home, *arguments).exception
    assert isinstance(error, UsageError) and message in str(error)


def test_voters_and_forgetting(home, votes, tmp_path):
    assert "too_fast" in run(home, "voters").output
    out = tmp_path / "pairs.jsonl"
    assert run(home, "export", str(out), "--trusted").output.startswith("5 preference rows")
    assert run(home, "forget", "bob", given="n\n").exit_code == 1
    done = run(home, "forget", "bob", "--yes").output
    assert "Removed 2 votes, 0 thumbs and 2 conversations" in done and "pairs.jsonl" in done.replace("\n", "")
    assert states(home) == ["pending"] and len(out.read_text().splitlines()) == 3


def test_exports_by_filter_and_split(home, votes, tmp_path):
    def rows(*arguments):
        out = tmp_path / "out.jsonl"
        done = run(home, "export", str(out), "--overwrite", *arguments)
        return len(out.read_text().splitlines()) if done.exit_code == 0 else str(done.exception)

    assert (rows(), rows("--voter", "bob"), rows("--edited"), rows("--choice", "base")) == (7, 4, 3, 2)
    assert rows("--split", "train", "--share", "0.9") + rows("--split", "held_out", "--share", "0.9") == 7
    assert "nothing to export" in rows("--state", "approved")


def test_backup_and_restore(home, votes, tmp_path):
    out = tmp_path / "copy.db"
    assert "3 votes" in run(home, "backup", str(out)).output
    assert isinstance(run(home, "backup", str(out)).exception, UsageError)
    run(home, "forget", "bob", "--yes")
    done = run(home, "restore", str(out))
    assert done.exit_code == 0 and len(states(home)) == 3
    (kept,) = home.root.glob("sawyer.db.before-*")
    with sqlite3.connect(kept) as before:
        assert before.execute("SELECT count(*) FROM votes").fetchone() == (1,)


def test_what_is_no_backup_is_refused_and_the_database_stays(home, votes, tmp_path):
    other, garbage = tmp_path / "other.db", tmp_path / "garbage.db"
    with sqlite3.connect(other) as database:
        database.execute("CREATE TABLE bookmarks (url TEXT)")
    garbage.write_bytes(b"Dear diary" * 500)
    for file, message in ((other, "not a database of SAWYER's"), (garbage, "not a database")):
        error = run(home, "restore", str(file)).exception
        assert isinstance(error, StoreError) and message in str(error)
    assert isinstance(run(home, "restore", str(tmp_path / "none")).exception, UsageError)
    assert len(states(home)) == 3


def test_postgresql_is_backed_up_by_its_own_program(home, monkeypatch, tmp_path):
    monkeypatch.setenv("SAWYER_DB", "postgresql://me:secret@host/db")
    error = str(run(home, "backup", str(tmp_path / "x")).exception)
    assert "pg_dump --format=custom" in error and "@host/db" in error and "secret" not in error


def test_stats_name_the_rows_that_training_gets(home, votes):
    numbers = json.loads(run(home, "stats", "--json").output)
    assert numbers["training_rows"] == {"preference": 7, "kto": 0, "sft": 1}
