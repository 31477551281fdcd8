"""The forward passes of the actor, Llama or T5: nothing in them is random, and no row depends on its batch.

Elsewhere: padding against a plain forward pass (``test_generation``), the first ratio of an update
(``test_ppo_rollout``, ``test_ppo_loop``), T5's log-probabilities against the loss of labels
(``test_encoder_decoder``).
"""

import json
import shutil
from pathlib import Path

import pytest
import torch

from sawyer.logprobs import Batch, collate
from sawyer.recipe import LoraSpec
from tests.train.makers import recipe
from train.ppo.actor import STAGE, Actor, Forward

QUESTIONS = ("Hello!", "What is tea made with?", "Tell me about the cat and the dog.", "And?")
REPLIES = ("Water boils at one hundred degrees.", "tea", "I am fine, thank you. The cat sat on the mat.", "Hot water")
FIGURES = ("logprobs", "values", "entropy")


@pytest.fixture(params=["llama", "t5"])
def backbone(request: pytest.FixtureRequest, tiny_backbone: Path, tiny_t5: Path, tmp_path: Path) -> Path:
    """A backbone whose own config asks for dropout: a tenth of T5 as it comes, a half of Llama's attention."""
    if request.param == "t5":
        assert json.loads((tiny_t5 / "config.json").read_text())["dropout_rate"] == 0.1
        return tiny_t5
    folder = tmp_path / "noisy"
    shutil.copytree(tiny_backbone, folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"attention_dropout": 0.5}))
    return folder


def actor_on(backbone: Path, dropout: float) -> Actor:
    """An actor whose adapter and value head do something."""
    section = {"prompts": [{"name": "unused"}], "reward": "unused", "max_prompt": 64, "max_new_tokens": 32}
    told = recipe(backbone, ppo=section).model_copy(update={"lora": LoraSpec(r=4, alpha=8, dropout=dropout)})
    actor = Actor.load(told, backbone, None)
    draw = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in actor.parameters():
            parameter.copy_(0.2 * torch.randn(parameter.shape, generator=draw))
    return actor


def episodes(actor: Actor) -> tuple[list[list[int]], list[list[int]]]:
    chat = actor.policy.chat
    asked = [chat.encode_prompt([{"role": "user", "content": text}], STAGE) for text in QUESTIONS]
    return asked, [[*chat.encode_text(text), chat.eos_id] for text in REPLIES]


def batch_of(actor: Actor, rows: list[int]) -> Batch:
    asked, replies = episodes(actor)
    return collate([asked[row] for row in rows], [replies[row] for row in rows], actor.policy.chat.pad_id)


def same(first: Forward, second: Forward) -> bool:
    return all(torch.equal(getattr(first, name), getattr(second, name)) for name in FIGURES)


def test_two_forward_passes_in_train_mode_are_identical(backbone: Path) -> None:
    """The backbone's own dropout is zeroed in its config, where T5 reads it in functional calls."""
    actor = actor_on(backbone, dropout=0.0)
    batch = batch_of(actor, [0, 1, 2, 3])
    actor.policy.model.train()
    with actor.learning():
        first, second = (actor.measure(batch, entropies=True) for _ in range(2))
    assert same(first, second) and first.logprobs.requires_grad
    assert torch.equal(actor.measure_reference(batch), actor.measure_reference(batch))
    actor.policy.model.eval()
    with torch.no_grad():
        assert same(first, actor.measure(batch, entropies=True))


def test_an_adapters_own_dropout_is_not_in_force_while_ppo_learns(backbone: Path) -> None:
    actor = actor_on(backbone, dropout=0.5)
    batch = batch_of(actor, [0, 1, 2, 3])
    with torch.no_grad():
        before = actor.measure(batch, entropies=True)
    with actor.learning():
        first, second = (actor.measure(batch, entropies=True) for _ in range(2))
    assert same(before, first) and same(first, second)
    actor.policy.model.train()  # there is one: what keeps it out is the mode, which nobody changes
    with actor.learning():
        assert not same(first, actor.measure(batch, entropies=True))


@pytest.mark.parametrize("rows", [[0], [1], [2], [3], [1, 3], [3, 2, 1, 0], [2, 2, 0, 1]], ids=str)
def test_padding_and_companions_change_a_rows_figures_by_rounding_only(backbone: Path, rows: list[int]) -> None:
    actor = actor_on(backbone, dropout=0.0)
    lengths = [len(reply) for reply in episodes(actor)[1]]
    with torch.no_grad():
        whole, part = (actor.measure(batch_of(actor, some), entropies=True) for some in ([0, 1, 2, 3], rows))
        references = [actor.measure_reference(batch_of(actor, some)) for some in ([0, 1, 2, 3], rows)]
    for place, row in enumerate(rows):
        reach = lengths[row]
        for name in FIGURES:
            ours, theirs = getattr(part, name)[place, :reach], getattr(whole, name)[row, :reach]
            torch.testing.assert_close(ours, theirs, atol=2e-5, rtol=1e-5)
        torch.testing.assert_close(references[1][place, :reach], references[0][row, :reach], atol=2e-5, rtol=1e-5)
    assert float(whole.values.abs().max()) > 0.1 and not torch.allclose(whole.logprobs, references[0], atol=0.1)
