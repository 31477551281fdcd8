"""Collection and forward passes of PPO: what is sampled, scored and measured, on a tiny random Llama."""

import random
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sawyer.errors import DataError, TrainingError
from sawyer.generation import Generation
from sawyer.models import Policy
from sawyer.recipe import PpoSpec, Recipe
from sawyer.scoring import Part, Reward
from tests.train.makers import make_backbone, recipe, sentence, write_lines
from train.ppo.actor import STAGE, Actor
from train.ppo.maths import gae, kl_k1, token_rewards, whiten
from train.ppo.prompts import Task, Tasks, load_tasks, spread
from train.ppo.rollout import Episode, arrange, collect, describe, distinct_2, judge
from train.ppo.update import Learner


class Letters:
    """Scores a reply by its number of letters e; records what it was asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def score(self, prompts: Sequence[Any], responses: Sequence[str]) -> np.ndarray:
        self.asked += responses
        return np.array([response.count("e") for response in responses], dtype=np.float32)


class Answers:
    """Answers every request with the same array."""

    def __init__(self, *values: float) -> None:
        self.values = values

    def score(self, prompts: Sequence[Any], responses: Sequence[str]) -> np.ndarray:
        return np.array(self.values, dtype=np.float32)


def frozen(scorer: Any, mean: float = 1.0, deviation: float = 2.0, weight: float = 1.0) -> Reward:
    return Reward([Part("part", scorer, weight, mean, deviation)])


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_backbone(tmp_path_factory.mktemp("backbone"))


@pytest.fixture(scope="module")
def sft(backbone: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An adapter that does something, with a dropout of its own (0.1)."""
    told = recipe(backbone)
    policy = Policy.load(backbone, spec=told.model)
    policy.add_adapter("sft", told.lora)
    torch.manual_seed(5)
    with torch.no_grad():
        for parameter in policy.parameters_of("sft"):
            parameter.add_(0.1 * torch.randn_like(parameter))
    folder = tmp_path_factory.mktemp("sft")
    policy.save_adapter("sft", folder)
    return folder


def ppo_recipe(backbone: Path, dtype: str = "float32", **changes: Any) -> Recipe:
    section = {
        "prompts": [{"name": "unused"}],
        "reward": "unused",
        "batch_size": 12,
        "minibatch_size": 6,
        "micro_batch": 3,
        "max_prompt": 48,
        "max_new_tokens": 16,
        "temperature": 0.7,
        "lr": 1e-2,
    }
    told = recipe(backbone, ppo=section | changes)
    return told.model_copy(update={"model": told.model.model_copy(update={"dtype": dtype})})


def some_tasks(policy: Policy, count: int) -> list[Task]:
    draw = random.Random(1)
    prompts = [[{"role": "user", "content": sentence(draw, draw.randint(1, 8))}] for _ in range(count)]
    return [Task(messages, policy.chat.encode_prompt(messages, STAGE)) for messages in prompts]


def test_measured_logprobs_equal_a_plain_forward_without_padding(backbone: Path, sft: Path) -> None:
    told = ppo_recipe(backbone)
    actor = Actor.load(told, backbone, sft)
    rollout = collect(actor, frozen(Letters()), some_tasks(actor.policy, 12), told.ppo, seed=1)
    for row, episode in enumerate(rollout.episodes):
        prompt, reply = episode.task.ids, episode.reply.ids
        with actor.policy.using("sft") as model, torch.no_grad():
            logits = model(torch.tensor([prompt + reply])).logits[0, len(prompt) - 1 : -1]
        expected = (logits.float() / 0.7).log_softmax(-1)[torch.arange(len(reply)), torch.tensor(reply)]
        torch.testing.assert_close(rollout.old[row, : len(reply)], expected, atol=1e-4, rtol=1e-4)
        assert int(rollout.mask[row].sum()) == len(reply) == int(rollout.lengths[row])
        assert not rollout.old[row, len(reply) :].any()
    assert describe(rollout, 0.05)["rollout/drift"] < 1e-4  # what was sampled from is what is measured


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("with_sft", [True, False])
def test_kl_is_zero_and_first_ratio_one_before_any_update(
    backbone: Path, sft: Path, dtype: str, with_sft: bool
) -> None:
    told = ppo_recipe(backbone, dtype)
    actor = Actor.load(told, backbone, sft if with_sft else None)
    assert actor.reference == ("sft" if with_sft else "base")
    rollout = collect(actor, frozen(Letters()), some_tasks(actor.policy, 12), told.ppo, seed=1)
    assert torch.equal(rollout.old, rollout.reference)
    assert not rollout.values.any()  # the value head starts at zero
    learner = Learner(actor, told.ppo)
    kl = kl_k1(rollout.old, rollout.reference, rollout.mask)
    rewards = token_rewards(kl, rollout.scores, rollout.lengths, 0.05)
    advantages, returns = gae(rewards, rollout.values, rollout.mask, 1.0, 0.95)
    with actor.learning():
        update = learner.step(rollout, [0, 1], whiten(advantages, rollout.mask), returns)
    assert update.gap == 0.0 and update.ratio == 1.0 and update.clip_fraction == 0.0 and not update.skipped
    after = collect(actor, frozen(Letters()), some_tasks(actor.policy, 12), told.ppo, seed=1)
    assert not torch.equal(after.old, after.reference)
    assert after.values.any()


