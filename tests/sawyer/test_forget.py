"""Redaction, the ledger of derived files, and forgetting a person everywhere."""

import json

import pytest

from sawyer.errors import StoreError
from sawyer.store import Invalid, NotFound
from sawyer.store.export import export
from sawyer.store.files import read_rows
from sawyer.store.forget import forget
from sawyer.store.redact import redact
from tests.sawyer.test_store import store, url  # noqa: F401

SECRET = "Ottoline Zweig"


def ask(store, question, owner=None):  # noqa: F811
    """A turn and its conversation."""
    conversation = store.add_conversation(voter=owner)
    turn = store.add_turn(conversation, [{"role": "user", "content": question}])
    for stage in ("base", "sft", "rlf"):
        text = f"{stage} answers {question}"
        store.add_completion(turn, stage, prompt_text=f"### {question}", text=text, tokens=3, finish_reason="stop")
    return conversation, turn


def everything(store) -> str:  # noqa: F811
    """All that the database holds, as text."""
    found = []
    with store.database.read() as connection:
        for table in ("conversations", "turns", "completions", "votes", "ratings", "reviews", "derived_rows"):
            found += [str(tuple(row)) for row in connection.exec_driver_sql(f"SELECT * FROM {table}")]
    return "\n".join(found)


def test_redaction_reaches_questions_answers_prompts_edits_and_comments(store):  # noqa: F811
    conversation, turn = ask(store, f"Who is {SECRET}?")
    messages = [*store.turn(turn).messages, {"role": "assistant", "content": SECRET.upper()}]
    store.add_turn(conversation, [*messages, {"role": "user", "content": "Go on"}], parent=turn)
    store.add_vote(turn, "rlf", "ada", comment=f"I am {SECRET.lower()}", edited=f"{SECRET} ({SECRET}).")
    _, other = ask(store, SECRET)
    assert (
        redact(store, conversation, SECRET, reviewer="key", note="a name") == 12
    )  # 3 messages, 6 answers, 3 in the vote
    assert [message["content"] for message in store.turn(turn).messages] == ["Who is [redacted]?"]
    assert store.votes()[0].edited == "[redacted] ([redacted])."
    assert store.turn(other).messages[0]["content"] == SECRET
    with pytest.raises(NotFound):
        redact(store, "nope", SECRET)
    with pytest.raises(Invalid, match="At least 2"):
        redact(store, conversation, " a ")


@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
def test_forgetting_reaches_the_database_and_the_files(store, tmp_path, suffix):  # noqa: F811
    _, own = ask(store, f"I am {SECRET}.")
    _, named = ask(store, f"Still {SECRET}.", owner="ada")
    _, shared = ask(store, "How do I boil an egg?")
    store.add_vote(named, "rlf", "bob")
    vote = store.add_vote(own, "rlf", "ada", edited=f"{SECRET}!")
    store.review([vote.vote_id], "approved")
    store.add_vote(shared, "sft", "ada", comment=SECRET)
    store.add_vote(shared, "rlf", "bob")
    store.add_rating(store.turn(shared).completions[0].id, False, "ada")
    out = {form: tmp_path / f"{form}.{suffix}" for form in ("preference", "kto", "sft")}
    counts = {form: export(store, path, form) for form, path in out.items()}
    assert counts == {"preference": 9, "kto": 1, "sft": 1}
    done = forget(store, "ada")
    assert (done.votes, done.ratings, done.conversations) == (3, 1, 2)
    assert sorted(path.name for path in done.files) == sorted(path.name for path in out.values())
    left = everything(store)
    assert SECRET not in left and "ada" not in left and "egg" in left
    rows = {form: list(read_rows(path)) for form, path in out.items()}
    assert (len(rows["preference"]), rows["kto"], rows["sft"]) == (2, [], [])
    assert SECRET not in json.dumps(rows)
    assert [vote.voter for vote in store.votes()] == ["bob"]
    with pytest.raises(NotFound, match="nothing of a voter 'ada'"):
        forget(store, "ada")


def test_what_is_forgotten_is_not_left_in_the_file(url, tmp_path):  # noqa: F811
    from sawyer.store import FeedbackStore

    with FeedbackStore.open(url) as opened:
        _, turn = ask(opened, f"I am {SECRET}.")
        opened.add_vote(turn, "rlf", "ada")
        forget(opened, "ada")
        assert not any(SECRET.encode() in file.read_bytes() for file in tmp_path.glob("sawyer.db*"))


def test_a_sorted_file_keeps_its_other_rows_and_a_lost_one_is_no_obstacle(store, tmp_path):  # noqa: F811
    for voter in ("ada", "bob"):
        store.add_vote(ask(store, f"A question of {voter}?")[1], "rlf", voter)
    kept, lost = tmp_path / "kept.jsonl", tmp_path / "lost.jsonl"
    for path in (kept, lost):
        export(store, path, "preference")
    lines = kept.read_text().splitlines()
    kept.write_text("\n".join([*sorted(lines, reverse=True), '{"mine": 1}']) + "\n")
    lost.unlink()
    assert forget(store, "ada").files == [kept]
    assert kept.read_text().count("bob") > 0 and "ada" not in kept.read_text() and '"mine"' in kept.read_text()


def test_a_file_that_cannot_be_read_stops_before_the_database_changes(store, tmp_path):  # noqa: F811
    store.add_vote(ask(store, "Mine?")[1], "rlf", "ada")
    path = tmp_path / "pairs.jsonl"
    export(store, path, "preference")
    path.write_bytes(b"\xff\xfe no json")
    with pytest.raises(StoreError, match=r"pairs\.jsonl was made of this feedback and cannot be rewritten"):
        forget(store, "ada")
    assert len(store.votes()) == 1
    path.unlink()
    assert forget(store, "ada").votes == 1


def test_redaction_reaches_exports(store, tmp_path):  # noqa: F811
    conversation, turn = ask(store, f"Call {SECRET}")
    store.add_vote(turn, "rlf", "ada")
    path = tmp_path / "pairs.jsonl"
    export(store, path, "preference")
    redact(store, conversation, SECRET)
    assert SECRET not in path.read_text() and path.read_text().count("[redacted]") == 6
    assert forget(store, "ada").files == [path] and path.read_text() == ""


def test_the_card_says_what_is_in_the_file_and_names_nobody(store, tmp_path):  # noqa: F811
    store.add_vote(ask(store, "Mine?")[1], "rlf", "ada-lovelace")
    export(store, tmp_path / "pairs.parquet", "preference")
    card = (tmp_path / "pairs.card.md").read_text()
    assert "2 preference rows of 1 people and 1 questions" in card and "rlf over sft 1" in card
    assert "ada-lovelace" not in card and 'load_dataset("parquet", data_files="pairs.parquet"' in card


def test_nobody_cannot_be_forgotten(store):  # noqa: F811
    with pytest.raises(Invalid, match="Name a voter"):
        forget(store, " ")
