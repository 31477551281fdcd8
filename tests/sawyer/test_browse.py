"""Votes by a filter, on both databases: what is asked for, decided there and the same as by reading every vote."""

import pytest

from sawyer.store import FeedbackStore
from sawyer.store import browse as browsing
from sawyer.store.browse import count_standing, standing_votes
from sawyer.types import FeedbackFilter

ANSWERS = ("Brot ist gut.", "Ein Käse für dich.", "Nichts.")


@pytest.fixture(params=["sqlite", "postgresql"])
def store(request, tmp_path):
    named = f"sqlite:///{tmp_path / 'votes.db'}"
    with FeedbackStore.open(named if request.param == "sqlite" else request.getfixturevalue("postgres")) as opened:
        yield opened


def ask(store, question, blind):
    turn = store.add_turn(store.add_conversation(), [{"role": "user", "content": question}])
    for place, stage in enumerate(("base", "sft", "rlf")):
        sampling = {"pane": "ABC"[place]} if blind else {}
        store.add_completion(turn, stage, prompt_text="", text=ANSWERS[place], tokens=3, sampling=sampling)
    return turn


@pytest.fixture
def cast(store):
    """Ids of five votes by what is said of them."""
    quoted, strasse = 'Was "heißt" das\nhier?', "STRASSE 100%?"
    return {
        "plain": store.add_vote(ask(store, "Cheese?", False), "rlf", "ann", comment="So ÜBEL!").vote_id,
        "blind": store.add_vote(ask(store, "Bread_1?", True), "A", "bob", name="Bobby").vote_id,
        "edited": store.add_vote(ask(store, quoted, False), "sft", "cat", edited="Ganz neu geschrieben").vote_id,
        "tie": store.add_vote(ask(store, strasse, True), "tie", "dan").vote_id,
        "bad": store.add_vote(ask(store, "Ärger?", False), "bad").vote_id,
    }


FINDINGS = {"too_fast": ("blind", "bad"), "duplicate": ("plain",)}
CASES = [
    ({}, ("plain", "blind", "edited", "tie", "bad")),
    ({"blind": True}, ("blind", "tie")),
    ({"blind": False}, ("plain", "edited", "bad")),
    ({"finding": "too_fast"}, ("blind", "bad")),
    ({"finding": "disagrees"}, ()),
    ({"finding": "too_fast", "blind": True}, ("blind",)),
    ({"text": "cheese"}, ("plain",)),
    ({"text": "übel"}, ("plain",)),  # a comment, another case, beyond ASCII
    ({"text": "ÄRGER"}, ("bad",)),  # a question, which is JSON in the database
    ({"text": 'was "HEISST"'}, ()),
    ({"text": 'was "HEIßT" das\nhier'}, ("edited",)),  # what JSON writes otherwise
    ({"text": "neu GESCHRIEBEN"}, ("edited",)),
    ({"text": "bobby"}, ("blind",)),
    ({"text": "käse für"}, ("plain", "blind", "edited", "tie", "bad")),  # an answer
    ({"text": "100%"}, ("tie",)),  # no wildcards
    ({"text": "d_1"}, ("blind",)),
    ({"text": "d%1"}, ()),
    ({"text": "käse", "choice": "bad"}, ("bad",)),
    ({"edited": True}, ("edited",)),
    ({"voter": "ann", "state": "pending"}, ("plain",)),
]


@pytest.mark.parametrize(("wanted", "expected"), CASES, ids=[str(case[0]) for case in CASES])
def test_what_a_filter_shows(store, cast, wanted, expected):
    findings = {cast[name]: [f for f, names in FINDINGS.items() if name in names] for name in cast}
    if store.database.is_sqlite and wanted.get("text") == 'was "HEISST"':
        expected = ("edited",)  # casefold: ß is ss. PostgreSQL's lower() knows no such thing
    asked = FeedbackFilter.model_validate(wanted)
    shown = [vote.id for vote, _ in standing_votes(store, asked, findings)]
    assert shown == [cast[name] for name in expected]
    assert count_standing(store, asked, findings) == len(expected)
    assert [v.id for v, _ in standing_votes(store, asked, findings, newest_first=True)] == shown[::-1]


def test_more_findings_than_a_statement_takes_parameters(store, cast):
    findings = {f"unknown-{number}": ["too_fast"] for number in range(70_000)} | {cast["tie"]: ["too_fast"]}
    assert count_standing(store, FeedbackFilter(finding="too_fast"), findings) == 1


def test_no_vote_is_read_to_be_left_out(store, monkeypatch):
    for number in range(30):
        store.add_vote(ask(store, f"Question {number}?", blind=number % 2 == 0), "tie")
    read = []

    def counted(connection, query, real=browsing.queries.with_turns):
        read.extend(found := real(connection, query))
        return found

    monkeypatch.setattr(browsing.queries, "with_turns", counted)
    (shown,) = standing_votes(store, FeedbackFilter(text="question 29?", blind=False))
    assert read == [shown]
