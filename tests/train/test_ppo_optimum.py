"""PPO where the best policy is known: a bandit, and the optimum of a reward on a leash, π*(y) ∝ ref(y)·exp(r(y)/β).

First with SAWYER's maths on policies that are tables, then with the whole loop on a tiny model, replies of one token.
The measure of a policy against π* is the largest relative gap |π(y)/π*(y) − 1| over the replies that hold at least a
hundredth of π*; it has to be below 2 %.
"""

from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import AutoConfig, AutoTokenizer, LlamaForCausalLM

from sawyer.models import Policy
from sawyer.recipe import Recipe
from sawyer.runs import Run
from sawyer.scoring import Part, Reward
from tests.train.makers import WORDS, make_backbone, recipe, write_lines
from train.ppo import train_ppo
from train.ppo.actor import STAGE
from train.ppo.maths import gae, kl_k1, length_mask, linear_decay, policy_loss, token_rewards, value_loss, whiten

WITHIN = 0.02
END = 0


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """The tensors are small, and threads only wait for each other on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def gap(found: Tensor, best: Tensor) -> float:
    """The largest relative gap between two distributions, where the second has at least a hundredth of the mass."""
    weighty = best >= 0.01
    return float((found[weighty] / best[weighty] - 1).abs().max())


def best_of(reference: Tensor, rewards: Tensor, beta: float) -> Tensor:
    """π* in closed form."""
    return (reference.double().log() + rewards.double() / beta).softmax(-1)


class Table:
    """Replies of at most ``width`` tokens out of ``size``, the first of which ends them; a state for each beginning.

    Logits, values and whatever else a policy is made of are tables over the states.
    """

    def __init__(self, width: int, size: int) -> None:
        self.width, self.size = width, size
        self.starts = [sum(size**t for t in range(depth)) for depth in range(width + 1)]
        self.states = self.starts[-1]
        # Every reply once, as the (state, token) pairs it goes through.
        self.replies = [
            list(zip(self.path(tokens), tokens, strict=True))
            for length in range(1, width + 1)
            for tokens in product(range(size), repeat=length)
            if END not in tokens[:-1] and (tokens[-1] == END or length == width)
        ]

    def path(self, tokens: Sequence[int]) -> list[int]:
        """The state before each token."""
        code, states = 0, []
        for depth, token in enumerate(tokens):
            states.append(self.starts[depth] + code)
            code = code * self.size + token
        return states

    def chances(self, logits: Tensor) -> Tensor:
        """The probability of every reply."""
        logprobs = logits.double().log_softmax(-1)
        return torch.stack([sum(logprobs[pair] for pair in reply) for reply in self.replies]).exp()

    def sample(self, logits: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
        """States and tokens [count, width] of drawn replies, arbitrary past their ends, and their lengths [count]."""
        states, tokens, code = [], [], torch.zeros(count, dtype=torch.long)
        lengths, alive = torch.zeros(count, dtype=torch.long), torch.ones(count, dtype=torch.bool)
        for depth in range(self.width):
            states.append(self.starts[depth] + code)
            tokens.append(torch.multinomial(logits[states[-1]].softmax(-1), 1).squeeze(-1))
            lengths += alive
            alive = alive & (tokens[-1] != END)
            code = code * self.size + tokens[-1]
        return torch.stack(states, 1), torch.stack(tokens, 1), lengths


def learn(table: Table, reference: Tensor, rewards: Tensor, beta: float, *, steps: int, episodes: int) -> Tensor:
    """PPO as the loop does it, a step's episodes being one minibatch; returns the logits."""
    logits, values = reference.clone().requires_grad_(), torch.zeros(table.states, requires_grad=True)
    optimizer = torch.optim.AdamW([logits, values], eps=1e-5, weight_decay=0.0)
    for step in range(steps):
        states, tokens, lengths = table.sample(logits.detach(), episodes)
        mask, rows = length_mask(lengths, table.width), torch.arange(episodes)
        scores = rewards[states[rows, lengths - 1], tokens[rows, lengths - 1]]
        old, ref = (some.detach().log_softmax(-1)[states, tokens] for some in (logits, reference))
        old_values = values.detach()[states]
        earned = token_rewards(kl_k1(old, ref, mask), scores, lengths, beta)
        advantages, returns = gae(earned, old_values, mask, 1.0, 0.95)
        advantages = whiten(advantages, mask)
        optimizer.param_groups[0]["lr"] = 0.05 * linear_decay(step, steps)
        for _ in range(4):
            new = logits.log_softmax(-1)[states, tokens]
            surrogate = policy_loss(new, old, advantages, mask, 0.2).loss
            value, _ = value_loss(values[states], old_values, returns, mask, 0.2)
            optimizer.zero_grad()
            ((surrogate + value) / mask.sum()).backward()
            optimizer.step()
    return logits.detach()


