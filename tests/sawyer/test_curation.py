"""Findings on hand-made ballots, and which rows training gets."""

from dataclasses import replace

import pytest

from sawyer.curation import Ballot, Curation, analyse, ballot_of, curated_rows
from sawyer.curation import findings as find
from sawyer.curation.rows import capped, distinct, limit
from sawyer.curation.similarity import NearDuplicates, jaccard, normalised, pieces
from sawyer.data import is_held_out
from sawyer.store import Completion, FeedbackStore, Turn, Vote
from sawyer.types import FeedbackFilter

EGG = "How do I boil an egg so that the yolk stays soft?"
STAGES = ("base", "sft", "rlf")


def ballot(number: int, voter: str | None = "ada", picked: str | None = "rlf", **more) -> Ballot:
    shown = more.pop("shown", STAGES)
    beaten = frozenset((picked, other) for other in shown if picked and other != picked)
    usual = Ballot(
        vote_id=f"{voter}-{number}",
        voter=voter,
        name=None,
        created=float(number),
        history="",
        question=f"q{number}",
        picked=picked,
        shown=shown,
        beaten=beaten,
        position=None,
        blind=False,
        seconds=30.0,
        needed=2.0,
        streamed=0.0,
        rejected=False,
    )
    return replace(usual, **more)


def test_similarity_of_texts():
    assert normalised(" How do I boil\nan EGG?! ") == normalised("how do i boil an egg") == "how do i boil an egg"
    assert normalised("?") != normalised("!") and pieces("")
    # "abcd" "bcde" against "abcd" "bcdx": one of three
    assert jaccard(pieces("abcde"), pieces("abcdx")) == pytest.approx(1 / 3)
    assert jaccard(pieces("How do I boil an egg?"), pieces("How do I boil two eggs?")) < 0.8


def test_near_duplicates_are_those_that_comparing_every_pair_finds():
    texts = [
        EGG,
        "Tell me a joke.",
        EGG.lower().rstrip("?"),
        EGG.replace("soft", "sofd"),
        "tell me a poem",
        "Hi",
        "hi!!",
        EGG + " And then?",
        "Tell  me a  joke",
        "",
        "?",
    ]
    index, found = NearDuplicates(), []
    for text in texts:
        found.append(index.add(text))
    sets = [pieces(text) for text in texts]
    slow = [next((n for n in range(i) if jaccard(sets[i], sets[n]) >= 0.8), None) for i in range(len(texts))]
    assert found == slow and found[2:4] == [0, 0] and found[8] == 1 and found[6] == 5


def test_duplicates_are_of_one_voter_after_the_same_history():
    ballots = [
        ballot(1, question="boil an egg"),
        ballot(2, question="boil an egg"),
        ballot(3, "bob", question="boil an egg"),
        ballot(4, question="boil an egg", history="hello"),
        ballot(5, None, question="x"),
        ballot(6, None, question="x"),
    ]
    assert find.duplicates(ballots) == {"ada-2"}


def test_too_fast_is_less_than_reading_takes_and_streaming_counts():
    ballots = [
        ballot(1, seconds=1.9),
        ballot(2, seconds=2.0),
        ballot(3, seconds=0.1, streamed=2.0),
        ballot(4, seconds=None),
    ]
    assert find.too_fast(ballots) == {"ada-1"}


@pytest.mark.parametrize(("votes", "accused"), [(7, False), (8, True)])
def test_one_position_takes_eight_votes_for_one_of_three_places(votes, accused):
    ballots = [ballot(n, blind=True, position=1, picked=STAGES[n % 3]) for n in range(votes)]
    assert bool(find.one_position(ballots)) is accused
    assert not find.one_position([replace(b, voter=None) for b in ballots])
    assert not find.one_position([replace(b, position=n % 3) for n, b in enumerate(ballots)])


def test_an_open_favourite_stage_is_compared_with_that_of_others():
    mine = [ballot(n, "eve", "base") for n in range(30)]
    others = [ballot(n, f"v{n}", "base" if n % 5 == 0 else "rlf") for n in range(40)]  # base wins 20 %
    assert find.one_position([*mine, *others]) == {b.vote_id for b in mine}
    same = [ballot(n, f"v{n}", "base") for n in range(40)]
    assert find.one_position([*mine, *same]) == set()
    assert find.one_position(mine) == set()  # nobody to compare with


def test_contradictions_are_one_pair_both_ways_on_one_question():
    ballots = [
        ballot(1, picked="rlf", question="q"),
        ballot(2, picked="base", question="q"),
        ballot(3, picked="sft", question="p"),
        ballot(4, "bob", "base", question="q"),
    ]
    assert find.contradictions(ballots) == {"ada-1", "ada-2"}
    apart = [
        ballot(1, picked="rlf", question="q", shown=("base", "rlf")),
        ballot(2, picked="sft", question="q", shown=("base", "sft")),
    ]
    assert find.contradictions(apart) == set()


def shared(questions: int, contrarian: str) -> list[Ballot]:
    """Three people who agree on every question, and eve with picks of her own."""
    honest = [ballot(n, voter, "rlf") for n in range(questions) for voter in ("ada", "bob", "cyd")]
    return honest + [ballot(n, "eve", contrarian) for n in range(questions)]


def test_who_disagrees_with_all_others_is_found():
    assert find.disagreeing(shared(20, "base")) == {f"eve-{n}" for n in range(20)}
    assert find.disagreeing(shared(20, "rlf")) == set()
    assert find.disagreeing(shared(1, "base")) == set()  # one question is no habit
    agreed = find.agreements(shared(2, "base"))
    assert agreed["eve"] == [False, False] and agreed["ada"] == [True, True]
    assert find.agreements([replace(b, rejected=b.voter != "eve") for b in shared(2, "base")]) == {}


