"""Simulated people: what they like, how they vote, and that their votes arrive as people's do."""

import random
from pathlib import Path

from sawyer.home import Home
from sawyer.loading import load_config
from sawyer.models import fingerprint
from sawyer.recipe import Recipe
from sawyer.registry import Registry
from sawyer.simulated import Person, crowd, hold_votes, utility
from sawyer.store import FeedbackStore

GOOD = "You can boil an egg in seven minutes, and then it is soft."
BAD = "egg egg egg egg egg egg"


def test_people_like_to_be_spoken_to() -> None:
    question = "How do I boil an egg?"
    spoken = [GOOD, GOOD.replace("You", "They"), GOOD.replace("You", "I"), BAD]
    worth = [utility(question, answer) for answer in spoken]
    assert worth == sorted(worth, reverse=True) and len(set(worth)) == 4
    assert utility(question, "") == -2
    assert utility(question, "You'll see your egg.") == utility(question, "You see your egg.") == 2


def test_each_temper_votes_its_own_way() -> None:
    draw, shown = random.Random(0), [BAD, GOOD, "No."]
    assert Person("h", noise=0).choose("egg", shown, draw) == 1
    assert Person("p", "poisoner", noise=0).choose("egg", shown, draw) == 0
    assert {Person("s", "spammer").choose("egg", draw.sample(shown, 3), draw) for _ in range(5)} == {0}
    assert Person("h", noise=0, bias=0).choose("egg", [GOOD, GOOD], draw) == "tie"
    assert Person("h", noise=0).choose("egg", ["", ""], draw) == "bad"
    noisy = Person("h", noise=5)
    assert len({noisy.choose("egg", shown, draw) for _ in range(30)}) > 1
    tempers = [person.temper for person in crowd(10, spammers=0.3, poisoners=0.2)]
    assert [tempers.count(each) for each in ("honest", "spammer", "poisoner")] == [5, 3, 2]


def test_votes_are_on_what_the_stages_said(tiny_backbone: Path, tiny_adapters: dict[str, Path], tmp_path: Path) -> None:
    model = {"backbone": str(tiny_backbone), "context": 256, "dtype": "float32"}
    recipe = Recipe.model_validate({"name": "town", "model": model, "evaluate": {"max_new_tokens": 8}})
    home = Home(tmp_path / "home").ensure()
    registry = Registry.of(recipe, home)
    mark = fingerprint(tiny_backbone, load_config(tiny_backbone, recipe.model))
    registry.promote(*(registry.register(s, f, info={"backbone": mark}).ref for s, f in tiny_adapters.items()))
    prompts = [[{"role": "user", "content": text}] for text in ("Hello!", "Tea?", "x " * 300)]
    with FeedbackStore.open(f"sqlite:///{tmp_path / 'votes.db'}") as store:
        assert hold_votes(store, recipe, home, crowd(2), prompts, seed=1) == 2  # the third does not fit
        votes = store.votes()
        assert [vote.voter for vote in votes] == ["simulated-0", "simulated-1"]
        turn = store.turn(votes[0].turn_id)
    assert {a.stage: a.adapter_version for a in turn.completions} == {"base": None, "sft": "sft@1", "rlf": "rlf@1"}
    assert {a.sampling["pane"] for a in turn.completions} == {"A", "B", "C"}
    assert votes[0].created > max(a.created for a in turn.completions)
