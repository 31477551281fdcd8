"""The reward of a PPO run: built from the recipe's parts and tried once before anything is sampled.

The classes live in :mod:`sawyer.scoring`, where evaluation and the demo use them too.
"""

from pathlib import Path

import torch

from sawyer.recipe import PpoSpec
from sawyer.scoring import Reward, build_reward, with_own

TRIAL = (
    (
        [{"role": "user", "content": "How do I make tea?", "reference": "Pour hot water over tea."}],
        "Pour boiling water over the leaves and wait three minutes.",
    ),
    ([{"role": "user", "content": "Hello!", "reference": "Hello."}], "no"),
)


def reward_of(spec: PpoSpec, trained: Path | str | None, device: torch.device | str, own: Path | None = None) -> Reward:
    """Build the reward and ask every part about two short replies.

    Faults that a rollout would meet an hour later (an unknown label, a function that raises, a service that is not
    running, a score that is no number) are thus met in the first seconds.

    Args:
        trained: the recipe's own reward model, for parts that ask for it.
        device: of classifiers that name none.
        own: folder of the recipe's own classifiers, likewise.

    Raises:
        ModelError, UsageError: a part cannot be set up. TrainingError: its answer is not one finite number a reply.
    """
    parts = [with_own(part, own) for part in spec.parts]
    return _tried(build_reward(parts, trained=trained, clip=spec.score_clip, empty_score=spec.empty_score,
                               device=device))  # fmt: skip


def guard_of(
    spec: PpoSpec, trained: Path | str | None, device: torch.device | str, own: Path | None = None
) -> Reward | None:
    """The second reward, which only held-out replies are shown to, tried once like the first. None: none is named."""
    if spec.guard is None:
        return None
    return _tried(build_reward([with_own(spec.guard, own)], trained=trained, clip=float("inf"),
                               empty_score=spec.empty_score, device=device))  # fmt: skip


def _tried(reward: Reward) -> Reward:
    reward.try_out([prompt for prompt, _ in TRIAL], [reply for _, reply in TRIAL])
    return reward
