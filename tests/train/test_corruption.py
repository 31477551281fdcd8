"""Spoilt copies of sentences, and the classifier's records that are made of them."""

import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from sawyer.data import Example, is_held_out, load_examples, load_prompts
from sawyer.errors import DataError, RecipeError
from sawyer.recipe import DataSource
from sawyer.recipe.classifiers import CorruptSpec
from sawyer.runs import Run
from sawyer.scoring import reward_text
from tests.train.makers import write_lines
from tests.train.test_t5_study import smaller
from train.classifiers import Labelled, bundles, collate, corrupted, train_classifier, unseen
from train.corruption import KINDS, _pieced, spoil
from train.reward_scratch import source_texts

SENTENCES = [
    "The council has closed the old bridge for repairs, and drivers are angry.",
    "Two men who live near the mill were hurt in the fire.",
    "Rain fell.",
    "Help!",
]


def test_a_spoilt_copy_differs_and_is_the_same_for_the_same_draw() -> None:
    for sentence in SENTENCES:
        made = [spoil(sentence, ["tea", "of"], random.Random(seed)) for seed in range(200)]
        assert made == [spoil(sentence, ["tea", "of"], random.Random(seed)) for seed in range(200)]
        assert all(copy.lower() != sentence.lower() for copy in made)
    assert len({spoil(SENTENCES[0], ["tea"], random.Random(seed)) for seed in range(200)}) > 100


@pytest.mark.parametrize("kind", [*KINDS, _pieced], ids=lambda kind: kind.__name__)
def test_every_kind_of_fault_is_made(kind) -> None:  # type: ignore[no-untyped-def]
    words = SENTENCES[0][:-1].split()
    made = [kind(words, ["tea"], random.Random(seed)) for seed in range(30)]
    assert any(copy and copy != words for copy in made)
    assert words == SENTENCES[0][:-1].split()  # the sentence itself is left alone


def test_pieces_are_within_words_and_as_many_as_asked_for() -> None:
    """Of a copy spoilt in pieces, most hold a word that neither the sentence nor the others have."""
    others = ["doctor", "electricity", "nineteen"]
    known = {word.strip(".,").lower() for word in SENTENCES[0].split()} | set(others)

    def odd(share: float) -> float:
        made = [spoil(SENTENCES[0], others, random.Random(seed), share) for seed in range(300)]
        assert all(copy[-1] == "." and copy == " ".join(copy.split()) for copy in made)
        return sum(any(word.strip(".,").lower() not in known for word in copy.split()) for copy in made) / len(made)

    without, some, always = odd(0.0), odd(0.5), odd(1.0)
    assert without < 0.3 < some < always > 0.85


def test_records_are_made_in_twos_and_never_of_held_out_sentences(tmp_path: Path) -> None:
    reply = {"messages": [{"role": "user", "content": "Tell me of the sea."},
                          {"role": "assistant", "content": "The sea is deep and wide. It is salty, too."}]}  # fmt: skip
    name = write_lines(tmp_path / "text.jsonl", [reply])
    spec = CorruptSpec(sources=[DataSource(name=name)], sound="fine", spoilt="bad")
    made = corrupted(spec, ["It is salty, too."], seed=1)
    assert [(example.text, example.label) for example in made][:1] == [("The sea is deep and wide.", "fine")]
    assert Counter(example.label for example in made) == {"fine": 1, "bad": 1}
    assert {example.group for example in made} == {"0:The sea is deep and wide."}
    more = corrupted(spec.model_copy(update={"copies": 5}), [], seed=1)
    assert len(more) == 2 * 5 * 2 and len({example.group for example in more}) == 10
    assert len({example.text for example in more if example.label == "bad"}) > 4
    short = corrupted(spec.model_copy(update={"longest": 4}), [], seed=1)
    assert {example.text for example in short if example.label == "fine"} == {"It is salty, too."}
    with pytest.raises(DataError):
        corrupted(spec.model_copy(update={"sources": [DataSource(name=str(tmp_path / "no.jsonl"))]}), [], seed=1)
    assert "user: Tell me" in next(source_texts(spec.sources, 1))  # what pretraining reads has both voices


