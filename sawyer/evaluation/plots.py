"""The plots of a report: reward distributions, paired differences, KL against reward, and what the judge confirms.

They are drawn narrow with large type, so that they can be read on a phone.
"""

from functools import partial
from typing import Any

import numpy as np

from sawyer.evaluation.canvas import LIGHT, Dress, Plot, drawn, new_figure
from sawyer.evaluation.report import Judge, PairFigures, Report
from sawyer.evaluation.wording import number


def draw_rewards(report: Report, dress: Dress = LIGHT) -> Any:
    """Every stage's rewards: a violin, a box (quartiles and median), all points, and the mean with its interval."""
    figure, axes = new_figure((5.6, 4.3), dress)
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
    return figure


def draw_differences(report: Report, dress: Dress = LIGHT) -> Any:
    """Histograms of the paired differences of reward, one panel a comparison, with zero and the mean marked."""
    rewards = {stage.stage: np.array(stage.rewards) for stage in report.stages}
    figure, panels = new_figure((5.6, 0.7 + 2.6 * len(report.pairs)), dress, rows=len(report.pairs))
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
    return figure


def _bins(differences: np.ndarray) -> np.ndarray:
    """Edges of 20 equal bins, or of one where the differences do not vary."""
    low, high = float(differences.min()), float(differences.max())
    if high - low < 1e-6 * max(1.0, abs(low), abs(high)):
        return np.array([low - 0.5, low + 0.5])
    return np.linspace(low, high, 21)


def _short(name: str, most: int = 28) -> str:
    return name if len(name) <= most else f"…{name[-most + 1 :]}"


def draw_kl(report: Report, dress: Dress = LIGHT) -> Any:
    """The price of each reply in KL and what it brought, a panel for each rlf; the line is a running median."""
    pairs = _priced(report)
    rewards = {stage.stage: np.array(stage.rewards) for stage in report.stages}
    figure, panels = new_figure((5.6, 0.7 + 2.9 * len(pairs)), dress, rows=len(pairs))
    order = [stage.stage for stage in report.stages]
    for axes, pair in zip(np.atleast_1d(panels), pairs, strict=True):
        assert pair.kl is not None
        cost, gain = np.array(pair.kl.each), rewards[pair.after] - rewards[pair.before]
        color = dress.colors[order.index(pair.after) % len(dress.colors)]
        axes.axhline(0, color=dress.ink, lw=1, ls=":")
        axes.scatter(cost, gain, s=12, color=color, alpha=0.6, lw=0)
        places, medians = _running_median(cost, gain)
        axes.plot(places, medians, color=dress.ink, lw=2)
        told = "–" if pair.kl.reward_correlation is None else number(pair.kl.reward_correlation, sign=True)
        axes.set_title(f"{pair.before} → {pair.after}: rank correlation {told}", fontsize=12, color=dress.ink)
        axes.set_ylabel("change in reward")
        axes.grid(color=dress.grid, lw=0.7)
    np.atleast_1d(panels)[-1].set_xlabel("KL from the reference, nats a reply\n(line: running median)", fontsize=9)
    return figure


def draw_gains(judge: Judge, dress: Dress = LIGHT) -> Any:
    """The gain of each comparison by the reward that was optimised and by the judge that was not."""
    figure, axes = new_figure((5.6, 1.5 + 0.8 * len(judge.gains)), dress)
    for row, gain in enumerate(judge.gains):
        for shift, found, color, name in (
            (0.14, gain.reward, dress.colors[1], "reward, optimised"),
            (-0.14, gain.judge, dress.colors[2], "judge, never optimised"),
        ):
            spread = [[found.value - found.low], [found.high - found.value]]
            label = name if row == 0 else None
            axes.errorbar(found.value, -row + shift, xerr=spread, fmt="o", ms=6, capsize=3, color=color, label=label)
    axes.axvline(0, color=dress.ink, lw=1, ls=":")
    axes.set_yticks([-row for row in range(len(judge.gains))], [f"{g.before} →\n{g.after}" for g in judge.gains])
    axes.set_ylim(-len(judge.gains) + 0.4, 0.6)
    axes.set_title("Does a second reward model see the gain?", fontsize=12, color=dress.ink)
    axes.set_xlabel("mean gain, in deviations of the stage before, 95 % interval", fontsize=9)
    axes.grid(axis="x", color=dress.grid, lw=0.7)
    legend = axes.legend(loc="upper center", bbox_to_anchor=(0.4, -0.3), ncols=2, fontsize=9, frameon=False)
    for text in legend.get_texts():
        text.set_color(dress.ink)
    return figure


def _priced(report: Report) -> list[PairFigures]:
    """The comparisons whose KL is that of the very replies that were scored."""
    return [pair for pair in report.pairs if pair.kl is not None and pair.kl.same_replies]


def _running_median(x: np.ndarray, y: np.ndarray, parts: int = 8) -> tuple[list[float], list[float]]:
    """Medians of y over up to ``parts`` groups of like x, each of at least five points."""
    order = np.argsort(x, kind="stable")
    groups = [group for group in np.array_split(order, max(1, min(parts, len(x) // 5))) if len(group)]
    return [float(np.median(x[group])) for group in groups], [float(np.median(y[group])) for group in groups]


def draw_all(report: Report) -> dict[str, Plot]:
    """Every plot that the report has figures for, by the name of its files."""
    plots = {"rewards": drawn(partial(draw_rewards, report), "Distribution of rewards of each stage")}
    if report.pairs:
        plots["differences"] = drawn(partial(draw_differences, report), "Histogram of paired differences of reward")
    if report.judge is not None and report.judge.gains:
        plots["judge"] = drawn(
            partial(draw_gains, report.judge), "Gain by the optimised reward and by the judge, each with its interval"
        )
    if _priced(report):
        plots["kl"] = drawn(partial(draw_kl, report), "Change in reward of each reply against its KL")
    return plots
