"""What people get wrong about PPO: each fault ends with a message of what was given, what is allowed and which key."""

import json
import random
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

from sawyer.errors import DataError, ModelError, RecipeError, SawyerError, TrainingError
from sawyer.home import Home
from sawyer.models import Policy
from sawyer.recipe import Recipe, load_recipe
from sawyer.registry import Registry
from sawyer.runs import Run
from tests.train.makers import CONTEXT, make_backbone, recipe, sentence, write_lines
from train.pipeline import train_one
from train.ppo import train_ppo


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_backbone(tmp_path_factory.mktemp("backbone"))


@pytest.fixture(scope="module")
def prompts(tmp_path_factory: pytest.TempPathFactory) -> str:
    lines = [{"prompt": sentence(random.Random(n), 3)} for n in range(40)]
    return write_lines(tmp_path_factory.mktemp("data") / "prompts.jsonl", lines)


def told(backbone: Path, prompts: str, **changes: Any) -> Recipe:
    section = {
        "prompts": [{"name": prompts}],
        "reward": [{"length": {}}],
        "steps": 2,
        "batch_size": 4,
        "minibatch_size": 4,
        "micro_batch": 4,
        "epochs": 1,
        "max_prompt": 48,
        "max_new_tokens": 8,
        "normalize_samples": 8,
        "save_every": 1,
        "held_out": 0.3,
        "watch": False,
    }
    return recipe(backbone, ppo=section | changes)


def complaint(asked: Recipe, folder: Path, kind: type[SawyerError], sft: Path | None = None) -> str:
    """Start PPO and return the error it ends with, which must be of this kind."""
    with Run(folder / "run", step="ppo", recipe=asked) as run, pytest.raises(kind) as caught:
        train_ppo(asked, run, asked.model.backbone, sft, None)
    return str(caught.value)


def names(text: str, *parts: str) -> None:
    """All parts must stand in the text."""
    assert not [part for part in parts if part not in text], text


BROKEN_AT_ONCE = {
    "nan": ("[float('nan') for _ in replies]", ("gave nan to 2 of 2 responses", "must be finite", "ppo.reward")),
    "too few": ("[1.0]", ("shape (1,) to 2 responses", "one number a response", "ppo.reward")),
    "a table": ("[[1.0, 2.0] for _ in replies]", ("shape (2, 2)", "one number a response", "ppo.reward")),
    "words": ("['good' for _ in replies]", ("['good', 'good']", "one number a response", "ppo.reward")),
    "nothing": ("None", ("one number a response", "ppo.reward")),
    "raises": ("[{}['x'] for _ in replies]", ("raised KeyError: 'x'", "mine.py:2", "function of ppo.reward")),
}


@pytest.mark.parametrize("fault", BROKEN_AT_ONCE)
def test_a_function_that_is_broken_is_named_before_the_first_rollout(
    backbone: Path, prompts: str, tmp_path: Path, fault: str
) -> None:
    body, expected = BROKEN_AT_ONCE[fault]
    file = tmp_path / "mine.py"
    file.write_text(f"def score(prompts, replies):\n    return {body}\n")
    asked = told(backbone, prompts, reward=[{"function": f"{file}:score"}])
    names(complaint(asked, tmp_path, TrainingError), f"{file}:score" if fault != "nan" else "function", *expected)
    assert not (tmp_path / "run" / "metrics.jsonl").exists()


LATER = {
    "nan": ("[float('nan')] * len(replies)", ("function gave nan to 4 of 4 responses", "must be finite", "ppo.reward")),
    "too many": ("[1.0] * (len(replies) + 1)", ("shape (5,) to 4 responses", "one number a response", "ppo.reward")),
    "raises": ("[1 / 0]", ("raised ZeroDivisionError", "mine.py:8", "function of ppo.reward")),
}


@pytest.mark.parametrize("fault", LATER)
def test_a_function_that_breaks_in_the_run_is_named_and_the_checkpoints_are_kept(
    backbone: Path, prompts: str, tmp_path: Path, fault: str
) -> None:
    body, expected = LATER[fault]
    file = tmp_path / "mine.py"
    # Asked when it is tried, when its statistics are frozen, about held-out replies and by each of two rollouts.
    file.write_text(
        "calls = 0\n\n\ndef score(prompts, replies):\n    global calls\n    calls += 1\n"
        f"    if calls == 5:\n        return {body}\n    return [len(reply) for reply in replies]\n"
    )
    asked = told(backbone, prompts, reward=[{"function": f"{file}:score"}], sample_every=2)
    names(complaint(asked, tmp_path, TrainingError), "checkpoints so far are kept", *expected)
    assert [folder.name for folder in (tmp_path / "run" / "checkpoints").iterdir()] == ["step-0000001"]


def test_an_unknown_label_lists_the_labels(backbone: Path, prompts: str, tiny_classifier: Path, tmp_path: Path) -> None:
    asked = told(backbone, prompts, reward=[{"classifier": str(tiny_classifier), "label": "neutral"}])
    text = complaint(asked, tmp_path, ModelError)
    names(text, str(tiny_classifier), "no label 'neutral'", "unacceptable, acceptable", "key label", "ppo.reward")


def test_a_tokenizer_without_eos_is_refused(backbone: Path, prompts: str, tmp_path: Path) -> None:
    folder = tmp_path / "endless"
    shutil.copytree(backbone, folder)
    tokenizer = AutoTokenizer.from_pretrained(backbone)
    tokenizer.eos_token = tokenizer.pad_token = None
    tokenizer.save_pretrained(folder)
    text = complaint(told(folder, prompts), tmp_path, ModelError)
    names(text, str(folder), "no EOS token", "Name another one in model.tokenizer")