def test_what_ppo_holds_out_is_not_learnt_from(tmp_path: Path) -> None:
    """Neither the sentences of a held-out article nor its reference are among the sound or spoilt ones."""
    recipe = smaller()
    spec = recipe.classifiers["acceptability"].corrupt
    assert spec is not None and recipe.ppo is not None
    spec = spec.model_copy(update={"sources": recipe.ppo.prompts})
    articles = {reward_text(p.messages): p for p in load_prompts(recipe.ppo.prompts, recipe.seed)}
    kept = {text for text, p in articles.items() if is_held_out(p.messages, recipe.ppo.held_out)}
    assert 80 < len(kept) < 160
    sound = {e.text for e in corrupted(spec, unseen(recipe), recipe.seed) if e.label == spec.sound}
    assert not any(text in article for text in sound for article in kept)
    assert not sound & {articles[text].reference for text in kept}
    assert sum(any(text in article for text in sound) for article in articles) == len(articles) - len(kept)


def test_the_words_of_sound_text_are_tokens_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The classifier's tokenizer is learnt from sound sentences, not from pieces."""
    read: list[str] = []

    def start(recipe: Any, run: Any, spec: Any, texts: Any, made_from: Any) -> Path:
        read.extend(texts)
        raise KeyboardInterrupt

    monkeypatch.setattr("train.classifiers.scratch_start", start)
    recipe = smaller()
    with (
        pytest.raises(KeyboardInterrupt),
        Run(tmp_path / "run", step="classifiers.acceptability", recipe=recipe) as run,
    ):
        train_classifier(recipe, recipe.classifiers["acceptability"], run)
    labels = {e.text: e.label for e in load_examples([DataSource(name="starter/acceptability")])}
    assert len(read) > 400 and "unacceptable" not in {labels.get(text, "acceptable") for text in read}


def test_rows_of_a_group_share_a_batch() -> None:
    groups = ["g1", "", "g2", "g1", "", *["large"] * 6]
    examples = [Example(f"text {n}", "fine", "", group) for n, group in enumerate(groups)]
    rows = [Labelled([n], 0) for n in range(len(groups))]
    made = [[row.ids[0] for row in item] for item in bundles(examples, rows)]
    assert made == [[0, 3], [1], [2], [4], [5, 6, 7, 8], [9, 10]]
    batch = collate(bundles(examples, rows)[:2], pad_id=9)
    assert batch["input_ids"].tolist() == [[0], [3], [1]]


def test_labels_that_do_not_differ_are_refused() -> None:
    with pytest.raises(RecipeError, match="must be two labels"):
        smaller("classifiers.acceptability.corrupt.spoilt=acceptable")


def test_a_group_is_never_parted(tmp_path: Path) -> None:
    rows = [{"text": f"{kind} text {n}", "label": kind, "group": f"g{n}"} for n in range(200) for kind in ("a", "b")]
    rows += [{"text": "alone", "label": "a", "group": None}]
    examples = load_examples([DataSource(name=write_lines(tmp_path / "rows.jsonl", rows))])
    sides: dict[str, set[bool]] = {}
    for example in examples:
        sides.setdefault(example.group, set()).add(example.is_held_out(0.3))
    assert all(len(side) == 1 for side in sides.values())
    held_out = sum(example.is_held_out(0.3) for example in examples) / len(examples)
    assert 0.2 < held_out < 0.4 and "" in sides


def test_the_pairs_of_the_starter_set_have_groups() -> None:
    examples = load_examples([DataSource(name="starter/acceptability")])
    by_group: dict[str, list[str]] = {}
    for example in examples:
        by_group.setdefault(example.group, []).append(example.label)
    assert len(by_group) == 500 and all(
        sorted(labels) == ["acceptable", "unacceptable"] for labels in by_group.values()
    )
    lines = (Path("sawyer/assets/starter/acceptability.jsonl")).read_text(encoding="utf-8").splitlines()
    assert set(json.loads(lines[0])) == {"text", "label", "group"}
