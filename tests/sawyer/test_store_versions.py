"""Votes by version, consent, reviews, and the upgrade from the first schema with data."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from alembic.operations import Operations
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine, event, text

from sawyer.errors import StoreError
from sawyer.store import FeedbackStore, Invalid, NotFound, panes_of
from sawyer.store.database import MIGRATIONS, VERSION_TABLE
from tests.sawyer.test_store import ask, store, url  # noqa: F401

QUESTION = [{"role": "user", "content": "Which is it?"}]


def versions(store, *refs, panes=None):  # noqa: F811
    """A turn answered by these versions, each answer being its version's name; `panes` are what they were called."""
    turn = store.add_turn(store.add_conversation(), QUESTION)
    for place, ref in enumerate(refs):
        sampling = {"pane": panes[place]} if panes else {}
        stage, version = ref.split("@")[0], ref if "@" in ref else None
        store.add_completion(
            turn, stage, prompt_text="", text=ref, tokens=1, adapter_version=version, sampling=sampling
        )
    return turn


def sides(store):  # noqa: F811
    return sorted((row["chosen"], row["rejected"]) for row in store.pairs())


def test_two_versions_of_a_stage_are_two_answers(store):  # noqa: F811
    turn = versions(store, "rlf@2", "rlf@3", panes=["rlf@2", "rlf@3"])
    assert list(panes_of(store.turn(turn))) == ["rlf@2", "rlf@3"]
    store.add_vote(turn, "rlf@3", ranking=["rlf@3", "rlf@2"])
    (vote,) = store.votes()
    texts = {answer.id: answer.text for answer in store.turn(turn).completions}
    assert (vote.choice, texts[vote.completion_id]) == ("rlf", "rlf@3")
    assert [texts[answer] for answer in vote.ranking] == ["rlf@3", "rlf@2"] and len(vote.shown) == 2
    assert sides(store) == [("rlf@3", "rlf@2")]
    with pytest.raises(Invalid, match="means 2 answers"):
        store.add_vote(turn, "rlf")


def test_panes_are_letters_stages_or_versions(store):  # noqa: F811
    def names(*refs, panes=None):
        return list(panes_of(store.turn(versions(store, *refs, panes=panes))))

    assert names("rlf@10", "sft@2", "base") == ["base", "sft", "rlf"]
    assert names("rlf@10", "sft@2", "rlf@9") == ["sft", "rlf@9", "rlf@10"]
    assert names("rlf@3", "base@1", "sft@2", panes="BCA") == ["A", "B", "C"]
    assert names("sft@2", "rlf@2", panes=["sft@2", "rlf@2"]) == ["sft@2", "rlf@2"]


def test_an_answer_made_anew_replaces_the_one_in_its_pane(store):  # noqa: F811
    turn = versions(store, "rlf@2", "sft@1", "rlf@3", panes="ABA")
    assert {pane: answer.text for pane, answer in panes_of(store.turn(turn)).items()} == {"A": "rlf@3", "B": "sft@1"}
    turn = versions(store, "rlf@2", "sft@1", "rlf@3", panes=["rlf", "sft", "rlf"])
    assert [answer.text for answer in panes_of(store.turn(turn)).values()] == ["sft@1", "rlf@3"]


def test_blind_votes_by_letter_and_a_repeat_after_an_answer_was_made_anew(store):  # noqa: F811
    turn = versions(store, "rlf@2", "rlf@3", panes="AB")
    request = {"turn_id": turn, "choice": "B", "ranking": ["B", "A"], "idempotency_key": "k"}
    first = store.add_vote(**request)
    store.add_completion(turn, "rlf", prompt_text="", text="anew", tokens=1, adapter_version="rlf@3",
                         sampling={"pane": "B"})  # fmt: skip
    assert store.add_vote(**request).vote_id == first.vote_id
    assert sides(store) == [("rlf@3", "rlf@2")]  # what was on the screen when the vote was cast
    store.add_vote(turn, "B")
    assert sides(store) == [("anew", "rlf@2")]


def test_without_consent_a_vote_counts_and_teaches_nothing(store):  # noqa: F811
    turn = ask(store)
    store.add_vote(turn, "rlf", "ada", name="Ada", consent=False, edited="Mine.")
    store.add_rating(store.turn(turn).completions[0].id, False, "ada", consent=False)
    assert (store.votes()[0].name, store.votes()[0].consent, store.stats()["votes"]) == ("Ada", False, 1)
    assert list(store.pairs()) == list(store.kto_rows()) == list(store.sft_rows()) == []


def test_a_thumb_taken_back(store):  # noqa: F811
    answer = store.turn(ask(store)).completions[0].id
    store.add_rating(answer, True, "ada")
    store.add_rating(answer, None, "ada", idempotency_key="k")
    assert not store.add_rating(answer, None, "ada", idempotency_key="k").created
    assert store.stats()["ratings"] == {"up": 0, "down": 0} and list(store.kto_rows()) == []


