"""The board from ballots and from a store: what counts, for whom, and what is said where nothing can be."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import stats
from sqlalchemy import insert
from typer.testing import CliRunner

from sawyer.cli.feedback import app
from sawyer.home import Home
from sawyer.preferences import BallotBox, ballots, make_board
from sawyer.preferences.comparisons import compare
from sawyer.preferences.position import position_bias
from sawyer.recipe import Recipe
from sawyer.rounds import Diary, RoundBook
from sawyer.store import FeedbackStore
from sawyer.store.ids import new_id
from sawyer.store.schema import reviews
from sawyer.types import Board, BoardQuery, RoundSummary
from tests.sawyer.preference_makers import ballot

STAGES = ("base", "sft", "rlf")
DAY = 24 * 3600.0


def board(found, rounds=(), **query):
    return make_board(found, BoardQuery(**query), updated=1.0, rounds=rounds)


def records(found, contestants=STAGES, by="stage"):
    """(first, second, score) of what the votes compare."""
    table = compare(found, range(len(found)), contestants, by)
    rows = zip(table.first, table.second, table.score, strict=True)
    return [(contestants[first], contestants[second], float(score)) for first, second, score in rows]


def test_one_of_three_wins_twice():
    assert records([ballot("sft")]) == [("base", "sft", 0), ("sft", "rlf", 1)]


def test_a_ranking_orders_every_pair_and_a_partial_one_says_nothing_of_the_rest():
    assert records([ballot("rlf", ranks=(1, 2, 0))]) == [("base", "sft", 1), ("base", "rlf", 0), ("sft", "rlf", 0)]
    assert len(records([ballot("rlf", ranks=(1, 1, 0))])) == 2


def test_ties_are_ties_among_all_and_bad_compares_nothing():
    assert records([ballot("tie")]) == [("base", "sft", 0.5), ("base", "rlf", 0.5), ("sft", "rlf", 0.5)]
    assert records([ballot("bad")]) == []


def test_equal_texts_are_tied_whatever_was_clicked():
    assert records([ballot("rlf", texts=(1, 2, 2))]) == [("base", "rlf", 0), ("sft", "rlf", 0.5)]


def test_versions_of_one_stage_compete_as_versions_alone():
    found = [ballot("rlf@3", ("rlf@2", "rlf@3", "base"))]
    assert records(found) == [("base", "rlf", 0)]
    versions = ("base", "rlf@2", "rlf@3")
    assert records(found, versions, "version") == [("rlf@2", "rlf@3", 0), ("base", "rlf@3", 0)]
    many = board([*found, ballot("sft@10", ("sft@10", "sft@9"))], by="version")
    assert many.contestants == ["base", "sft@9", "sft@10", "rlf@2", "rlf@3"], "as numbers, not as text"


def test_a_board_by_hand():
    found = [ballot("rlf", voter="ada", created=DAY), ballot("rlf", voter="ada", created=DAY)]
    found += [
        ballot("base", voter="bob", created=2 * DAY),
        ballot("tie", created=2 * DAY),
        ballot("bad", created=2 * DAY),
    ]
    made = board(found)
    assert (made.votes, made.voters) == (5, 4), "each anonymous conversation is taken for one person"
    assert made.choices == {"base": 1, "sft": 0, "rlf": 2, "tie": 1, "bad": 1}
    first = made.pairs[0]
    assert [(pair.first, pair.second) for pair in made.pairs] == [("base", "sft"), ("base", "rlf"), ("sft", "rlf")]
    assert (first.wins, first.ties, first.losses, first.n, first.win_rate.value) == (1, 1, 0, 2, 0.75)
    second = made.pairs[1]
    assert (second.wins, second.ties, second.losses, second.win_rate.value) == (1, 1, 2, 0.375)
    assert [(day.day, day.n, day.choices) for day in made.days] == [
        ("1970-01-02", 2, {"rlf": 2}),
        ("1970-01-03", 3, {"bad": 1, "base": 1, "tie": 1}),
    ]
    assert made.ladder.strengths == [] and "4 of the 5" in (made.ladder.note or "")


def test_an_empty_board_says_so_everywhere():
    made = board([])
    assert (made.votes, made.contestants, made.pairs, made.days, made.rewards) == (0, [], [], [], [])
    assert made.ladder.note and made.ladder_length_controlled.note and made.position.note and made.agreement.note


def test_the_query_chooses_votes():
    found = [ballot("rlf", blind=blind, created=float(at)) for at, blind in enumerate((True, False, True, False))]
    assert [board(found, **query).votes for query in ({}, {"blind": True}, {"blind": False})] == [4, 2, 2]
    assert board(found, since=1, until=3).votes == 2, "until is excluded"


def test_few_voters_speak_for_themselves():
    """Forty conversations of one person: how sure the person is, with a word that it is one."""
    made = board([ballot(choice, voter="ada") for choice in ("rlf", "rlf", "sft", "base") * 10])
    assert made.voters == 1 and made.ladder.strengths and "those of one voter" in (made.ladder.note or "")
    five = board([ballot(choice, voter=f"{who}") for who in range(5) for choice in ("rlf", "rlf", "sft", "base")])
    assert "voter" not in (five.ladder.note or "")


def test_votes_of_one_person_make_no_small_interval():
    """The same 120 votes, of 120 people and of 6 who each want one thing."""
    choices = [choice for choice in ("rlf", "rlf", "sft", "rlf", "base", "rlf") for _ in range(20)]
    of_many = board([ballot(choice) for choice in choices])
    of_six = board([ballot(choice, voter=str(place // 20)) for place, choice in enumerate(choices)])
    assert of_many.ladder.strengths[0].apart_from == ["base", "sft"] and of_many.ladder.separable
    assert not of_six.ladder.separable
    wide, narrow = (made.pairs[1].win_rate for made in (of_six, of_many))
    assert wide.value == narrow.value and wide.high - wide.low > 3 * (narrow.high - narrow.low)


def test_positions_against_scipys_chi_square():
    found = [ballot("rlf", blind=True, place=place) for place in [0] * 30 + [1] * 18 + [2] * 12]
    bias = position_bias([*found, ballot("tie", blind=True), ballot("rlf", place=0)])
    assert (bias.n, bias.counts) == (60, [30, 18, 12]), "blind votes for one reply alone"
    assert bias.p == pytest.approx(stats.chisquare([30, 18, 12]).pvalue)
    few = position_bias(found[:14])
    assert few.p is None and "4.7 preferred panes are expected" in (few.note or "")
    assert "No blind votes" in (position_bias([ballot("rlf")]).note or "")


def test_people_who_vote_on_the_same_turn_saw_the_same_order():
    """Thirty people before one screen who agree prove no liking for a place: it is one shuffle."""
    together = [ballot("rlf", blind=True, place=0, turn=f"t{turn}") for turn in range(3) for _ in range(30)]
    mixed = [ballot("rlf", ("sft", "rlf"), blind=True, place=place) for place in (0, 1) * 5]
    assert position_bias(mixed).counts == [5, 5] and position_bias(mixed).p == pytest.approx(1)
    p = position_bias(together).p
    assert p is not None and 0.01 < p < 0.1, "three shuffles of three: nine to one"
    assert (position_bias(together + mixed).p or 0) > 0.01


def test_rewards_by_hand_each_reply_once():
    one = ballot("rlf", rewards=(-1.0, 0.0, 2.0))
    other = ballot("rlf", rewards=(-2.0, None, 1.0))
    made = board([one, replace(one, voter="bob"), other])
    base, sft, rlf = made.rewards
    assert (base.n, base.mean, base.median, base.deviation) == (2, -1.5, -1.5, pytest.approx(np.sqrt(0.5)))
    assert (sft.n, sft.deviation) == (1, None) and sum(sft.counts) == 1
    assert base.edges == sft.edges == rlf.edges and (base.edges[0], base.edges[-1]) == (-2.0, 2.0)
    assert len(base.counts) == len(base.edges) - 1 and sum(base.counts) == 2


def test_agreement_by_hand():
    right, wrong = ballot("rlf", rewards=(0.0, 1.0, 2.0)), ballot("rlf", rewards=(3.0, 2.0, 2.0))
    agreement = board([right, right, wrong, ballot("tie", rewards=(0.0, 1.0, 2.0)), ballot("rlf")]).agreement
    assert agreement.n == 5, "twice two, and one of the third: the other's rewards are equal"
    assert agreement.share is not None and agreement.share.value == 0.8
    assert board([ballot("rlf")]).agreement.note and board([ballot("rlf", rewards=(1.0, 1.0, 1.0))]).agreement.note


def test_every_field_is_documented():
    text = (Path(__file__).resolve().parents[2] / "docs" / "board.md").read_text(encoding="utf-8")
    names = set()
    for model in (Board, BoardQuery):
        schema = model.model_json_schema()
        for part in [schema, *schema.get("$defs", {}).values()]:
            names |= set(part["properties"])
    assert {name for name in names if f"`{name}`" not in text} == set()


# From a store


@pytest.fixture(params=["sqlite", "postgresql"])
def store(request, tmp_path):
    url = f"sqlite:///{tmp_path / 'sawyer.db'}" if request.param == "sqlite" else request.getfixturevalue("postgres")
    with FeedbackStore.open(url) as opened:
        yield opened


def ask(store, panes=None, **more):
    """A turn answered by three stages, in letters where ``panes`` are given."""
    turn = store.add_turn(store.add_conversation(), [{"role": "user", "content": "Hi"}])
    for place, stage in enumerate(STAGES):
        sampling = {"pane": panes[place]} if panes else {}
        fields = {
            "prompt_text": "Hi",
            "text": f"{stage}!",
            "tokens": 3 + place,
            "finish_reason": "stop",
            "reward": place,
        }
        store.add_completion(turn, stage, adapter_version=f"{stage}@1", sampling=sampling, **fields | more)
    return turn


def review(store, vote_id, state):
    row = {"id": new_id(), "vote_id": vote_id, "reviewer": "eve", "state": state, "created": 1.0}
    with store._database.write() as connection:
        connection.execute(insert(reviews), row)


def counting(store):
    return [(vote.voter, vote.choice) for vote, _ in store.counting_votes()]


def test_what_counts_in_a_store(store):
    turn = ask(store)
    for voter, choice in (("ada", "base"), ("ada", "rlf"), ("bob", "sft"), ("cyd", "tie"), (None, "bad")):
        vote = store.add_vote(turn, choice, voter=voter)
    store.undo_vote(turn, "bob")
    assert counting(store) == [("ada", "rlf"), ("cyd", "tie"), (None, "bad")]
    review(store, vote.vote_id, "rejected")
    assert counting(store) == [("ada", "rlf"), ("cyd", "tie")]
    review(store, vote.vote_id, "pending")
    assert counting(store)[-1] == (None, "bad"), "the newest review counts"


def test_ballots_of_a_store(store):
    open_turn, blind_turn = ask(store), ask(store, panes="CAB")
    store.add_vote(open_turn, "rlf", voter="ada", ranking=["rlf", "base"], position=2)
    store.add_vote(blind_turn, "sft", position=0)
    cut_off = ask(store, finish_reason="cancelled")
    store.add_vote(cut_off, "sft")
    first, second, third = ballots(store.counting_votes())
    assert (first.voter, first.blind, second.blind, second.place, second.panes) == ("ada", False, True, 0, 3)
    assert [(reply.version, reply.tokens, reply.reward, reply.rank) for reply in first.replies] == [
        ("base@1", 3, 0.0, 1), ("sft@1", 4, 1.0, 2), ("rlf@1", 5, 2.0, 0)
    ]  # fmt: skip
    assert third.replies == () and third.choice("version") == "sft@1", "it counts as a vote and compares nothing"
    made = board([first, second, third], by="version")
    assert made.choices["sft@1"] == 2 and made.pairs[0].n == 2


def test_a_ballot_box_reads_on_and_notices_every_change(store):
    box, turns = BallotBox(store), [ask(store) for _ in range(3)]

    def same():
        revision, found = box.ballots()
        assert revision == store.revision()
        assert {each.turn + str(each.voter): each for each in found} == {
            each.turn + str(each.voter): each for each in ballots(store.counting_votes())
        }
        return len(found)

    assert same() == 0
    first = store.add_vote(turns[0], "rlf", voter="ada")
    assert same() == 1
    store.add_vote(turns[1], "base")
    store.add_vote(turns[0], "sft", voter="ada")
    assert same() == 2
    store.undo_vote(turns[1])
    last = store.add_vote(turns[2], "bad", voter="bob")
    assert same() == 2
    review(store, last.vote_id, "rejected")
    assert same() == 1
    store.undo_vote(turns[0], "ada")
    assert same() == 0
    assert first.created


def test_the_board_in_the_terminal(sawyer_home):
    with FeedbackStore.open(Home.find(None).ensure().db_url) as opened:
        for number in range(12):
            opened.add_vote(ask(opened, panes="ABC"), ("rlf", "sft", "base", "rlf")[number % 4], position=number % 3)
    for name, state in (("nano", "promoted"), ("other", "refused")):
        book = RoundBook(Home.find(None), name)
        with book.lock.held():
            Diary(
                book,
                book.create(
                    Recipe.model_validate({"name": name, "model": {"backbone": "nowhere"}}), "ppo", dry_run=False
                ),
            ).end(state, [])
    run = CliRunner().invoke(app, ["board", "--blind"])
    assert run.exit_code == 0, run.output
    for text in (
        "12 blind votes of 12 voters",
        "Win rates",
        "are not separable yet",
        "Votes a day",
        "expected at a place",
        "Rounds",
        "promoted",
    ):
        assert text in run.output
    found = Board.model_validate(json.loads(CliRunner().invoke(app, ["board", "--by", "version", "--json"]).output))
    assert {(each.recipe, each.state) for each in found.rounds} == {("nano", "promoted"), ("other", "refused")}
    assert found.contestants == ["base@1", "sft@1", "rlf@1"] and found.agreement.n == 24
    empty = CliRunner().invoke(app, ["board", "--until", "2020-01-01"])
    assert "0 votes of 0 voters" in empty.output
    for wrong in (["--by", "stages"], ["--since", "2026-02-01", "--until", "2026-01-01"]):
        refused = CliRunner().invoke(app, ["board", *wrong])
        assert refused.exit_code != 0 and ("Allowed" in str(refused.exception) or "Swap" in str(refused.exception))


def test_rounds_are_shown_as_they_are():
    summary = RoundSummary(number=1, recipe="nano", method="ppo", state="refused", created=1.0, reasons=["Too long."])
    assert board([], rounds=[summary]).rounds == [summary]