def test_only_rlf_and_the_value_head_are_trained_and_the_reference_stays(backbone: Path, sft: Path) -> None:
    told = ppo_recipe(backbone)
    actor = Actor.load(told, backbone, sft)
    ours = {id(parameter) for parameter in actor.parameters()}
    others = {name: p.clone() for name, p in actor.policy.model.named_parameters() if id(p) not in ours}
    rollout = collect(actor, frozen(Letters()), some_tasks(actor.policy, 12), told.ppo, seed=2)
    before = actor.measure_reference(rollout.batches[0])
    learner = Learner(actor, told.ppo)
    with actor.learning():
        for parts in rollout.minibatches(0, 2, seed=0):
            learner.step(rollout, parts, torch.randn(rollout.mask.shape), torch.randn(rollout.mask.shape))
    named = dict(actor.policy.model.named_parameters())
    assert all(torch.equal(named[name], value) for name, value in others.items())
    assert torch.equal(actor.measure_reference(rollout.batches[0]), before)
    assert not any(parameter.requires_grad for parameter in named.values())  # nothing leaks out of the block
    assert all(parameter.dtype == torch.float32 for parameter in actor.parameters())


def test_minibatches_cover_every_episode_once_an_epoch_and_keep_micro_batches_whole(backbone: Path) -> None:
    told = ppo_recipe(backbone)
    actor = Actor.load(told, backbone, None)
    rollout = collect(actor, frozen(Letters()), some_tasks(actor.policy, 12), told.ppo, seed=3)
    orders = [list(rollout.minibatches(epoch, 2, seed=4)) for epoch in range(4)]
    assert orders[0] == [[0, 1], [2, 3]]
    assert all(sorted(chain.from_iterable(order)) == [0, 1, 2, 3] for order in orders)
    assert len({str(order) for order in orders}) > 1
    assert orders == [list(rollout.minibatches(epoch, 2, seed=4)) for epoch in range(4)]
    for index, batch in enumerate(rollout.batches):
        (mask,) = rollout.part(index, rollout.mask)
        assert torch.equal(mask, batch.response_mask)


def test_arranging_keeps_minibatches_random_and_orders_within_them() -> None:
    spec = PpoSpec(prompts=[{"name": "x"}], batch_size=8, minibatch_size=4, micro_batch=2)
    replies = [Generation([1] * n, "", True, [0.0] * n) for n in (9, 1, 8, 2, 7, 3, 6, 4)]
    ordered = arrange([Episode(Task([], [1]), reply) for reply in replies], spec, seed=0)
    lengths = [len(episode.reply.ids) for episode in ordered]
    assert lengths[:4] == sorted(lengths[:4]) and lengths[4:] == sorted(lengths[4:])
    assert sorted(lengths) == [1, 2, 3, 4, 6, 7, 8, 9] and lengths != sorted(lengths)


def test_scores_are_normalised_clipped_and_cut_for_a_missing_end() -> None:
    reward = Reward([Part("a", Answers(5.0, 101.0), 2.0, 1.0, 2.0), Part("b", Answers(1.0, 0.0), 0.5, 0.0, 1.0)])
    task = Task([{"role": "user", "content": "hi"}], [1])
    episodes = [
        Episode(task, Generation([4, 2], "one", True, [0.0, 0.0])),
        Episode(task, Generation([2], "  ", True, [0.0])),
        Episode(task, Generation([4, 4], "two", False, [0.0, 0.0])),
    ]
    scores = judge(reward, episodes, missing_eos_penalty=1.0)
    # 2·(5−1)/2 + 0.5·1; fixed for the empty reply; 2·clip(50 → 5) + 0 − 1 for the one cut off.
    np.testing.assert_allclose(scores.total, [4.5, -5.0, 9.0])
    np.testing.assert_allclose(scores.raw["a"], [5.0, np.nan, 101.0])


def test_reward_freezes_mean_and_deviation_of_non_empty_replies() -> None:
    reward, prompts = Reward([Part("letters", Letters())]), [[{"role": "user", "content": "q"}]] * 3
    with pytest.raises(TrainingError, match="before its mean and deviation"):
        reward.score(prompts, ["e", "ee", "x"])
    reward.freeze(prompts, ["e", "", "eee"])
    assert reward.state() == {"letters": {"mean": 2.0, "deviation": 1.0}}
    np.testing.assert_allclose(reward.score(prompts, ["e", "ee", ""]).total, [-1.0, 0.0, -5.0])
    other = Reward([Part("letters", Letters())])
    other.load_state(reward.state())
    assert other.state() == reward.state()
    with pytest.raises(TrainingError, match="has the parts"):
        Reward([Part("words", Letters())]).load_state(reward.state())