def test_the_newest_review_decides_what_counts_and_what_teaches(store):  # noqa: F811
    first, second = (store.add_vote(ask(store), "rlf", "ada").vote_id for _ in range(2))
    assert len(list(store.pairs())) == 4
    assert store.review([first, first], "rejected", reviewer="k1", note="spam") == 1
    assert [vote.id for vote in store.votes()] == [second] and store.stats()["votes"] == 1
    store.review([second], "flagged")
    assert store.stats()["votes"] == 1 and list(store.pairs()) == []
    store.review([first, second], "approved")
    assert len(list(store.pairs())) == 4
    assert [vote.state for vote in store.votes(newest_only=False)] == ["approved", "approved"]
    with pytest.raises(NotFound, match="None was reviewed"):
        store.review([first, "nope"], "rejected")
    with pytest.raises(Invalid, match="Unknown review state 'accepted'"):
        store.review([first], "accepted")
    assert len(list(store.pairs())) == 4


def first_schema(address: str) -> None:
    """A database as the first SAWYER left it, with a vote that ranks stages, a thumb and a review."""
    engine = create_engine(address)
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", lambda raw, _: raw.execute("PRAGMA foreign_keys=ON"))
    scripts = ScriptDirectory(str(MIGRATIONS))
    options = {"version_table": VERSION_TABLE, "transactional_ddl": True}
    options["fn"] = lambda found, context: scripts._upgrade_revs("0001", found)
    with engine.begin() as connection:
        context = MigrationContext.configure(connection, opts=options)
        with Operations.context(context):
            context.run_migrations()
        for statement in (
            "INSERT INTO conversations (id, created) VALUES ('c', 1)",
            "INSERT INTO turns (id, conversation_id, messages, created)"
            """ VALUES ('t', 'c', '[{"role": "user", "content": "hi"}]', 1)""",
            *(
                "INSERT INTO completions (id, turn_id, stage, prompt_text, sampling, text, tokens, created)"
                f" VALUES ('{stage}-id', 't', '{stage}', '', '{{}}', '{stage}', 1, 1)"
                for stage in ("base", "sft", "rlf")
            ),
            "INSERT INTO votes (id, turn_id, voter, choice, completion_id, shown, ranking, created) VALUES ('v', 't',"
            """ 'ada', 'rlf', 'rlf-id', '["base-id", "sft-id", "rlf-id"]', '["rlf", "base"]', 2)""",
            "INSERT INTO votes (id, turn_id, voter, choice, shown, created) VALUES ('w', 't', 'bob', 'tie', '[]', 3)",
            "INSERT INTO ratings (id, completion_id, voter, up, created) VALUES ('r', 'sft-id', 'ada', true, 2)",
            "INSERT INTO reviews (id, vote_id, reviewer, state, created) VALUES ('a', 'v', '', 'accepted', 4)",
            "INSERT INTO reviews (id, vote_id, reviewer, state, created) VALUES ('b', 'w', '', 'rejected', 4)",
        ):
            connection.execute(text(statement.replace(":", r"\:")))
    engine.dispose()


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_the_first_schema_is_upgraded_with_its_data(request, kind):
    address = request.getfixturevalue("url" if kind == "sqlite" else "postgres")
    first_schema(address)
    with FeedbackStore.open(address) as store:  # noqa: F811
        (vote,) = store.votes()
        assert (vote.ranking, vote.state, vote.consent, vote.name) == (["rlf-id", "base-id"], "approved", True, None)
        assert sides(store) == [("base", "sft"), ("rlf", "base"), ("rlf", "sft")]
        assert store.stats()["ratings"] == {"up": 1, "down": 0}
        store.add_rating("sft-id", None, "ada")
        store.review(["w"], "pending")
        store.add_vote("t", "sft", "cyd")
        assert [v.seq for v in store.votes()] == [1, 2, 3] and store.stats()["ratings"] == {"up": 0, "down": 0}
        with store.database.read() as connection:
            found = connection.execute(text("SELECT max(seq) FROM ratings")).scalar()
        assert found == 2


def test_writes_that_wait_together_share_a_transaction_and_fail_alone(url):  # noqa: F811
    with FeedbackStore.open(url) as store:  # noqa: F811
        turn, begun, go = ask(store), threading.Event(), threading.Event()
        commits = []
        event.listen(store.database.engine, "commit", commits.append)

        def hold(_):
            begun.set()
            go.wait(10)

        def vote(number):
            return store.add_vote(turn, "rlf" if number else "rlf@9", voter=f"v{number}")

        with ThreadPoolExecutor(8) as threads:
            threads.submit(store._group.write, hold)
            begun.wait(10)
            votes = [threads.submit(vote, number) for number in range(6)]
            while len(store._group._waiting) < 6:
                time.sleep(0.001)
            go.set()
        assert [type(each.exception()) for each in votes] == [NotFound] + [type(None)] * 5
        assert len(store.votes()) == 5 and len(commits) < 6


def test_a_write_that_waits_too_long_is_told_so_and_not_stored(url):  # noqa: F811
    with FeedbackStore.open(url, busy_seconds=0.05) as store:  # noqa: F811
        turn = ask(store)
        with store._group._turn, pytest.raises(StoreError, match="is busy"):
            store.add_vote(turn, "rlf")
        store.add_vote(turn, "sft")
        assert [vote.choice for vote in store.votes()] == ["sft"]
