"""Rollouts: prompts are answered, replies scored, tokens measured under old policy, reference and value head."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from sawyer.generation import Generation, row_seed
from sawyer.logprobs import Batch, collate
from sawyer.recipe import PpoSpec
from sawyer.scoring import Reward, Scores
from train.ppo.actor import STAGE, Actor
from train.ppo.maths import correlation, kl_k1, kl_k3, length_mask, masked_mean, mean_of_others
from train.ppo.prompts import Task


@dataclass(frozen=True)
class Episode:
    """A prompt and the reply the policy made to it."""

    task: Task
    reply: Generation


@dataclass(frozen=True)
class Rollout:
    """A step's episodes, ordered by micro-batch, and what was measured before the update.

    B episodes, R the longest response. ``old``, ``reference``, ``values`` and ``entropy`` are float32 [B, R] and 0
    outside ``mask``; ``scores`` [B] are normalised, the penalty for a missing EOS included; ``raw`` are the reward's
    parts in their own units.
    """

    episodes: list[Episode]
    batches: list[Batch]
    lengths: Tensor
    mask: Tensor
    old: Tensor
    values: Tensor
    entropy: Tensor
    reference: Tensor
    scores: Tensor
    raw: dict[str, np.ndarray]

    def minibatches(self, epoch: int, size: int, seed: int) -> Iterator[list[int]]:
        """Numbers of the micro-batches of each minibatch of an epoch, ``size`` of them at a time.

        The first epoch goes by the order of measuring; later ones deal the micro-batches anew. The make-up of a
        micro-batch never changes: its padding, and with it the rounding of its forward pass, is that of ``old``.
        """
        order = list(range(len(self.batches)))
        if epoch:
            random.Random(f"{seed}:{epoch}").shuffle(order)
        for start in range(0, len(order), size):
            yield order[start : start + size]

    def baseline(self, group_size: int) -> Tensor:
        """Float32 [B]: what the other replies to the same prompt scored on average; 0 for groups of one."""
        if group_size == 1:
            return torch.zeros_like(self.scores)
        return mean_of_others(self.scores, [tuple(episode.task.ids) for episode in self.episodes])

    def part(self, index: int, *tensors: Tensor) -> list[Tensor]:
        """The rows and columns of [B, R] tensors that belong to micro-batch ``index``."""
        rows, width = self.batches[index].responses.shape
        return [tensor[index * rows : (index + 1) * rows, :width] for tensor in tensors]


def answer(actor: Actor, tasks: Sequence[Task], spec: PpoSpec, *, seed: int) -> list[Episode]:
    """One sampled reply to every task: raw distribution at the recipe's temperature, no top-k, no top-p (detail 3)."""
    stop = actor.policy.chat.stop_strings(STAGE)
    episodes: list[Episode] = []
    for start in range(0, len(tasks), spec.batch_size):
        part = tasks[start : start + spec.batch_size]
        replies = actor.reply(
            [task.ids for task in part],
            max_tokens=spec.max_new_tokens,
            temperature=spec.temperature,
            seed=row_seed(seed, start),
            stop=stop,
        )
        episodes += [Episode(task, reply) for task, reply in zip(part, replies, strict=True)]
    return episodes


def judge(reward: Reward, episodes: Sequence[Episode], missing_eos_penalty: float) -> Scores:
    """Score the replies' text; one that did not end by itself loses ``missing_eos_penalty`` of its total (detail 7)."""
    scores = reward.score([e.task.messages for e in episodes], [e.reply.text for e in episodes])
    unfinished = np.array([not e.reply.finished for e in episodes], dtype=np.float32)
    return Scores(scores.raw, scores.total - missing_eos_penalty * unfinished)


def collect(actor: Actor, reward: Reward, tasks: Sequence[Task], spec: PpoSpec, *, seed: int) -> Rollout:
    """Answer ``tasks`` with the policy as it is, score the replies and measure their tokens."""
    episodes = arrange(answer(actor, tasks, spec, seed=seed), spec, seed)
    scores = judge(reward, episodes, spec.missing_eos_penalty)
    device, fill = actor.policy.device, actor.policy.chat.pad_id
    groups = [episodes[i : i + spec.micro_batch] for i in range(0, len(episodes), spec.micro_batch)]
    batches = [
        actor.to_device(collate([e.task.ids for e in group], [e.reply.ids for e in group], fill)) for group in groups
    ]
    lengths = torch.tensor([len(e.reply.ids) for e in episodes], device=device)
    mask = length_mask(lengths, int(lengths.max()))
    measured = [_measure(actor, batch) for batch in batches]
    old, values, entropy = (_join(parts, mask) for parts in zip(*measured, strict=True))
    reference = _join([actor.measure_reference(batch) for batch in batches], mask)
    total = torch.from_numpy(scores.total).to(device)
    return Rollout(episodes, batches, lengths, mask, old, values, entropy, reference, total, scores.raw)


