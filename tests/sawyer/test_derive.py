"""From votes to training rows: the rules, one by one."""

import pytest

from sawyer.store import Completion, Rating, Turn, Vote, derive

MESSAGES = [{"role": "user", "content": "Hello?"}]


def answer(stage: str, text: str, finish_reason: str = "stop") -> Completion:
    return Completion(
        id=stage, turn_id="t", stage=stage, adapter_version=None, prompt_text="Hello?", sampling={},
        seed=None, text=text, tokens=1, finish_reason=finish_reason, seconds=None, reward=None, created=0.0,
    )  # fmt: skip


def turn(*answers: Completion) -> Turn:
    return Turn("t", "c", None, MESSAGES, 0.0, answers)


def vote(choice: str, shown=("base", "sft", "rlf"), ranking=None, edited=None) -> Vote:
    chosen = choice if choice in shown else None
    return Vote(1, "v", "t", "ada", choice, chosen, list(shown), ranking, edited, None, None, 0.0)


THREE = turn(answer("base", "hm"), answer("sft", "Hi."), answer("rlf", "Hello, friend!"))


def sides(rows) -> list[tuple[str, str]]:
    return [(row["chosen"], row["rejected"]) for row in rows]


def test_choice_beats_each_other_answer_to_the_same_prompt():
    rows = list(derive.pairs(vote("rlf"), THREE))
    assert sides(rows) == [("Hello, friend!", "hm"), ("Hello, friend!", "Hi.")]
    assert all(row["prompt"] == MESSAGES for row in rows)
    origin = {"conversation_id": "c", "turn_id": "t", "voter": "ada"}
    assert rows[0].items() >= ({"chosen_stage": "rlf", "rejected_stage": "base"} | origin).items()


@pytest.mark.parametrize("choice", ["tie", "bad"])
def test_tie_and_bad_prefer_nothing(choice):
    assert list(derive.pairs(vote(choice), THREE)) == []


def test_identical_texts_make_no_pair():
    same = turn(answer("base", "hm"), answer("sft", "Hi."), answer("rlf", " Hi.\n"))
    assert sides(derive.pairs(vote("rlf"), same)) == [(" Hi.\n", "hm")]


def test_an_empty_answer_may_lose_but_not_win():
    silent = turn(answer("base", " "), answer("sft", "Hi."))
    assert list(derive.pairs(vote("base", ("base", "sft")), silent)) == []
    assert sides(derive.pairs(vote("sft", ("base", "sft")), silent)) == [("Hi.", " ")]


def test_ranking_orders_all_it_names_before_the_rest():
    full = sides(derive.pairs(vote("sft", ranking=["sft", "rlf", "base"]), THREE))
    assert sorted(full) == [("Hello, friend!", "hm"), ("Hi.", "Hello, friend!"), ("Hi.", "hm")]
    partial = sides(derive.pairs(vote("sft", ranking=["sft", "rlf"]), THREE))
    assert sorted(partial) == sorted(full)
    assert sides(derive.pairs(vote("sft", ranking=["sft"]), THREE)) == [
        ("Hi.", "hm"),
        ("Hi.", "Hello, friend!"),
    ]


def test_answers_not_shown_or_not_finished_teach_nothing():
    assert sides(derive.pairs(vote("rlf", shown=("base", "rlf")), THREE)) == [("Hello, friend!", "hm")]
    cut = turn(answer("base", "hm", "cancelled"), answer("sft", "", "error"), answer("rlf", "Hello.", "length"))
    assert list(derive.pairs(vote("rlf"), cut)) == []
    assert [row["completion"] for row in derive.negatives(vote("bad"), cut)] == ["Hello."]


def test_bad_makes_every_answer_a_negative():
    rows = list(derive.negatives(vote("bad"), THREE))
    assert [(row["completion"], row["label"]) for row in rows] == [
        ("hm", False),
        ("Hi.", False),
        ("Hello, friend!", False),
    ]
    assert list(derive.negatives(vote("rlf"), THREE)) == []


def test_edit_of_the_chosen_answer():
    edited = vote("sft", edited="Hi there.")
    assert sides(derive.pairs(edited, THREE)) == [
        ("Hi.", "hm"),
        ("Hi.", "Hello, friend!"),
        ("Hi there.", "Hi."),
    ]
    (row,) = derive.edits(edited, THREE)
    assert row["messages"] == [*MESSAGES, {"role": "assistant", "content": "Hi there."}]


def test_edit_after_all_bad_beats_every_answer():
    assert sides(derive.pairs(vote("bad", edited="Hi there."), THREE)) == [
        ("Hi there.", "hm"),
        ("Hi there.", "Hi."),
        ("Hi there.", "Hello, friend!"),
    ]
    assert len(list(derive.edits(vote("bad", edited="Hi there."), THREE))) == 1


def test_unchanged_edit_teaches_nothing_new():
    unchanged = vote("sft", edited="Hi. ")
    assert sides(derive.pairs(unchanged, THREE)) == [("Hi.", "hm"), ("Hi.", "Hello, friend!")]
    assert list(derive.edits(unchanged, THREE)) == []
    assert list(derive.edits(vote("sft"), THREE)) == []


@pytest.mark.parametrize("up", [True, False])
def test_thumb_is_one_kto_row(up):
    (row,) = derive.thumb(Rating(1, "r", "sft", None, up, 0.0), THREE)
    assert (row["prompt"], row["completion"], row["label"]) == (MESSAGES, "Hi.", up)


def test_thumb_and_all_bad_on_one_answer_is_one_row(tmp_path):
    from sawyer.store import FeedbackStore

    with FeedbackStore.open(f"sqlite:///{tmp_path / 'sawyer.db'}") as store:
        asked = store.add_turn(store.add_conversation(), MESSAGES)
        ids = [store.add_completion(asked, stage, prompt_text="", text=stage, tokens=1) for stage in ("base", "sft")]
        store.add_vote(asked, "bad", voter="ada")
        store.add_rating(ids[1], False, voter="ada")
        store.add_rating(ids[1], True, voter="ada")
        assert [(row["completion"], row["label"]) for row in store.kto_rows()] == [
            ("sft", True),
            ("base", False),
        ]


def test_chunks_of_votes_are_joined_without_loss(tmp_path, monkeypatch):
    from sawyer.store import FeedbackStore, store

    monkeypatch.setattr(store, "_CHUNK", 3)
    with FeedbackStore.open(f"sqlite:///{tmp_path / 'sawyer.db'}") as opened:
        conversation = opened.add_conversation()
        for number in range(9):
            asked = opened.add_turn(conversation, [{"role": "user", "content": str(number)}])
            for stage in ("base", "sft"):
                opened.add_completion(asked, stage, prompt_text="", text=stage, tokens=1)
            opened.add_vote(asked, "sft")
        assert [row["prompt"][0]["content"] for row in opened.pairs()] == [str(n) for n in range(9)]