def faulty(**changes: Any) -> str:
    """The recipe tiny with these settings, and what is said of it."""
    with pytest.raises(RecipeError) as caught:
        load_recipe("tiny", [f"{key.replace('__', '.')}={json.dumps(value)}" for key, value in changes.items()])
    assert caught.value.exit_code == 2
    return str(caught.value)


def test_prompts_that_leave_no_room_are_refused_by_the_recipe() -> None:
    text = faulty(ppo__max_prompt=200, ppo__max_new_tokens=100)
    names(text, "ppo.max_prompt 200 + ppo.max_new_tokens 100 exceed model.context 256", "lower one of the first two")


def test_prompts_that_leave_no_room_in_the_backbone_are_refused_before_anything_is_sampled(
    backbone: Path, prompts: str, tmp_path: Path
) -> None:
    """The recipe allows 512 tokens, but the backbone has 96 positions."""
    asked = told(backbone, prompts).model_dump()
    asked["model"]["context"], asked["ppo"]["max_prompt"], asked["ppo"]["max_new_tokens"] = 512, 80, 40
    text = complaint(Recipe.model_validate(asked), tmp_path, ModelError)
    names(text, "ppo.max_prompt 80 + ppo.max_new_tokens 40", f"takes {CONTEXT} tokens", "Lower one of the two")


def test_prompts_that_are_all_too_long_are_counted(backbone: Path, prompts: str, tmp_path: Path) -> None:
    text = complaint(told(backbone, prompts, max_prompt=2), tmp_path, DataError)
    names(text, "of 40 read, 40 are longer than ppo.max_prompt (2 tokens)", "Raise the first", "ppo.prompts")


def test_batch_sizes_that_do_not_divide_are_refused() -> None:
    text = faulty(ppo__batch_size=24, ppo__minibatch_size=16)
    names(text, "ppo: batch_size 24 must be a multiple of minibatch_size 16")
    text = faulty(ppo__batch_size=24, ppo__minibatch_size=12, ppo__micro_batch=8)
    names(text, "ppo: minibatch_size 12 must be a multiple of micro_batch 8")


def test_a_fixed_beta_and_a_target_exclude_each_other() -> None:
    text = faulty(ppo__kl={"beta": 0.1, "target": 4.0})
    names(text, "ppo.kl: beta 0.1 is a fixed coefficient and target 4 adapts it: give one of them")


def other_backbone(backbone: Path, folder: Path, **shape: int) -> Path:
    """A Llama with the tokenizer of ``backbone``, of another shape or at least with other weights."""
    config = LlamaConfig.from_pretrained(backbone)
    config.update(shape)
    torch.manual_seed(11)
    LlamaForCausalLM(config).save_pretrained(folder)
    AutoTokenizer.from_pretrained(backbone).save_pretrained(folder)
    return folder


def adapter_of(backbone: Path, folder: Path) -> Path:
    """An adapter that was trained on ``backbone``."""
    policy = Policy.load(backbone, spec=recipe(backbone).model)
    policy.add_adapter("sft", recipe(backbone).lora)
    policy.save_adapter("sft", folder)
    return folder


@pytest.mark.filterwarnings("ignore:Found missing adapter keys")  # said by PEFT, which goes on nevertheless
@pytest.mark.parametrize(
    ("adapters", "policys"),
    # Below twenty adapted modules PEFT writes each down by its layer's number, and from there on the kinds alone.
    [
        ({"hidden_size": 64}, {}),
        ({"num_hidden_layers": 3}, {}),
        ({"num_hidden_layers": 1}, {}),
        ({"num_hidden_layers": 4}, {"num_hidden_layers": 5}),
    ],
    ids=["of another width", "of more layers", "of fewer layers by number", "of fewer layers by kind"],
)
def test_an_adapter_of_a_backbone_of_another_shape_is_refused(
    backbone: Path, prompts: str, tmp_path: Path, adapters: dict[str, int], policys: dict[str, int]
) -> None:
    sft = adapter_of(other_backbone(backbone, tmp_path / "one", **adapters), tmp_path / "sft")
    asked = told(other_backbone(backbone, tmp_path / "two", **policys), prompts)
    text = complaint(asked, tmp_path, ModelError, sft)
    names(text, f"adapter of stage sft in {sft}", "made for another backbone", "Train it again", "model.backbone")
    assert re.search(r"layers\.\d", text)  # where they differ


def test_an_adapter_of_a_backbone_of_equal_shape_is_refused_by_its_fingerprint(
    backbone: Path, prompts: str, tmp_path: Path
) -> None:
    """PEFT would load it without a word: only the registry knows what it was trained on."""
    asked = told(other_backbone(backbone, tmp_path / "other"), prompts)
    home = Home(tmp_path / "home").ensure()
    registry = Registry.of(asked, home)
    theirs, ours = (Policy.load(folder, spec=asked.model).fingerprint for folder in (backbone, tmp_path / "other"))
    adapter = adapter_of(backbone, tmp_path / "sft")
    registry.promote(registry.register("sft", adapter, info={"backbone": theirs}).ref)
    with pytest.raises(ModelError) as caught:
        train_one("ppo", asked, home)
    text = str(caught.value)
    names(text, "adapter of stage sft", f"than {tmp_path / 'other'}", f"fingerprints {theirs} and {ours}")
    names(text, "Train it again", "model.backbone")
    registry.promote(registry.register("sft", adapter, info={"backbone": ours}).ref)
    assert train_one("ppo", asked, home) == "rlf@1"
