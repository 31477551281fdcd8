"""The plan: shapes against real models, formulas against hand-computed numbers, cards, changes, and the command."""

import json
import math
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from sawyer.errors import ModelError, UsageError
from sawyer.plan import Device, changes, find_device, fit, make_plan, read_shape, shape_of
from sawyer.plan.generation import grown, slot_capacity
from sawyer.plan.known import KNOWN
from sawyer.plan.setting import NF4, Setting
from sawyer.recipe import Recipe, load_recipe

ROOT = Path(__file__).resolve().parents[2]
CARDS = ("llama2-7b", "llama2-7b-16gb", "llama3-8b", "llama2-7b-reference", "smollm2-135m", "flan-t5-neutral")
SLOW_CPU = Device("CPU", "cpu", 8 * 2**30, False, 1e11, 1e10)


# Shapes


@pytest.mark.parametrize(
    ("name", "weights"),
    [  # as the models' pages on the hub count them
        ("meta-llama/Llama-2-7b-hf", 6_738_415_616),
        ("meta-llama/Llama-2-13b-hf", 13_015_864_320),
        ("meta-llama/Meta-Llama-3-8B", 8_030_261_248),
        ("HuggingFaceTB/SmolLM2-135M", 134_515_008),
        ("google/flan-t5-small", 76_961_152),
        ("google/flan-t5-base", 247_577_856),
        ("google/flan-t5-large", 783_150_080),
        ("google/flan-t5-xl", 2_849_757_184),
        ("roberta-base", 124_646_401),  # with the head of one label
    ],
)
def test_known_models_have_as_many_weights_as_they_have(name: str, weights: int) -> None:
    assert shape_of(name).weights == weights


def test_every_model_that_a_recipe_names_is_known() -> None:
    for file in (ROOT / "recipes").glob("*.yaml"):
        recipe = load_recipe(file)
        parts = recipe.ppo.asked if recipe.ppo else []
        names = [recipe.model.backbone, recipe.reward and recipe.reward.model, *(part.classifier for part in parts)]
        assert {name.lower() for name in names if name} <= set(KNOWN), file.name


def test_folders_are_counted_as_they_are(
    tiny_backbone: Path, tiny_classifier: Path, tiny_t5: Path, tiny_adapters: dict[str, Path]
) -> None:
    from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoModelForSequenceClassification

    for kind, folder in (
        (AutoModelForCausalLM, tiny_backbone),
        (AutoModelForSeq2SeqLM, tiny_t5),
        (AutoModelForSequenceClassification, tiny_classifier),
    ):
        model = kind.from_pretrained(folder)
        more = model.config.hidden_size + 1 if kind is AutoModelForSequenceClassification else 0  # its second label
        assert shape_of(str(folder)).weights == model.num_parameters() - more
    from safetensors.torch import load_file

    adapter = load_file(tiny_adapters["sft"] / "adapter_model.safetensors")
    assert shape_of(str(tiny_backbone)).adapter(4, "all-linear") == sum(tensor.numel() for tensor in adapter.values())


def test_an_adapter_of_named_layers() -> None:
    shape = shape_of("meta-llama/Llama-2-7b-hf")
    assert shape.adapter(8, ["q_proj", "v_proj"]) == 8 * (4096 + 4096) * 2 * 32
    with pytest.raises(ModelError, match=r"names no layer of a llama; there are: q_proj, k_proj, v_proj"):
        shape.adapter(8, ["c_attn"])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{}", "its model_type is 'missing'; known are: llama, mistral"),
        ('{"model_type": "mamba"}', "its model_type is 'mamba'"),
        ('{"model_type": "llama", "hidden_size": 64}', "lacks what a plan needs"),
        ("[1]", "is not a mapping"),
        ("{", "cannot be read"),
        (None, "has no config.json"),
    ],
)
def test_configs_that_are_of_no_use(tmp_path: Path, content: str | None, message: str) -> None:
    if content is not None:
        (tmp_path / "config.json").write_text(content)
    with pytest.raises(ModelError, match=message):
        shape_of(str(tmp_path))


def test_a_model_that_nobody_knows_offline() -> None:
    with pytest.raises(ModelError, match=r"'some/model' could not be loaded.*put that into a folder"):
        shape_of("some/model")
    with pytest.raises(ModelError, match=r"There is no folder \./nowhere"):
        shape_of("./nowhere")


# Devices


def test_cards_by_name_and_by_memory() -> None:
    assert find_device("t4").bf16 is False and find_device("A100").memory == 40 * 10**9
    assert find_device("24GB").memory == 24 * 10**9 and find_device("24 GiB").memory == 24 * 2**30
    assert find_device("16GB").bf16 is False, "a size stands for the slowest usual card of it"
    assert find_device("cpu").kind == "cpu"
    for wrong in ("huge", "-3GB", "0GB", ""):
        with pytest.raises(UsageError, match="--gpu takes a memory such as 24GB, or one of: T4"):
            find_device(wrong)