@pytest.mark.parametrize(
    ("scorer", "message"),
    [
        (Answers(1.0, float("nan")), "gave nan to 1 of 2 responses, the first being 'two'"),
        (Answers(1.0, float("inf")), "must be finite"),
        (Answers(1.0), r"answered with shape \(1,\) to 2 responses"),
    ],
)
def test_a_scorer_that_misbehaves_is_named(scorer: Answers, message: str) -> None:
    with pytest.raises(TrainingError, match=message):
        frozen(scorer).score([[{"role": "user", "content": "q"}]] * 2, ["one", "two"])


def test_a_reward_without_difference_or_replies_is_refused() -> None:
    prompts = [[{"role": "user", "content": "q"}]] * 2
    with pytest.raises(TrainingError, match="the same score"):
        Reward([Part("flat", Answers(2.0, 2.0))]).freeze(prompts, ["a", "b"])
    with pytest.raises(TrainingError, match="1 are not empty"):
        Reward([Part("letters", Letters())]).freeze(prompts, ["a", " "])
    with pytest.raises(TrainingError, match="distinct names"):
        Reward([Part("same", Letters()), Part("same", Letters())])


def test_prompts_are_dealt_by_step_number_alone_and_each_once_a_pass() -> None:
    tasks = Tasks([Task([], [n]) for n in range(10)], [], 0)
    dealt = [task.ids[0] for step in range(5) for task in tasks.deal(step, 4, seed=1)]
    assert sorted(dealt[:10]) == sorted(dealt[10:]) == list(range(10))
    assert dealt[:10] != dealt[10:]
    assert [task.ids[0] for task in tasks.deal(3, 4, seed=1)] == dealt[12:16]
    assert [task.ids[0] for task in tasks.deal(0, 25, seed=1)][:20] == dealt
    assert [task.ids[0] for task in spread(tasks.train, 3)] == [0, 3, 6]


def test_a_prompt_of_a_group_is_dealt_as_often_as_the_group_is_large() -> None:
    tasks = Tasks([Task([], [n]) for n in range(10)], [], 0)
    dealt = [task.ids[0] for step in range(5) for task in tasks.deal(step, 8, seed=3, each=4)]
    assert [dealt[n : n + 4] for n in range(0, 40, 4)] == [[n] * 4 for n in dealt[::4]]
    assert sorted(dealt[::4]) == list(range(10))  # two prompts a step: a pass in five steps


def test_replies_to_one_prompt_are_compared_with_one_another(backbone: Path, sft: Path) -> None:
    told = ppo_recipe(backbone, batch_size=8, minibatch_size=4, micro_batch=2, group_size=4)
    assert told.ppo is not None
    actor = Actor.load(told, backbone, sft)
    asked = [task for task in some_tasks(actor.policy, 2) for _ in range(4)]
    rollout = collect(actor, frozen(Letters()), asked, told.ppo, seed=1)
    assert torch.equal(rollout.baseline(1), torch.zeros(8))
    baseline = rollout.baseline(4)
    for place, episode in enumerate(rollout.episodes):
        others = [
            float(rollout.scores[n])
            for n, other in enumerate(rollout.episodes)
            if n != place and other.task.ids == episode.task.ids
        ]
        assert len(others) == 3 and float(baseline[place]) == pytest.approx(sum(others) / 3, abs=1e-5)
    assert len({episode.reply.text for episode in rollout.episodes}) > 2  # each reply is drawn by itself


def test_long_prompts_are_left_out_and_none_left_is_an_error(backbone: Path, tmp_path: Path) -> None:
    policy = Policy.load(backbone, spec=recipe(backbone).model)
    lines = [{"prompt": sentence(random.Random(n), words)} for n, words in enumerate([2] * 20 + [60] * 5)]
    source = [{"name": write_lines(tmp_path / "prompts.jsonl", lines)}]
    tasks = load_tasks(PpoSpec(prompts=source, max_prompt=48, held_out=0.3), policy.chat, STAGE, seed=0)
    assert tasks.left_out == 5 and len(tasks.train) + len(tasks.held_out) == 20 and tasks.held_out
    with pytest.raises(DataError, match=r"25 are longer than ppo.max_prompt \(3 tokens\)"):
        load_tasks(PpoSpec(prompts=source, max_prompt=3), policy.chat, STAGE, seed=0)


def test_distinct_2_by_hand() -> None:
    assert distinct_2([[1, 2, 1, 2, 1]]) == 0.5  # (1,2) (2,1) (1,2) (2,1)
    assert distinct_2([[1, 2, 3], [4, 4, 4], [9]]) == 0.75
    assert distinct_2([[1], []]) == 1.0
