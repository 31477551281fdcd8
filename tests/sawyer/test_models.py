"""Policy: stages as adapters of one backbone, copies exact, gradients guarded, broken folders explained."""

import shutil

import pytest
import torch

from sawyer.errors import ModelError
from sawyer.models import Policy
from sawyer.recipe import LoraSpec


def logits(policy, stage):
    with policy.using(stage) as model, torch.no_grad():
        return model(input_ids=torch.tensor([[5, 6, 7, 8]])).logits


def test_stages_differ_and_base_is_the_bare_backbone(policy, tiny_backbone, spec):
    bare = Policy.load(tiny_backbone, spec=spec)
    assert torch.equal(logits(policy, "base"), logits(bare, "base"))
    assert not torch.allclose(logits(policy, "sft"), logits(policy, "rlf"))
    assert not torch.allclose(logits(policy, "sft"), logits(policy, "base"))


def test_a_copied_adapter_answers_identically(policy):
    policy.add_adapter("candidate", LoraSpec(), copy_of="sft")
    assert torch.equal(logits(policy, "candidate"), logits(policy, "sft"))


def test_a_fresh_adapter_changes_nothing(tiny_backbone, spec):
    policy = Policy.load(tiny_backbone, spec=spec)
    before = logits(policy, "base")
    policy.add_adapter("sft", LoraSpec(r=4, alpha=8))
    assert torch.equal(logits(policy, "sft"), before)


def test_only_the_trained_stage_requires_gradients_and_the_state_is_restored(policy):
    def trainable():
        return {n for n, p in policy.model.named_parameters() if p.requires_grad}

    assert trainable() == set()
    with policy.using("rlf", train=True):
        inside = trainable()
        with policy.using("sft"):
            assert trainable() == set()
        with policy.using("base"):
            pass
        assert trainable() == inside
    assert inside and all(".rlf." in name for name in inside)
    assert trainable() == set()


def test_a_saved_adapter_is_loaded_by_plain_peft(policy, tiny_backbone, tmp_path):
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    policy.save_adapter("rlf", tmp_path / "out")
    files = sorted(file.name for file in (tmp_path / "out").iterdir())
    assert files == ["adapter_config.json", "adapter_model.safetensors"]
    plain = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(tiny_backbone), tmp_path / "out").eval()
    with torch.no_grad():
        assert torch.equal(plain(input_ids=torch.tensor([[5, 6, 7, 8]])).logits, logits(policy, "rlf"))


def test_dropout_is_zeroed(tiny_backbone, tmp_path, spec):
    import json

    folder = tmp_path / "noisy"
    shutil.copytree(tiny_backbone, folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"attention_dropout": 0.5}))
    policy = Policy.load(folder, spec=spec)
    policy.model.train()
    assert torch.equal(logits(policy, "base"), logits(policy, "base"))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("truncate", "incomplete or corrupt"),
        ("missing", "incomplete or corrupt"),
        ("no config", "no config.json"),
        ("pickle", "pickled"),
        ("absent", "no folder"),
    ],
)
def test_a_broken_backbone_is_explained(tiny_backbone, tmp_path, spec, damage, message):
    folder = tmp_path / "broken"
    shutil.copytree(tiny_backbone, folder)
    shards = sorted(folder.glob("*.safetensors"))
    if damage == "truncate":
        shards[0].write_bytes(shards[0].read_bytes()[:100])
    elif damage == "missing":
        shards[0].unlink()
    elif damage == "no config":
        (folder / "config.json").unlink()
    elif damage == "pickle":
        for shard in shards:
            shard.rename(shard.with_suffix(".bin"))
    else:
        shutil.rmtree(folder)
    with pytest.raises(ModelError, match=message):
        Policy.load(folder, spec=spec)


def test_a_broken_or_foreign_adapter_is_explained(policy, tiny_adapters, tmp_path):
    folder = tmp_path / "adapter"
    shutil.copytree(tiny_adapters["sft"], folder)
    weights = folder / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:64])
    with pytest.raises(ModelError, match=r"adapter of stage sft .* corrupt"):
        policy.load_adapter("sft", folder)
    with pytest.raises(ModelError, match="not complete"):
        policy.load_adapter("sft", tmp_path / "nothing")


@pytest.fixture(scope="module")
def deeper(tiny_backbone, tmp_path_factory):
    """A backbone of the tiny one's shape with three layers in place of two."""
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    folder = tmp_path_factory.mktemp("deeper")
    config = LlamaConfig.from_pretrained(tiny_backbone)
    config.update({"num_hidden_layers": 3})
    LlamaForCausalLM(config).save_pretrained(folder)
    AutoTokenizer.from_pretrained(tiny_backbone).save_pretrained(folder)
    return folder


def test_an_adapter_of_a_shallower_backbone_is_refused_first_or_second(policy, deeper, tiny_adapters, spec):
    """All its weights find a place, so that PEFT says nothing: the layers beyond would stay the bare backbone's."""
    foreign = r"adapter of stage sft .* made for another backbone: 7 weights .*layers\.2\..*model\.backbone"
    with pytest.raises(ModelError, match=foreign):
        Policy.load(deeper, {"sft": tiny_adapters["sft"]}, spec=spec)
    other = Policy.load(deeper, spec=spec)
    other.add_adapter("rlf", LoraSpec(r=4, alpha=8))
    with pytest.raises(ModelError, match=foreign):
        other.load_adapter("sft", tiny_adapters["sft"])


def test_an_adapter_with_weights_that_find_no_place_is_refused(policy, tiny_adapters, tmp_path):
    from safetensors.torch import load_file, save_file

    folder = tmp_path / "adapter"
    shutil.copytree(tiny_adapters["sft"], folder)
    weights = load_file(folder / "adapter_model.safetensors")
    save_file(weights | {"base_model.model.score.weight": torch.zeros(1, 32)}, folder / "adapter_model.safetensors")
    with pytest.raises(ModelError, match=r"made for another backbone: 1 weights .*\.score\."):
        policy.load_adapter("sft", folder)


@pytest.mark.parametrize("target", [["q_proj", "v_proj"], ["layers.0.self_attn.q_proj"], "all-linear"])
def test_an_adapter_of_chosen_layers_loads_where_it_was_made(deeper, tmp_path, spec, target):
    policy = Policy.load(deeper, spec=spec)
    policy.add_adapter("sft", LoraSpec(r=4, alpha=8, target=target))
    with torch.no_grad():
        for parameter in policy.parameters_of("sft"):
            parameter.add_(0.1)
    policy.save_adapter("sft", tmp_path / "adapter")
    again = Policy.load(deeper, {"sft": tmp_path / "adapter"}, spec=spec)
    assert torch.equal(logits(again, "sft"), logits(policy, "sft"))


def test_an_absent_hub_model_is_explained(spec):
    with pytest.raises(ModelError, match=r"'nobody/nothing' could not be loaded.*model\.backbone"):
        Policy.load("nobody/nothing", spec=spec)


def test_context_is_the_smaller_of_recipe_and_model(tiny_backbone, spec):
    assert Policy.load(tiny_backbone, spec=spec.model_copy(update={"context": 4096})).context == 256