# Formulas


def _llama2(card: str = "24GB", **overrides: object) -> tuple[Recipe, Setting]:
    recipe = load_recipe("llama2-7b", [f"{key}={json.dumps(value)}" for key, value in overrides.items()])
    return recipe, Setting.of(recipe, shape_of("meta-llama/Llama-2-7b-hf"), find_device(card))


def test_nf4_of_llama2_by_hand() -> None:
    """Half a byte a weight, a byte for each 64, four for each 16,384; 6,476,005,376 of the weights are linear."""
    _, setting = _llama2()
    quantised, rest = (item.size for item in setting.backbone())
    assert math.isclose(NF4, 0.5 + 0.015625 + 0.000244140625)
    assert quantised == round(6_476_005_376 * NF4) and rest == 2 * (2 * 32000 * 4096 + 65 * 4096)
    assert sum(item.size for item in replace(setting, nf4=False).backbone()) == 2 * 6_738_415_616


def test_sft_of_llama2_by_hand() -> None:
    """r 64 on all layers: 64 · 32 · (4 · 8192 + 3 · 15104) = 159,907,840 weights; four inputs of 512 tokens a layer."""
    recipe, _ = _llama2()
    ledger = next(stage.ledger for stage in make_plan(recipe, find_device("24GB")).stages if stage.stage == "sft")
    sizes = {item.name: item.size for item in ledger.items}
    assert sizes["adapter"] == 4 * 159_907_840
    assert sizes["optimiser"] == round((2 + 1 / 32) * 159_907_840)
    assert sizes["activations"] == 32 * 4 * 512 * 4096 * 2
    assert sizes["logits"] == 4 * 512 * 32000 * 12
    assert ledger.peak == sum(sizes.values())


def test_caches_grow_as_they_do() -> None:
    torch = pytest.importorskip("torch")
    from sawyer.cache import GrowingLayer
    from sawyer.ragged.slots import Slots

    layer, step = GrowingLayer(), torch.zeros(1, 1, 1, 2)
    layer.update(torch.zeros(1, 1, 128, 2), torch.zeros(1, 1, 128, 2))
    for _ in range(127):
        layer.update(step, step)
    assert layer._room.shape[-2] == grown(128, 128) == 320
    for longest, context in ((100, 112), (112, 112), (300, 1024), (700, 700), (256, 4096)):
        assert slot_capacity(longest, context) == Slots(context, max_places=4, max_tokens=10**6)._rounded(longest)


def test_what_lowers_what() -> None:
    def peak(stage: str, card: str = "24GB", **keys: object) -> int:
        recipe, _ = _llama2(card, **keys)
        return next(one.ledger.peak for one in make_plan(recipe, find_device(card)).stages if one.stage == stage)

    plain = {"sft.gradient_checkpointing": False}
    assert peak("sft", **plain) > 2 * peak("sft")
    assert peak("sft", **{"sft.micro_batch": 2}) < peak("sft")
    assert peak("sft", **plain, **{"model.attention": "eager"}) > peak("sft", **plain)
    assert peak("ppo", **{"ppo.batch_size": 32}) < peak("ppo") < peak("ppo", **{"ppo.optimizer": "adamw"})
    assert peak("serve", **{"model.quantization": "none"}) > peak("serve") + 8 * 10**9


def test_a_cpu_holds_what_its_own_code_holds() -> None:
    """Without bfloat16 nothing is rounded; with it a PPO policy is held in it, and rollouts have a merged copy."""
    recipe = load_recipe("smollm2-135m")
    plan = make_plan(recipe, SLOW_CPU)
    assert all("rounded" not in item.name for stage in plan.stages for item in stage.ledger.items)
    ledger = next(s.ledger for s in make_plan(recipe, replace(SLOW_CPU, bf16=True)).stages if s.stage == "ppo")
    assert {item.name: item.size for item in ledger.held}["backbone"] == 2 * 134_515_008
    rollout = next(moment for moment in ledger.moments if moment.name == "rollout")
    assert rollout.items[0].name == "merged weights"


# Recipes, changes


@pytest.mark.parametrize("name", CARDS)
def test_the_recipe_fits_the_card_that_it_names(name: str) -> None:
    recipe = load_recipe(name)
    assert recipe.gpu is not None
    plan = make_plan(recipe, find_device(recipe.gpu))
    assert plan.fitting, {stage.stage: stage.ledger.peak / 1e9 for stage in plan.stages}
    assert not any("bfloat16" in note for note in plan.notes)


