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


def test_an_absent_hub_model_is_explained(spec):
    with pytest.raises(ModelError, match=r"'nobody/nothing' could not be loaded.*model\.backbone"):
        Policy.load("nobody/nothing", spec=spec)


def test_context_is_the_smaller_of_recipe_and_model(tiny_backbone, spec):
    assert Policy.load(tiny_backbone, spec=spec.model_copy(update={"context": 4096})).context == 256
