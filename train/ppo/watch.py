"""The watch over a PPO run: recognises a collapse from the logged metrics and says why.

A pure function over rows of ``metrics.jsonl``, so that it holds across a resume and reads finished runs as well.
The start of the run is the measure of health: a healthy policy drifts from it, a collapsing one leaves it for good.
Signs: design, PPO table, row 17; "The N Implementation Details of RLHF with PPO".
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

WINDOW = 3
"""Steps in a row that must show a sign; also the number of first steps averaged as the start."""

MAX_KL = 50.0
"""Nats a response beyond which a policy no longer resembles its reference, whatever the target."""

Row = Mapping[str, float]


@dataclass(frozen=True)
class Sign:
    """One sign of collapse. ``bad`` gets (value now, mean of the first steps)."""

    key: str
    name: str
    bad: Callable[[float, float], bool]
    cure: str


def signs(kl_target: float | None) -> list[Sign]:
    """All signs, for a run whose KL target is ``kl_target`` nats a response (None: fixed beta)."""
    max_kl = max(MAX_KL, 5.0 * (kl_target or 0.0))
    leash = f"{'lower ppo.kl.target' if kl_target else 'raise ppo.kl.beta'} or lower ppo.lr"
    return [
        Sign("objective/kl", "negative KL (rollout and reference do not score the same tokens alike, or the policy "
             "exploits the estimate)", lambda now, _: now < -1.0,
             "check that temperature and dtype are the same everywhere, then " + leash),
        Sign("objective/kl", f"KL above {max_kl:g} nats a response", lambda now, _: now > max_kl, leash),
        Sign("rollout/length", "replies far shorter than at the start", lambda now, start: now < 0.3 * start,
             leash + "; the reward may favour short replies"),
        Sign("rollout/length", "replies far longer than at the start", lambda now, start: now > 3.0 * start,
             leash + "; the reward may favour long replies"),
        Sign("objective/entropy", "entropy collapsed", lambda now, start: now < 0.15 * start, leash),
        Sign("objective/entropy", "entropy exploded", lambda now, start: now > 3.0 * start and now > 1.0,
             "lower ppo.lr"),
        Sign("rollout/eos_rate", "replies no longer end", lambda now, start: start >= 0.2 and now < 0.25 * start,
             "raise ppo.missing_eos_penalty or ppo.max_new_tokens"),
        Sign("rollout/distinct_2", "replies repeat themselves", lambda now, start: now < 0.5 * start,
             leash + "; the reward does not notice repetition"),
        Sign("rollout/length_correlation", "the score follows length alone",
             lambda now, start: now > 0.9 and now > start + 0.15,
             "train the reward on length-matched pairs, or " + leash),
    ]  # fmt: skip


def collapse(rows: Sequence[Row], kl_target: float | None = None) -> str | None:
    """Return why the run should stop, or None while it is healthy.

    Args:
        rows: metrics by step, oldest first, with the keys named in :func:`signs`; others are ignored.
        kl_target: the recipe's ``ppo.kl.target``.
    """
    if not rows:
        return None
    for key in ("objective/kl", "objective/score", "objective/entropy", "loss/policy", "loss/value"):
        if key in rows[-1] and not math.isfinite(rows[-1][key]):
            where = f"{key} is {rows[-1][key]} at step {int(rows[-1]['step'])}"
            return f"{where}: lower ppo.lr, or set model.dtype to float32."
    if len(rows) < 2 * WINDOW:
        return None
    for sign in signs(kl_target):
        values = [row[sign.key] for row in rows if sign.key in row]
        if len(values) < 2 * WINDOW:
            continue
        start, recent = sum(values[:WINDOW]) / WINDOW, values[-WINDOW:]
        if all(sign.bad(value, start) for value in recent):
            now = sum(recent) / WINDOW
            return (
                f"{sign.name}: {sign.key} is {now:.3g} over the last {WINDOW} steps, {start:.3g} at the start. "
                f"What to try: {sign.cure}."
            )
    return None