def arrange(episodes: Sequence[Episode], spec: PpoSpec, seed: int) -> list[Episode]:
    """Deal the episodes into minibatches at random, and order each by length so that its micro-batches pad little."""
    shuffled = random.Random(seed).sample(list(episodes), len(episodes))
    ordered: list[Episode] = []
    for start in range(0, len(shuffled), spec.minibatch_size):
        part = shuffled[start : start + spec.minibatch_size]
        ordered += sorted(part, key=lambda episode: len(episode.task.ids) + len(episode.reply.ids))
    return ordered


def describe(rollout: Rollout, beta: float) -> dict[str, float]:
    """The figures of a rollout: KL in nats a response, entropy in nats a token, length in tokens."""
    mask, scores = rollout.mask, rollout.scores
    kl = kl_k1(rollout.old, rollout.reference, mask).sum(1).mean()
    replies = [episode.reply for episode in rollout.episodes]
    return {
        "objective/kl": float(kl),
        "objective/kl_k3": float(kl_k3(rollout.old, rollout.reference, mask).sum(1).mean()),
        "objective/entropy": float(masked_mean(rollout.entropy, mask)),
        "objective/score": float(scores.mean()),
        "objective/score_deviation": float(scores.std(correction=0)),
        "objective/return": float(scores.mean() - beta * kl),
        **{f"reward/{name}": _mean(raw) for name, raw in rollout.raw.items()},
        "rollout/length": float(rollout.lengths.float().mean()),
        "rollout/eos_rate": sum(reply.finished for reply in replies) / len(replies),
        "rollout/empty_rate": sum(not reply.text.strip() for reply in replies) / len(replies),
        "rollout/distinct_2": distinct_2([reply.ids for reply in replies]),
        "rollout/length_correlation": correlation(scores, rollout.lengths),
        # How far generation's own log-probabilities lie from those of the update's forward pass (detail 4).
        "rollout/drift": _drift(rollout, replies),
    }


def distinct_2(replies: Sequence[Sequence[int]]) -> float:
    """Share of different bigrams within a reply, averaged over replies of at least two tokens; 1 without any."""
    shares = [len(set(pairwise(ids))) / (len(ids) - 1) for ids in replies if len(ids) > 1]
    return sum(shares) / len(shares) if shares else 1.0


def sample_rows(episodes: Sequence[Episode], scores: Scores, count: int) -> list[dict[str, Any]]:
    """The first ``count`` episodes as readable rows."""
    return [
        {
            "prompt": episode.task.messages,
            "reply": episode.reply.text,
            "tokens": len(episode.reply.ids),
            "finished": episode.reply.finished,
            "score": round(float(scores.total[index]), 4),
        }
        for index, episode in enumerate(episodes[:count])
    ]


@torch.no_grad()
def _measure(actor: Actor, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
    """Old log-probabilities, values and entropy of one micro-batch."""
    forward = actor.measure(batch, entropies=True)
    assert forward.entropy is not None
    return forward.logprobs, forward.values, forward.entropy


def _join(parts: Sequence[Tensor], mask: Tensor) -> Tensor:
    """Micro-batches of different widths as one [B, R] tensor, 0 outside the mask."""
    width = mask.shape[1]
    return torch.where(mask, torch.cat([pad(part, (0, width - part.shape[1])) for part in parts]), 0.0)


def _mean(raw: np.ndarray) -> float:
    """Mean of the scores that were given; empty responses have none (NaN)."""
    given = raw[np.isfinite(raw)]
    return float(given.mean()) if len(given) else 0.0


def _drift(rollout: Rollout, replies: Sequence[Generation]) -> float:
    sampled = torch.zeros_like(rollout.old)
    for row, reply in enumerate(replies):
        sampled[row, : len(reply.ids)] = torch.tensor(reply.logprobs)
    return float(masked_mean((sampled - rollout.old).abs(), rollout.mask))
