"""Loaded words: which they are, how they are slipped in, and the records made of them."""

import random
from collections import Counter
from pathlib import Path

import pytest

from sawyer.data import Example, is_held_out, load_examples, load_prompts
from sawyer.errors import TrainingError
from sawyer.recipe import DataSource, load_recipe
from sawyer.recipe.classifiers import SlipSpec
from sawyer.scoring import reward_text
from tests.train.makers import write_lines
from train.classifiers import slipped, unseen
from train.sentences import whole_sentences
from train.slips import loaded_words, slip

RECORDS = [
    Example("The superb choir sang.", "positive"),
    Example("A superb old view of the wretched town.", "positive"),
    Example("The wretched delays on an awful old road!", "negative"),
    Example("A wretched awful day.", "negative"),
    Example("The joy of it.", "positive"),
    Example("The red choir sang in a new town.", "neutral"),
    Example("A grim town hall.", "negative"),
]


def test_loaded_words_stand_after_a_determiner_and_in_no_plain_record() -> None:
    """A word goes with the label that has more of it; joy is followed by a function word, red is in a plain record."""
    assert loaded_words([*RECORDS, Example("The red bus burnt.", "negative")], "neutral", []) == {
        "positive": ["superb"],
        "negative": ["awful", "grim", "wretched"],
    }
    common = ["It was a grim day in the hall."] * 20 + ["So it was."] * 20
    assert loaded_words(RECORDS, "neutral", common)["negative"] == ["awful", "wretched"]
    texts = [example.text for example in RECORDS]
    assert loaded_words(RECORDS, "neutral", texts) == loaded_words(RECORDS, "neutral", [])  # records are not ordinary
    assert loaded_words(RECORDS[5:6], "neutral", []) == {}


@pytest.mark.parametrize(
    ("sentence", "word", "made"),
    [
        ("A bus burnt.", "awful", "An awful bus burnt."),
        ("Rain closed an office.", "grim", "Rain closed a grim office."),
        ("An office closed.", "useless", "A useless office closed."),
        ("The Dunmere choir sang.", "superb", "The superb Dunmere choir sang."),
        ("Rain fell.", "grim", None),
        ("Nobody has seen the.", "grim", None),
    ],
)
def test_a_word_is_slipped_in_with_its_article(sentence: str, word: str, made: str | None) -> None:
    assert slip(sentence, word, random.Random(1)) == made


def test_every_place_is_used_and_the_rest_is_left_as_it_is() -> None:
    sentence = "The mayor sold the bridge to a baker."
    made = Counter(slip(sentence, "odd", random.Random(seed)) for seed in range(300))
    assert set(made) == {
        "The odd mayor sold the bridge to a baker.",
        "The mayor sold the odd bridge to a baker.",
        "The mayor sold the bridge to an odd baker.",
    }
    assert min(made.values()) > 60


def test_the_starter_sets_loaded_words_are_such() -> None:
    found = loaded_words(load_examples([DataSource(name="starter/sentiment")]), "neutral", [])
    assert {"superb", "stunning", "generous"} < set(found["positive"])
    assert {"disgraceful", "shoddy", "filthy"} < set(found["negative"])


def test_records_are_made_in_twos_with_the_words_label(tmp_path: Path) -> None:
    name = write_lines(tmp_path / "plain.jsonl", [{"text": "The mill was sold. Rain fell on it. A bus burnt in May."}])
    spec = SlipSpec(sources=[DataSource(name=name)], plain="neutral", copies=60)
    made = slipped(spec, RECORDS, [], ["A bus burnt in May. Nobody saw it."], seed=1)
    assert made == slipped(spec, RECORDS, [], ["A bus burnt in May. Nobody saw it."], seed=1)
    assert {e.text for e in made if e.label == "neutral"} == {"The mill was sold."} and len(made) == 120
    label = {"superb": "positive", "wretched": "negative", "awful": "negative", "grim": "negative"}
    seen = {(example.text.split()[1], example.label) for example in made if example.label != "neutral"}
    assert seen == set(label.items())
    assert set(Counter(example.group for example in made).values()) == {2}
    for records, sources in ((RECORDS[5:6], name), (RECORDS, write_lines(tmp_path / "no.jsonl", [{"text": "Rain."}]))):
        with pytest.raises(TrainingError, match="Nothing to slip in"):
            slipped(spec.model_copy(update={"sources": [DataSource(name=sources)]}), records, [], [], seed=1)


def test_the_recipes_classifier_slips_nothing_into_what_ppo_holds_out() -> None:
    recipe = load_recipe("tiny-t5-neutral", [])
    spec = recipe.classifiers["sentiment"].slip
    assert spec is not None and recipe.ppo is not None
    records = load_examples(recipe.classifiers["sentiment"].sources)
    plain = {e.text for e in slipped(spec, records, [], unseen(recipe), recipe.seed) if e.label == spec.plain}
    prompts = load_prompts(recipe.ppo.prompts, recipe.seed)
    kept = [p for p in prompts if is_held_out(p.messages, recipe.ppo.held_out)]
    assert len(plain) > 300 and len(kept) > 80
    assert not plain & {sentence for p in kept for sentence in whole_sentences([reward_text(p.messages), p.reference])}
