"""The reward model under study: on pairs that neither it nor the judge has learnt from, and how far the two agree."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from sawyer.data import Pair, load_pairs
from sawyer.errors import DataError, UsageError
from sawyer.evaluation.canvas import LIGHT, Dress, drawn, new_figure
from sawyer.home import Home
from sawyer.recipe import Recipe
from sawyer.registry import Registry
from sawyer.runs import write_json
from sawyer.scoring import ClassifierScorer
from train.reward_pairs import PairRow, encode_rows, split_pairs
from train.reward_report import accuracy, report, with_other_prompts
from train.rewardbench import read_rewardbench, score_rewardbench

FEWEST = 20  # pairs; with fewer an accuracy of 0.7 could not be told from chance


@dataclass(frozen=True)
class Scored:
    """A model's rewards of the held-out pairs, float32 [n] each."""

    name: str
    chosen: np.ndarray
    rejected: np.ndarray

    @property
    def margins(self) -> np.ndarray:
        return self.chosen.astype(np.float64) - self.rejected


def study(recipe: Recipe, home: Home, out: Path, bench: Path | None = None) -> dict[str, Any]:
    """Study the current reward model, and the judge where there is one; written to ``out``.

    Args:
        bench: a file in RewardBench's format, scored as well.

    Returns:
        What ``reward.json`` holds: ``models`` (name -> the figures of ``train.reward_report``), ``agreement``, ``n``,
        and ``rewardbench``.

    Raises:
        UsageError: no reward model. DataError: too few pairs, or the file is unusable.
    """
    if recipe.reward is None:
        raise UsageError(f"The recipe {recipe.name} has no reward section, so there is no reward model to study.")
    registry = Registry.of(recipe, home)
    versions = [version for stage in ("reward", "judge") if (version := registry.current(stage)) is not None]
    if not versions or versions[0].stage != "reward":
        raise UsageError(f"There is no reward model yet: run `sawyer train reward {recipe.name}` first.")
    rows = None if bench is None else read_rewardbench(bench)
    pairs = load_pairs(recipe.reward.sources, recipe.seed)
    train, held_out = split_pairs(pairs, recipe.reward.held_out, recipe.reward.fold)
    if len(held_out) < FEWEST:
        raise DataError(
            f"There are {len(held_out)} held-out pairs; a report on a reward model needs at least {FEWEST}. Raise "
            "reward.held_out and train again, or add sources."
        )
    out.mkdir(parents=True, exist_ok=True)
    scorers = {version.ref: ClassifierScorer(version.path, max_length=recipe.reward.max_length) for version in versions}
    figures, scored = {}, []
    for name, scorer in scorers.items():
        found, told = _figures(name, scorer, held_out, train, recipe)
        figures[name] = told
        scored.append(found)
    result: dict[str, Any] = {"recipe": recipe.name, "n": len(held_out), "models": figures}
    result["agreement"] = agreement(*scored) if len(scored) == 2 else None
    if rows is not None:
        name = versions[0].ref
        result["rewardbench"] = score_rewardbench(rows, scorers[name], name, out)
    plot = drawn(lambda dress: draw_calibration(figures, dress), "Calibration: how often the more sure choice is right")
    (out / "calibration.png").write_bytes(plot.light)
    (out / "calibration.svg").write_bytes(plot.svg)
    write_json(out / "reward.json", result)
    return result


def agreement(one: Scored, other: Scored) -> dict[str, Any]:
    """How far two models agree on the same pairs: same choice, Cohen's kappa, rank correlation of their margins."""
    same = (one.margins > 0) == (other.margins > 0)
    share = accuracy(same.astype(np.float64))
    first, second = float((one.margins > 0).mean()), float((other.margins > 0).mean())
    by_chance = first * second + (1 - first) * (1 - second)
    varied = np.ptp(one.margins) > 0 and np.ptp(other.margins) > 0
    return {
        "models": [one.name, other.name],
        "same_choice": share["accuracy"],
        "n": share["n"],
        "interval": share["interval"],
        "kappa": (share["accuracy"] - by_chance) / (1 - by_chance) if by_chance < 1 else None,
        "margin_correlation": float(stats.spearmanr(one.margins, other.margins).statistic) if varied else None,
    }


def draw_calibration(figures: dict[str, dict[str, Any]], dress: Dress = LIGHT) -> Any:
    """How often a model is right against how sure it is, a line for each model; the diagonal is perfect."""
    figure, axes = new_figure((5.6, 4.3), dress)
    axes.plot([0.5, 1], [0.5, 1], color=dress.ink, lw=1, ls=":")
    for place, (name, told) in enumerate(figures.items(), 1):
        bins = told["calibration"]["bins"]
        sure, right = [one["confidence"] for one in bins], [one["accuracy"] for one in bins]
        low = [one["accuracy"] - one["interval"][0] for one in bins]
        high = [one["interval"][1] - one["accuracy"] for one in bins]
        error = told["calibration"]["expected_error"]
        label = f"{name} (error {error:.2f})"
        axes.errorbar(sure, right, [low, high], fmt="o-", ms=5, capsize=2, color=dress.colors[place], label=label)
    axes.set_xlabel("how sure: σ of the difference in reward", fontsize=10)
    axes.set_ylabel("how often right")
    axes.set_title("Calibration on held-out pairs", fontsize=12, color=dress.ink)
    axes.grid(color=dress.grid, lw=0.7)
    for text in axes.legend(fontsize=9, frameon=False).get_texts():
        text.set_color(dress.ink)
    return figure


def _figures(
    name: str, scorer: ClassifierScorer, held_out: Sequence[Pair], train: Sequence[Pair], recipe: Recipe
) -> tuple[Scored, dict[str, Any]]:
    assert recipe.reward is not None
    scored = Scored(name, *_both(scorer, held_out))
    moved = with_other_prompts(held_out, recipe.seed)
    told = report(
        _rows(scorer, held_out, recipe),
        scored.chosen,
        scored.rejected,
        train_rows=_rows(scorer, train, recipe),
        shuffled=_both(scorer, moved) if moved else None,
    )
    return scored, told


def _rows(scorer: ClassifierScorer, pairs: Sequence[Pair], recipe: Recipe) -> list[PairRow]:
    assert recipe.reward is not None
    return encode_rows(pairs, scorer.tokenizer, recipe.reward)


def _both(scorer: ClassifierScorer, pairs: Sequence[Pair]) -> tuple[np.ndarray, np.ndarray]:
    prompts = [pair.prompt for pair in pairs]
    return scorer.score(prompts, [p.chosen for p in pairs]), scorer.score(prompts, [p.rejected for p in pairs])
