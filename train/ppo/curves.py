"""The curves of a run as one PNG: score, KL, length and ends, entropy and explained variance by step."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

PANELS = (
    ("Normalised score", (("objective/score", "rollout"), ("heldout/score", "held out"))),
    ("KL to the reference, nats a response", (("objective/kl", "k1"), ("objective/kl_k3", "k3"))),
    ("Length, tokens", (("rollout/length", "rollout"), ("heldout/length", "held out"))),
    (
        "Shares",
        (("rollout/eos_rate", "ended"), ("rollout/distinct_2", "distinct-2"), ("policy/clip_fraction", "clipped")),
    ),
    ("Entropy, nats a token", (("objective/entropy", "policy"),)),
    ("Explained variance of the value head", (("value/explained_variance", "value"),)),
)


def draw_curves(rows: Sequence[Mapping[str, float]], file: Path) -> None:
    """Draw the metrics (rows of ``metrics.jsonl``) into the PNG ``file``.

    A panel without any figure is left out: GRPO and RLOO have no value head.
    """
    # Imported here: matplotlib takes a second. Figure without pyplot keeps no global state and needs no display.
    from matplotlib.figure import Figure

    panels = shown(rows)
    figure = Figure(figsize=(11, 3 * -(-len(panels) // 2)), layout="constrained")
    grid: Any = figure.subplots(-(-len(panels) // 2), 2, squeeze=False)
    for axes in grid.flat[len(panels) :]:
        axes.remove()
    for axes, (title, lines) in zip(grid.flat, panels.items(), strict=False):
        for label, points in lines.items():
            axes.plot(*zip(*points, strict=True), label=label, marker="o" if len(points) < 20 else None, ms=3)
        axes.set_title(title, fontsize=10)
        axes.set_xlabel("step", fontsize=8)
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
    figure.savefig(file, dpi=110)


def shown(rows: Sequence[Mapping[str, float]]) -> dict[str, dict[str, list[tuple[float, float]]]]:
    """The points (step, value) of each line of each panel, by title and label; of none that has no points."""
    panels = {}
    for title, lines in PANELS:
        drawn = {label: [(row["step"], row[key]) for row in rows if key in row] for key, label in lines}
        if any(drawn.values()):
            panels[title] = {label: points for label, points in drawn.items() if points}
    return panels
