"""Recipes: every fault at once with what to do, overrides, resolved copies, and documentation that is current."""

from pathlib import Path

import pytest
import yaml

from sawyer.errors import RecipeError
from sawyer.recipe import load_recipe, save_resolved
from sawyer.recipe.document import document

ROOT = Path(__file__).resolve().parents[2]
RECIPES = sorted((ROOT / "recipes").glob("*.yaml"))


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_shipped_recipes_are_sound_and_survive_a_round_trip(path, tmp_path):
    recipe = load_recipe(path)
    assert recipe.name == path.stem
    save_resolved(recipe, tmp_path / "recipe.yaml")
    assert load_recipe(tmp_path / "recipe.yaml") == recipe


def test_a_bare_name_finds_the_recipe():
    assert load_recipe("tiny").name == "tiny"


def test_all_faults_are_reported_at_once():
    with pytest.raises(RecipeError) as caught:
        load_recipe("tiny", ["ppo.leraning_rate=1", "base.lr=fast", "model.contxt=3", "sft.epochs=-1"])
    text = str(caught.value)
    assert "4 faults" in text and caught.value.exit_code == 2
    assert "model.contxt: there is no such key; did you mean context?" in text
    assert "base.lr: input should be a valid number" in text and "given: 'fast'" in text
    assert "sft.epochs" in text and "ppo.leraning_rate" in text


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["ppo.batch_size=32", "ppo.group_size=5"], "batch_size 32 must be a multiple of group_size 5"),
        (["ppo.batch_size=10", "ppo.minibatch_size=4"], "batch_size 10 must be a multiple of minibatch_size 4"),
        (["ppo.max_prompt=250"], r"exceed model.context 256"),
        (["sft.max_length=999"], r"sft.max_length 999 exceeds model.context 256"),
        (["model.backbone=gpt2"], "exclude each other"),
        (["base=null"], "give model.backbone"),
        (["reward=null"], "ppo needs a reward"),
        (["ppo.kl={beta: 0.1, target: 4}"], "beta 0.1 is a fixed coefficient and target 4 adapts it: give one of them"),
        (["ppo.reward=[]"], "at least one part"),
        (["ppo.reward=[{classifier: a}, {classifier: b}]"], "distinct names; given: classifier, classifier"),
        (["ppo.reward=[{name: x}]"], r"ppo.reward.0: give exactly one of trained, .*; given: none"),
        (["ppo.reward=[{classifier: a, function: 'm:f'}]"], "given: classifier, function"),
        (["ppo.reward=[{http: 'ftp://x'}]"], "begins with http"),
        (["ppo.reward=[{function: score}]"], "module:name or file.py:name"),
        (["ppo.reward=[{length: {}, label: x, timeout: 3}]"], "kind length has no label, timeout"),
        (["ppo.reward=[{trained: true, weight: 0}]"], "weight 0 makes the part count for nothing"),
        (
            ["ppo.reward=[{trained: true, wieght: 2}]"],
            r"ppo.reward.0.wieght: there is no such key; did you mean weight",
        ),
        (["name=Not A Name"], "name: string should match pattern"),
        (["nothing"], "key=value"),
        (["a..b=1"], "key=value"),
    ],
)
def test_settings_that_do_not_fit_together(overrides, message):
    with pytest.raises(RecipeError, match=message):
        load_recipe("tiny", overrides)


def test_overrides_are_yaml_and_scientific_numbers_are_numbers():
    recipe = load_recipe("tiny", ["ppo.lr=1e-5", "seed=9", "ppo.kl={start: 0.1, target: 4}", "ppo.watch=true"])
    assert (recipe.ppo.lr, recipe.seed, recipe.ppo.kl.target, recipe.ppo.watch) == (1e-5, 9, 4, True)


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"- a\n- b\n", "must be a mapping"), (b"a: [1\n", "not valid YAML"), (b"\xff\xfe", "not UTF-8")],
)
def test_a_file_that_is_no_recipe(tmp_path, content, message):
    (tmp_path / "r.yaml").write_bytes(content)
    with pytest.raises(RecipeError, match=message):
        load_recipe(tmp_path / "r.yaml")


def test_a_reward_is_one_name_or_a_list_of_parts(tmp_path):
    assert [part.kind for part in load_recipe("tiny").ppo.parts] == ["trained"]
    named = load_recipe("tiny", ["ppo.reward=some/classifier", "reward=null"]).ppo.parts
    assert [(part.kind, part.title, part.classifier) for part in named] == [
        ("classifier", "classifier", "some/classifier")
    ]
    written = "[{trained: true}, {name: short, length: {target: 20}, weight: 0.5}, {http: 'http://h/s', retries: 1}]"
    recipe = load_recipe("tiny", [f"ppo.reward={written}"])
    assert [(part.title, part.normalized) for part in recipe.ppo.parts] == [
        ("trained", True),
        ("short", False),
        ("http", True),
    ]
    save_resolved(recipe, tmp_path / "recipe.yaml")
    assert load_recipe(tmp_path / "recipe.yaml") == recipe


def test_an_absent_recipe_lists_those_there_are():
    with pytest.raises(RecipeError, match=r"no recipe 'nanno'.*nano.*tiny"):
        load_recipe("nanno")


def test_recipes_cannot_be_changed_after_loading():
    with pytest.raises(ValueError, match="frozen"):
        load_recipe("tiny").seed = 3


def test_the_documentation_of_the_keys_is_current():
    assert (ROOT / "docs" / "recipes.md").read_text(encoding="utf-8") == document()


def test_the_recipe_module_is_light():
    """--help must come in under a second: reading a recipe loads neither torch nor transformers."""
    import subprocess
    import sys

    heavy = "{'torch', 'transformers', 'gradio'}"
    code = f"import sys, sawyer.recipe, sawyer.cli.app; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_yaml_of_every_recipe_is_plain():
    for path in RECIPES:
        assert isinstance(yaml.safe_load(path.read_text(encoding="utf-8")), dict)
