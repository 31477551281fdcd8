"""The reward of PPO: a weighted sum of text scorers, each normalised by a frozen mean and deviation and clipped.

Rewards see text, never policy tokens. A scorer is anything with ``score(prompts, responses)``: today a classifier
(:class:`sawyer.scoring.ClassifierScorer`), later functions and HTTP services. Design, PPO table, rows 7 to 9.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sawyer.errors import TrainingError
from sawyer.scoring import ClassifierScorer, TextScorer

Messages = list[dict[str, str]]


@dataclass(frozen=True)
class Part:
    """One scorer in the sum. ``mean`` and ``deviation`` (in the scorer's own units) are None until frozen."""

    name: str
    scorer: TextScorer
    weight: float = 1.0
    mean: float | None = None
    deviation: float | None = None


@dataclass(frozen=True)
class Scores:
    """Scores of n responses: ``raw`` by part in the part's units, ``total`` normalised, both float32 [n]."""

    raw: dict[str, np.ndarray]
    total: np.ndarray


class Reward:
    """Σ w · clip((score − mean) / deviation) over its parts.

    Args:
        parts: scorers with distinct names.
        clip: bound of each normalised part, before weighting.
        empty_score: total given to an empty response; no scorer is asked about it.
    """

    def __init__(self, parts: Sequence[Part], *, clip: float = 5.0, empty_score: float = -5.0) -> None:
        names = [part.name for part in parts]
        if not parts or len(set(names)) < len(names):
            raise TrainingError(f"A reward needs at least one part and distinct names; given: {names or 'none'}.")
        self.parts, self.clip, self.empty_score = list(parts), clip, empty_score

    @classmethod
    def of_classifier(
        cls, path: Path | str, *, label: str | None, clip: float, empty_score: float, device: torch.device | str = "cpu"
    ) -> "Reward":
        """The reward of one sequence classifier, by folder or hub id; ``label`` names the logit (default: the last)."""
        scorer = ClassifierScorer(path, device=device, label=label)
        return cls([Part("classifier", scorer)], clip=clip, empty_score=empty_score)

    def freeze(self, prompts: Sequence[Messages], responses: Sequence[str]) -> None:
        """Fix each part's mean and deviation from these replies (the policy's before training).

        Raises:
            TrainingError: fewer than two non-empty replies, or a part that scores all of them alike.
        """
        kept = [index for index, response in enumerate(responses) if response.strip()]
        if len(kept) < 2:
            raise TrainingError(
                f"Of {len(responses)} replies sampled to normalise the reward, {len(kept)} are not empty; at least 2 "
                "must be. The policy before PPO ends its replies at once: train sft longer, or raise "
                "ppo.normalize_samples."
            )
        frozen = []
        for part in self.parts:
            scores = self._ask(part, [prompts[i] for i in kept], [responses[i] for i in kept]).astype(np.float64)
            if scores.std() < 1e-6:
                raise TrainingError(
                    f"The reward part {part.name} gives every sampled reply the same score ({scores.mean():g}), so "
                    "there is nothing to learn from it. Check ppo.reward and ppo.label."
                )
            frozen.append(replace(part, mean=float(scores.mean()), deviation=float(scores.std())))
        self.parts = frozen

    def score(self, prompts: Sequence[Messages], responses: Sequence[str]) -> Scores:
        """Score responses to prompts (message lists). Empty responses get ``empty_score``, and NaN as raw score.

        Raises:
            TrainingError: not frozen yet, or a scorer's answer is not one finite number a response.
        """
        kept = np.array([bool(response.strip()) for response in responses], dtype=bool)
        asked = np.flatnonzero(kept).tolist()
        total = np.where(kept, 0.0, self.empty_score).astype(np.float32)
        raw: dict[str, np.ndarray] = {}
        for part in self.parts:
            if part.mean is None or part.deviation is None:
                raise TrainingError(f"The reward part {part.name} was used before its mean and deviation were frozen.")
            raw[part.name] = np.full(len(kept), np.nan, dtype=np.float32)
            if len(asked):
                scores = self._ask(part, [prompts[i] for i in asked], [responses[i] for i in asked])
                raw[part.name][asked] = scores
                total[asked] += part.weight * ((scores - part.mean) / part.deviation).clip(-self.clip, self.clip)
        return Scores(raw, total)

    def state(self) -> dict[str, Any]:
        """The frozen statistics by part, for a checkpoint (JSON)."""
        return {part.name: {"mean": part.mean, "deviation": part.deviation} for part in self.parts}

    def load_state(self, state: dict[str, Any]) -> None:
        """Take the statistics of :meth:`state`.

        Raises:
            TrainingError: the state belongs to a reward of other parts.
        """
        names = [part.name for part in self.parts]
        if sorted(state) != sorted(names):
            raise TrainingError(
                f"The checkpoint's reward has the parts {sorted(state)}, the recipe's has {sorted(names)}. Resume with "
                "the recipe the run began with, or start anew without --resume."
            )
        self.parts = [replace(part, **state[part.name]) for part in self.parts]

    def _ask(self, part: Part, prompts: list[Messages], responses: list[str]) -> np.ndarray:
        scores = np.asarray(part.scorer.score(prompts, responses), dtype=np.float32)
        if scores.shape != (len(responses),):
            raise TrainingError(
                f"The reward part {part.name} answered with shape {scores.shape} to {len(responses)} responses; it "
                "must give one number a response. Mend the scorer named in ppo.reward."
            )
        bad = np.flatnonzero(~np.isfinite(scores))
        if len(bad):
            raise TrainingError(
                f"The reward part {part.name} gave {scores[bad[0]]} to {len(bad)} of {len(scores)} responses, the "
                f"first being {responses[bad[0]][:120]!r}. Scores must be finite: mend the scorer named in ppo.reward; "
                "the checkpoints so far are kept."
            )
        return scores
