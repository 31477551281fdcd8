"""A reward: a weighted sum of text scorers, each normalised by a frozen mean and deviation and clipped.

Design, PPO table, rows 7 to 9. :func:`build_reward` makes one from a recipe's parts.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sawyer.data_formats import Message
from sawyer.errors import TrainingError, UsageError
from sawyer.recipe import RewardPartSpec
from sawyer.scoring.classifier import ClassifierScorer
from sawyer.scoring.function import FunctionScorer
from sawyer.scoring.penalties import LengthScorer, RepetitionScorer
from sawyer.scoring.rouge import RougeScorer
from sawyer.scoring.service import HttpScorer
from sawyer.scoring.text import TextScorer, as_scores

Messages = Sequence[Message]


@dataclass(frozen=True)
class Part:
    """One scorer in the sum. ``mean`` and ``deviation`` (in the scorer's own units) are None until frozen.

    A part that is not ``normalized`` counts in its own units: its mean is 0 and its deviation 1 from the beginning.
    """

    name: str
    scorer: TextScorer
    weight: float = 1.0
    mean: float | None = None
    deviation: float | None = None
    normalized: bool = True


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
        self.parts = [part if part.normalized else replace(part, mean=0.0, deviation=1.0) for part in parts]
        self.clip, self.empty_score = clip, empty_score

    @property
    def frozen(self) -> bool:
        """Whether every part has its mean and deviation."""
        return all(part.mean is not None for part in self.parts)

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
            if not part.normalized:
                frozen.append(part)
                continue
            if scores.std() < 1e-6:
                raise TrainingError(
                    f"The reward part {part.name} gives every sampled reply the same score ({scores.mean():g}), so "
                    "there is nothing to learn from it. Correct this part of ppo.reward, or give it normalize: false."
                )
            frozen.append(replace(part, mean=float(scores.mean()), deviation=float(scores.std())))
        self.parts = frozen

    def try_out(self, prompts: Sequence[Messages], responses: Sequence[str]) -> None:
        """Ask every part once and throw the scores away. Raises TrainingError where an answer is of no use."""
        for part in self.parts:
            self._ask(part, list(prompts), list(responses))

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

    @property
    def formula(self) -> str:
        """The sum in words, such as ``cola + 0.5 neutral``."""
        terms = [f"{'-' if p.weight < 0 else '+'} {'' if abs(p.weight) == 1 else f'{abs(p.weight):g} '}{p.name}"
                 for p in self.parts]  # fmt: skip
        return " ".join(terms).removeprefix("+ ")

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
        scores = as_scores(part.scorer.score(prompts, responses), len(responses), f"The reward part {part.name}")
        bad = np.flatnonzero(~np.isfinite(scores))
        if len(bad):
            raise TrainingError(
                f"The reward part {part.name} gave {scores[bad[0]]} to {len(bad)} of {len(scores)} responses, the "
                f"first being {responses[bad[0]][:120]!r}. Scores must be finite: mend this part of ppo.reward; "
                "the checkpoints so far are kept."
            )
        return scores


class TotalScorer:
    """A reward's weighted total as a scorer, for evaluation and for the demo."""

    def __init__(self, reward: Reward) -> None:
        self.reward = reward

    def score(self, prompts: Sequence[Messages], responses: Sequence[str]) -> np.ndarray:
        """Float32 ``[n]``."""
        return self.reward.score(prompts, responses).total


def explain(scorer: TextScorer, prompts: Sequence[Messages], responses: Sequence[str]) -> Scores:
    """The totals of a scorer and, where it is a reward of several parts, the raw score of each."""
    if isinstance(scorer, TotalScorer):
        return scorer.reward.score(prompts, responses)
    return Scores({}, scorer.score(prompts, responses))


def display_scorer(
    parts: Sequence[RewardPartSpec],
    *,
    trained: str | Path | None = None,
    statistics: dict[str, Any] | None = None,
    device: torch.device | str = "cpu",
) -> TextScorer:
    """A scorer for people to read: one part in its own units, several as their weighted sum.

    Args:
        statistics: the state of the reward that PPO froze; without it every part counts in its own units.
        trained, device: as in :func:`build_reward`, which also names the errors.
    """
    if len(parts) == 1:
        return build_scorer(parts[0], trained, device)
    reward = build_reward(parts, trained=trained, clip=5.0 if statistics else float("inf"), device=device)
    reward.load_state(statistics or {part.name: {"mean": 0.0, "deviation": 1.0} for part in reward.parts})
    return TotalScorer(reward)


def with_own(part: RewardPartSpec, folder: str | Path | None) -> RewardPartSpec:
    """A part that asks for one of the recipe's own classifiers, as a part that names it; others are left as they are.

    Args:
        folder: holds a subfolder for each trained classifier; None where none has been trained yet.
    """
    if part.own is None or folder is None:
        return part
    return part.model_copy(update={"name": part.title, "classifier": str(Path(folder) / part.own), "own": None})


def build_reward(
    parts: Sequence[RewardPartSpec],
    *,
    trained: str | Path | None = None,
    clip: float = 5.0,
    empty_score: float = -5.0,
    device: torch.device | str = "cpu",
) -> Reward:
    """The reward of a recipe's parts.

    Args:
        trained: the recipe's own reward model, for parts that ask for it.
        device: of classifiers that name none.

    Raises:
        ModelError: a classifier is absent, broken or has no such label. UsageError: a part cannot be set up.
    """
    made = [Part(p.title, build_scorer(p, trained, device), p.weight, normalized=p.normalized) for p in parts]
    return Reward(made, clip=clip, empty_score=empty_score)


def build_scorer(
    part: RewardPartSpec, trained: str | Path | None = None, device: torch.device | str = "cpu"
) -> TextScorer:
    """The scorer of one part. Arguments and errors as :func:`build_reward`."""
    match part.kind:
        case "trained" | "classifier":
            name = part.classifier or trained
            if name is None:
                raise UsageError(
                    f"The reward part {part.title} is the recipe's own reward model, but none has been trained yet: "
                    "run `sawyer train reward` first, or name a classifier."
                )
            return ClassifierScorer(
                name,
                label=part.label,
                output=part.output,
                reads=part.reads,
                dtype=getattr(torch, part.dtype),
                device=part.device or device,
                max_length=part.max_length,
                batch_size=part.batch_size,
                revision=part.revision,
            )
        case "function":
            assert part.function is not None
            return FunctionScorer(part.function)
        case "http":
            assert part.http is not None
            return HttpScorer(
                part.http,
                timeout=part.timeout,
                retries=part.retries,
                batch_size=part.batch_size,
                token_env=part.token_env,
            )
        case "own":
            raise UsageError(
                f"The reward part {part.title} is the recipe's own classifier {part.own}, but none has been trained "
                "yet: run `sawyer train classifiers` first, or name a classifier of the hub."
            )
        case "rouge":
            return RougeScorer()
        case "length":
            assert part.length is not None
            return LengthScorer(part.length.target, part.length.slack)
        case _:
            assert part.repetition is not None
            return RepetitionScorer(part.repetition.ngram, part.repetition.free)
