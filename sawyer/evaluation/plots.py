"""The plots of a report as PNG bytes, in a light and a dark dress: reward distributions and paired differences.

They are drawn narrow with large type, so that they can be read on a phone.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sawyer.evaluation.report import Report
from sawyer.evaluation.wording import number

# Okabe and Ito's palette, told apart by colour-blind readers too: base grey, then blue, vermilion, green, purple.
COLORS = ("#8a8a8a", "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00")
DARK_COLORS = ("#a3a3a3", "#56b4e9", "#f0803c", "#2fc295", "#dd9cc0", "#f0b840")


@dataclass(frozen=True)
class Dress:
    """Colours of a plot's paper and ink."""

    paper: str
    ink: str
    grid: str
    colors: tuple[str, ...]


LIGHT = Dress("#ffffff", "#1c1e21", "#d9dce0", COLORS)
DARK = Dress("#1b1d21", "#e4e6ea", "#3a3e45", DARK_COLORS)


def draw_rewards(report: Report, dress: Dress = LIGHT) -> bytes:
    """Every stage's rewards: a violin, a box (quartiles and median), all points, and the mean with its interval."""
    figure, axes = _figure((5.6, 4.3), dress)
    rows = [np.array(stage.rewards) for stage in report.stages]
    places = np.arange(1, len(rows) + 1)
    shift = np.random.default_rng(0)  # sideways only, so that equal rewards do not hide each other
    for place, stage, rewards in zip(places, report.stages, rows, strict=True):
        color = dress.colors[(place - 1) % len(dress.colors)]
        if np.ptp(rewards) > 1e-6:
            for body in axes.violinplot(rewards, [place], widths=0.85, showextrema=False)["bodies"]:
                body.set(facecolor=color, edgecolor="none", alpha=0.25)
        axes.scatter(place + shift.uniform(-0.16, 0.16, len(rewards)), rewards, s=7, color=color, alpha=0.55, lw=0)
        axes.boxplot(
            rewards,
            positions=[place],
            widths=0.22,
            showfliers=False,
            boxprops={"color": dress.ink},
            whiskerprops={"color": dress.ink},
            capprops={"color": dress.ink},
            medianprops={"color": dress.ink, "lw": 2},
        )
        mean = stage.mean
        axes.errorbar(
            place + 0.3,
            mean.value,
            [[mean.value - mean.low], [mean.high - mean.value]],
            fmt="D",
            ms=5,
            capsize=3,
            color=dress.ink,
            mfc=color,
        )
    axes.set_xticks(places, [f"{stage.stage}\n{number(stage.mean.value)}" for stage in report.stages])
    axes.set_ylabel(f"reward ({_short(report.reward_model)})")
    axes.set_title(f"Rewards on held-out prompts, n = {report.prompts.count}", fontsize=12, color=dress.ink)
    axes.set_xlabel("◆ and figure: mean, 95 % interval; line in box: median", fontsize=9)
    axes.grid(axis="y", color=dress.grid, lw=0.7)
    return _png(figure)


def draw_differences(report: Report, dress: Dress = LIGHT) -> bytes:
    """Histograms of the paired differences of reward, one panel a comparison, with zero and the mean marked."""
    rewards = {stage.stage: np.array(stage.rewards) for stage in report.stages}
    figure, panels = _figure((5.6, 0.7 + 2.6 * len(report.pairs)), dress, rows=len(report.pairs))
    order = [stage.stage for stage in report.stages]
    for axes, pair in zip(panels if len(report.pairs) > 1 else [panels], report.pairs, strict=True):
        differences = rewards[pair.after] - rewards[pair.before]
        color = dress.colors[order.index(pair.after) % len(dress.colors)]
        axes.hist(differences, bins=_bins(differences), color=color, alpha=0.75, edgecolor=dress.paper, lw=0.5)
        axes.axvline(0, color=dress.ink, lw=1, ls=":")
        axes.axvline(pair.difference.value, color=dress.ink, lw=2)
        axes.axvspan(pair.difference.low, pair.difference.high, color=dress.ink, alpha=0.15, lw=0)
        axes.set_title(
            f"{pair.before} → {pair.after}: mean {number(pair.difference.value, sign=True)}, n = {pair.n}",
            fontsize=12,
            color=dress.ink,
        )
        axes.set_ylabel("prompts")
        axes.grid(axis="y", color=dress.grid, lw=0.7)
    axes.set_xlabel("change in reward for the same prompt\n(line and band: mean and 95 % interval)", fontsize=9)
    return _png(figure)


def _bins(differences: np.ndarray) -> np.ndarray:
    """Edges of 20 equal bins, or of one where the differences do not vary."""
    low, high = float(differences.min()), float(differences.max())
    if high - low < 1e-6 * max(1.0, abs(low), abs(high)):
        return np.array([low - 0.5, low + 0.5])
    return np.linspace(low, high, 21)


def _figure(size: tuple[float, float], dress: Dress, rows: int = 1) -> tuple[Any, Any]:
    # Imported here: matplotlib takes a second. A Figure without pyplot keeps no global state and needs no display.
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, layout="constrained", facecolor=dress.paper)
    axes = figure.subplots(rows, 1, sharex=True)
    for one in np.atleast_1d(axes):
        one.set_facecolor(dress.paper)
        one.set_axisbelow(True)
        one.tick_params(colors=dress.ink, labelsize=10)
        for label in (one.xaxis.label, one.yaxis.label):
            label.set(color=dress.ink, fontsize=10)
        for side, spine in one.spines.items():
            spine.set(color=dress.grid, visible=side in ("left", "bottom"))
    return figure, axes


def _png(figure: Any) -> bytes:
    stream = io.BytesIO()
    # No creation date or library version inside: equal reports give equal files.
    figure.savefig(stream, format="png", dpi=160, facecolor=figure.get_facecolor(), metadata={"Software": None})
    return stream.getvalue()


def _short(name: str, most: int = 28) -> str:
    return name if len(name) <= most else f"…{name[-most + 1 :]}"


def both_dresses(report: Report) -> dict[str, Sequence[bytes]]:
    """Each plot, light and dark: ``{"rewards": (light, dark), "differences": …}``."""
    drawn: dict[str, Sequence[bytes]] = {"rewards": [draw_rewards(report, dress) for dress in (LIGHT, DARK)]}
    if report.pairs:
        drawn["differences"] = [draw_differences(report, dress) for dress in (LIGHT, DARK)]
    return drawn