@pytest.mark.parametrize(
    ("width", "size", "beta"), [(1, 8, 0.5), (1, 8, 2.0), (3, 3, 0.5)], ids=["one token", "loose", "three tokens"]
)
def test_the_optimum_on_a_leash_is_that_of_the_closed_form(width: int, size: int, beta: float) -> None:
    """Of one token, and of replies of one to three tokens: there the leash is paid a token, the score at the end."""
    torch.manual_seed(7)
    table = Table(width, size)
    reference, rewards = torch.randn(table.states, size), 1.5 * torch.rand(table.states, size)
    before = table.chances(reference)
    best = best_of(before, torch.stack([rewards[reply[-1]] for reply in table.replies]), beta)
    assert float(before.sum()) == pytest.approx(1.0) and gap(before, best) > 10 * WITHIN
    found = table.chances(learn(table, reference, rewards, beta, steps=150, episodes=2048))
    assert gap(found, best) < WITHIN


class Wanted:
    """Scores a reply by what it says; 0 for what is not listed."""

    def __init__(self, worth: dict[str, float]) -> None:
        self.worth = worth

    def score(self, prompts: Sequence[Any], responses: Sequence[str]) -> np.ndarray:
        return np.array([self.worth.get(response, 0.0) for response in responses], dtype=np.float32)


def one_token(backbone: Path, prompts: str, **changes: Any) -> Recipe:
    """A recipe for replies of one token on short prompts."""
    section = {
        "prompts": [{"name": prompts}],
        "reward": "unused",
        "max_prompt": 64,
        "max_new_tokens": 1,
        "value_lr": 1e-2,
        "target_kl": None,
        "missing_eos_penalty": 0.0,
        "normalize_samples": 16,
        "sample_every": 1000,
        "save_every": 1000,
        "watch": False,
    }
    return recipe(backbone, ppo=section | changes)


def train(told: Recipe, folder: Path, worth: dict[str, float]) -> Path:
    """The real loop, with ``worth`` as the reward in its own units."""
    with Run(folder, step="ppo", recipe=told) as run:
        part = Part("wanted", Wanted(worth), normalized=False)
        return train_ppo(told, run, told.model.backbone, None, Reward([part], empty_score=0.0))


def first_tokens(told: Recipe, adapter: Path | None, asked: Sequence[str]) -> Tensor:
    """The exact distribution [asked, V] of the first token of a reply, of the backbone or of an adapter on it."""
    policy = Policy.load(told.model.backbone, {STAGE: adapter} if adapter else {}, spec=told.model)
    found = []
    with policy.using(STAGE if adapter else "base") as model, torch.no_grad():
        for text in asked:
            ids = policy.chat.encode_prompt([{"role": "user", "content": text}], STAGE)
            found.append(model(torch.tensor([ids])).logits[0, -1].double().softmax(-1))
    return torch.stack(found)