def test_chances_by_hand():
    assert find.chance_of_at_least(2, [0.5, 0.5]) == 0.25
    assert find.chance_of_at_least(1, [0.5, 1 / 3]) == pytest.approx(2 / 3)
    assert find.chance_of_at_least(0, []) == 1.0


def test_a_ballot_of_a_vote():
    def answer(stage, text, created):
        return Completion(
            stage,
            "t",
            stage,
            f"{stage}@1",
            "",
            {"pane": "AB"[stage == "rlf"]},
            None,
            text,
            1,
            "stop",
            1.5,
            None,
            created,
        )

    messages = [
        {"role": "user", "content": "Hi!"},
        {"role": "assistant", "content": "?"},
        {"role": "user", "content": "Eggs"},
    ]
    turn = Turn("t", "c", None, messages, 0.0, (answer("sft", "word " * 40, 10.0), answer("rlf", "a b", 12.0)))
    vote = Vote(1, "v", "t", "ada", "rlf", "rlf", ["sft", "rlf"], None, None, None, 1, 12.5)
    made = ballot_of(vote, turn)
    assert (made.history, made.question, made.blind, made.position) == ("hi", "eggs", True, 1)
    assert (made.seconds, made.streamed, made.needed) == (0.5, 1.5, pytest.approx(32 / 20))
    assert made.beaten == {("rlf@1", "sft@1")} and made.shown == ("sft@1", "rlf@1")


def row(voter, chosen="a", rejected="b", question=EGG, number=0):
    return {
        "prompt": [{"role": "user", "content": question}],
        "chosen": chosen,
        "rejected": rejected,
        "conversation_id": f"c{number}",
        "turn_id": f"t{number}",
        "voter": voter,
    }


def test_the_newest_of_a_voters_near_duplicates_is_kept():
    rows = [
        row("ada"),
        row("ada", "b", "a", EGG.lower()),
        row("bob"),
        row(None),
        row(None, number=1),
        row("ada", "a", "c"),
    ]
    assert distinct(rows) == rows[1:]


@pytest.mark.parametrize(
    ("counts", "cap", "floor", "most"),
    [
        ([100], 0.2, 10, 100),
        ([100, 40], 0.2, 10, 40),
        ([100, 10, 10, 10, 10, 10], 0.2, 1, 12),
        ([9, 9, 1], 0.2, 5, 5),
        ([3, 3], 0.2, 50, 50),
        ([], 0.2, 50, 50),
        ([30] * 10, 0.2, 5, 30),
    ],
)
def test_no_voter_gives_more_than_the_cap(counts, cap, floor, most):
    assert limit(counts, cap, floor) == most
    rows = [row(f"v{voter}", number=n) for voter, count in enumerate(counts) for n in range(count)]
    kept = capped(rows, cap, floor)
    assert max((sum(r["voter"] == f"v{v}" for r in kept) for v in range(len(counts))), default=0) <= most
    assert capped(rows, cap, floor) == kept and [r for r in rows if r in kept] == kept


@pytest.fixture
def store(tmp_path):
    with FeedbackStore.open(f"sqlite:///{tmp_path / 'sawyer.db'}") as opened:
        yield opened


def cast(store, question, choice="rlf", voter="ada", later=60.0, **more):
    """A vote `later` seconds after the answers."""
    turn = store.add_turn(store.add_conversation(), [{"role": "user", "content": question}])
    for stage in STAGES:
        store.add_completion(turn, stage, prompt_text="", text=f"{stage} says {question} " * 8, tokens=9)
    newest = store.turn(turn).completions[-1].created
    return store.add_vote(turn, choice, voter, created=newest + later, **more).vote_id


def test_curated_rows_respect_findings_reviews_filters_and_the_split(store):
    slow = [cast(store, f"question number {'i' * n}") for n in range(12)]
    hasty = cast(store, "In a hurry", later=0.0, voter="eve")
    assert analyse(store.counting_votes()).findings[hasty] == ["too_fast"]
    assert len(curated_rows(store, "preference")) == 26
    trusted = Curation(leave_out=["too_fast"])
    assert len(curated_rows(store, "preference", trusted)) == 24
    store.review([hasty], "approved")
    assert len(curated_rows(store, "preference", trusted)) == 26
    store.review([slow[0]], "flagged")
    store.review([slow[1]], "rejected")
    assert len(curated_rows(store, "preference", trusted)) == 22
    assert len(curated_rows(store, "preference", wanted=FeedbackFilter(voter="eve"))) == 2
    assert len(curated_rows(store, "preference", wanted=FeedbackFilter(text="NUMBER iii"))) == 18
    assert len(curated_rows(store, "preference", Curation(floor=3, cap=0.1))) == 5  # ada's three, eve's two
    sides = {side: curated_rows(store, "preference", Curation(split=side, share=0.5)) for side in ("train", "held_out")}
    assert sum(map(len, sides.values())) == 22 and all(sides.values())
    assert all(is_held_out(row["prompt"], 0.5) for row in sides["held_out"])


def test_summaries_of_voters(store):
    cast(store, "One question", voter="eve", later=0.0, name="Eve")
    for number in range(3):
        cast(store, ("Eggs?", "Why is the sky blue?", "Tell me a joke")[number], voter="ada", later=10.0 + number)
    first, second = analyse(store.counting_votes()).voters
    assert (first.voter, first.name, first.findings, first.votes) == ("eve", "Eve", ["too_fast"], 1)
    assert (second.voter, second.votes, second.findings) == ("ada", 3, [])
    assert second.median_seconds == pytest.approx(11.0) and second.agreement is None