def test_every_recipe_can_be_planned_on_a_cpu() -> None:
    for file in (ROOT / "recipes").glob("*.yaml"):
        plan = make_plan(load_recipe(file), SLOW_CPU)
        assert all(stage.ledger.peak > 0 for stage in plan.stages)


def test_changes_save_what_they_say_and_fit_makes_a_recipe() -> None:
    recipe, card = load_recipe("llama2-7b", ["ppo.batch_size=128"]), find_device("16GB")
    plan = make_plan(recipe, card)
    assert not plan.fitting
    found = changes(plan, "ppo")
    assert found and all(change.saves > 0 for change in found)
    assert "ppo.batch_size" in [change.key for change in found]
    fitting, made = fit(recipe, card)
    assert make_plan(fitting, card).fitting and made[0].key == "model.dtype" and fitting.model.dtype == "float16"
    assert Recipe.model_validate(fitting.model_dump(mode="json")) == fitting
    with pytest.raises(ModelError, match=r"Nothing in the recipe makes sft fit into 2GB"):
        fit(recipe, find_device("2GB"))


def test_bfloat16_on_a_card_without_it_is_said() -> None:
    plan = make_plan(load_recipe("llama2-7b"), find_device("T4"))
    assert any("T4 has no bfloat16 arithmetic: set model.dtype to float16" in note for note in plan.notes)


def test_grouped_methods_are_planned_with_their_own_batches() -> None:
    stages = make_plan(load_recipe("llama2-7b", ["grpo={batch_size: 32}"]), find_device("24GB")).stages
    peaks = {stage.stage: stage.ledger.peak for stage in stages}
    assert peaks["grpo"] < peaks["ppo"]


def test_shapes_of_other_families() -> None:
    config = {"model_type": "qwen3", "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
              "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 32, "vocab_size": 100}  # fmt: skip
    shape = read_shape(config, "x")
    assert (shape.inner, shape.kv, shape.tied) == (128, 64, False)


# The command


def sawyer_plan(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "sawyer.cli.app", "plan", *arguments], cwd=ROOT, capture_output=True, text=True,
        timeout=120, env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "120"},
    )  # fmt: skip


def test_the_command_answers_without_torch() -> None:
    code = (
        "import sys; from sawyer.recipe import load_recipe; from sawyer.plan import *\n"
        "plan = make_plan(load_recipe('llama2-7b'), find_device('16GB')); fit(plan.recipe, plan.device)\n"
        "sys.exit(any(name in sys.modules for name in ('torch', 'transformers', 'huggingface_hub')))"
    )
    began = time.process_time()
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert done.returncode == 0 and time.process_time() - began < 5


def test_exit_codes_and_the_ledger_on_a_terminal(tmp_path: Path) -> None:
    done = sawyer_plan("llama2-7b", "--gpu", "16GB")
    told = " ".join(done.stdout.split())
    assert done.returncode == 1 and "backbone, NF4" in told and "What saves memory, cheapest first" in told
    assert sawyer_plan("llama2-7b-16gb").returncode == 0
    done = sawyer_plan("llama2-7b", "--gpu", "16GB", "--json")
    result = json.loads(done.stdout)
    assert done.returncode == 1 and not result["fits"]
    assert any(stage.get("changes") for stage in result["stages"].values())
    for stage in result["stages"].values():
        assert stage["peak"] == sum(stage["items"].values())
    done = sawyer_plan("llama2-7b", "--gpu", "16GB", "--fit", "--out", str(tmp_path / "made.yaml"))
    assert done.returncode == 0
    made = load_recipe(tmp_path / "made.yaml")
    assert make_plan(made, find_device("16GB")).fitting
    assert yaml.safe_load(sawyer_plan("llama2-7b-16gb", "--fit").stdout)["name"] == "llama2-7b-16gb"


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("llama2-7b", "--gpu", "enormous"), 2, "--gpu takes a memory such as 24GB"),
        (("llama2-7b", "--device", "tpu"), 2, "--device takes cpu"),
        (("llama2-7b", "--device", "cpu", "--gpu", "T4"), 2, "exclude each other"),
        (("llama2-7b", "--out", "x.yaml"), 2, "add --fit"),
        (("no-such-recipe",), 2, "There is no recipe"),
        (("llama2-7b", "--set", "model.backbone=nobody/nothing"), 1, "put that into a folder"),
    ],
)
def test_wrong_use_of_the_command(arguments: tuple[str, ...], code: int, message: str) -> None:
    done = sawyer_plan(*arguments)
    assert done.returncode == code and message in " ".join(done.stderr.split()) and "Traceback" not in done.stderr