@pytest.mark.slow
def test_a_bandit_is_solved(wide_backbone: Path, tmp_path: Path) -> None:
    """One token is worth 1, all others nothing, no leash: the best policy says nothing else, whatever it is asked.

    The backbone is the wide one: at width 32 no hidden state gives a token more than nine tenths.
    """
    tokenizer = AutoTokenizer.from_pretrained(wide_backbone)
    learnt = [f"{first} {second}" for first in WORDS[:6] for second in WORDS]
    unseen = [f"{first} {second}" for first in WORDS[6:] for second in WORDS[:6]]
    prompts = write_lines(tmp_path / "prompts.jsonl", [{"prompt": text} for text in learnt])
    told = one_token(
        wide_backbone, prompts, steps=40, batch_size=128, minibatch_size=64, micro_batch=64, epochs=4, lr=5e-3,
        held_out=0.0, kl={"beta": 0.0},
    )  # fmt: skip
    before = first_tokens(told, None, learnt + unseen).mean(0)
    # Seldom enough to be a task, often enough to be in every batch: what is said about every fiftieth time, and 128
    # episodes. In batches without it whitened advantages are the value head's noise, and a policy may settle elsewhere.
    texts = [tokenizer.decode([i], skip_special_tokens=True).strip() for i in range(len(tokenizer))]
    lone = [i for i, text in enumerate(texts) if text and texts.count(text) == 1]
    arm = min(lone, key=lambda i: abs(float(before[i]) - 0.025))
    assert 0.01 < float(before[arm]) < 0.1
    adapter = train(told, tmp_path / "run", {texts[arm]: 1.0})
    after = first_tokens(told, adapter, learnt + unseen)[:, arm]
    assert float(after[: len(learnt)].mean()) > 0.95 and float(after.mean()) > 0.95


BETA = 0.5
CHOICES = 6


def choosy_backbone(folder: Path, prompt: str) -> list[int]:
    """A tiny Llama that answers ``prompt`` with one of six words and hardly anything else; returns the words' tokens.

    Its output layer is made for the last hidden state h of that prompt: the words' rows are random but for their share
    along h, all others point away from it. So every distribution over the six is within reach of an adapter.
    """
    make_backbone(folder)
    config, tokenizer = AutoConfig.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    config.tie_word_embeddings = False
    torch.manual_seed(1)
    model = LlamaForCausalLM(config)
    model.save_pretrained(folder)
    chat = Policy.load(folder, spec=recipe(folder).model).chat
    ids = torch.tensor([chat.encode_prompt([{"role": "user", "content": prompt}], STAGE)])
    with torch.no_grad():
        state = model(ids, output_hidden_states=True).hidden_states[-1][0, -1]
        along = state / state.norm() ** 2  # a row of x·along gives the logit x
        texts = {tokenizer.decode([i]).strip(): i for i in range(len(tokenizer))}
        words = [texts[word] for word in WORDS if word in texts][:CHOICES]
        model.lm_head.weight[:] = -14.0 * along
        rows = torch.randn(CHOICES, len(state))
        rows -= (rows @ state)[:, None] * along
        model.lm_head.weight[words] = rows / rows.norm(dim=1, keepdim=True) + torch.rand(CHOICES, 1) * along
    model.save_pretrained(folder)
    return words


@pytest.mark.slow
def test_the_whole_loop_reaches_the_optimum_on_a_leash(tmp_path: Path) -> None:
    prompt = "tea river"
    words = choosy_backbone(tmp_path / "backbone", prompt)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "backbone")
    prompts = write_lines(tmp_path / "prompts.jsonl", [{"prompt": prompt}])
    told = one_token(
        tmp_path / "backbone", prompts, steps=80, batch_size=256, minibatch_size=256, micro_batch=256, epochs=4,
        lr=1e-2, held_out=0.0, kl={"beta": BETA},
    )  # fmt: skip
    worth = torch.linspace(0, 1, CHOICES, dtype=torch.double)
    reference = first_tokens(told, None, [prompt])[0]
    assert len(words) == CHOICES and float(reference[words].sum()) > 0.999
    best = best_of(reference, torch.zeros_like(reference).index_put_((torch.tensor(words),), worth), BETA)
    assert gap(reference, best) > 10 * WITHIN
    texts = [tokenizer.decode([word]).strip() for word in words]
    adapter = train(told, tmp_path / "run", dict(zip(texts, worth.tolist(), strict=True)))
    assert gap(first_tokens(told, adapter, [prompt])[0], best) < WITHIN
    # What the loop measured itself from samples: the exact divergence from the reference.
    rows = Run(tmp_path / "run", step="ppo", recipe=told, resume=True).metrics()
    exact = float((best * (best / reference).log()).sum())
    assert sum(row["objective/kl"] for row in rows[-10:]) / 10 == pytest.approx(exact, rel=0.2)
