"""The watch over a PPO run: recognises from the logged metrics what goes wrong, what it means and what to change.

Pure functions over rows of ``metrics.jsonl``, so that they hold across a resume and read finished runs as well
(``sawyer doctor RUN``). The start of the run is the measure of health: a healthy policy drifts from it, a collapsing
one leaves it for good. Signs: design, PPO table, row 17; "The N Implementation Details of RLHF with PPO".
"""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from sawyer.recipe import PpoSpec
from sawyer.recipe.alternatives import SHARED

WINDOW = 3
"""Steps in a row that must show a sign; also the number of first steps averaged as the start."""

MAX_KL = 50.0
"""Nats a response beyond which a policy no longer resembles its reference, whatever the target."""

SETTLED = 12
"""Steps after which the value head and the policy should have begun to learn."""

Row = Mapping[str, float]


@dataclass(frozen=True)
class Finding:
    """What is wrong: ``seen`` gives the figures, ``cure`` names recipe keys. ``stops``: the run should end here."""

    name: str
    seen: str
    meaning: str
    cure: str
    stops: bool

    @property
    def text(self) -> str:
        """All of it as one paragraph."""
        return f"{self.name}: {self.seen}. {self.meaning}. What to try: {self.cure}."


@dataclass(frozen=True)
class Sign:
    """A threshold on one figure. ``bad`` gets (value now, mean of the first steps).

    ``mostly``: it also counts when more than half of all steps showed it: at the end the rate has gone to zero, and
    what too high a rate does can no longer be seen.
    """

    key: str
    name: str
    bad: Callable[[float, float], bool]
    meaning: str
    cure: str
    stops: bool = True
    after: int = 2 * WINDOW
    mostly: bool = False


def examine(rows: Sequence[Row], spec: PpoSpec | None = None, method: str = "ppo") -> list[Finding]:
    """What is wrong at the end of these rows; empty while the run is healthy.

    Args:
        rows: metrics by step, oldest first; keys that no sign names are ignored, and so are signs without figures.
        spec: the run's ``ppo`` section, for signs that depend on its settings; of GRPO and RLOO their plan's.
        method: of the run: ``ppo``, or ``grpo`` or ``rloo``, whose own keys the cures then name.
    """
    found = [_not_finite(rows)]
    if found == [None]:
        found = [_lasting(sign, rows) for sign in signs(spec)]
        found += [_idle_value_head(rows), _hacking(rows, spec), _overfitting(rows)]
    return [replace(finding, cure=own_keys(finding.cure, method)) for finding in found if finding is not None]


def own_keys(cure: str, method: str) -> str:
    """Advice for PPO with the keys that ``method`` has of its own: ``grpo.lr`` for ``ppo.lr``; the others stay."""
    if method == "ppo":
        return cure
    cure = re.sub(r"\bppo\.kl\.(beta|target)\b", f"{method}.beta", cure)
    return re.sub(rf"\bppo\.({'|'.join(SHARED)})\b", rf"{method}.\1", cure)


def collapse(rows: Sequence[Row], spec: PpoSpec | None = None) -> str | None:
    """Why the run should stop, or None while it may go on."""
    return next((finding.text for finding in examine(rows, spec) if finding.stops), None)


def signs(spec: PpoSpec | None) -> list[Sign]:
    """All signs for a run with these settings."""
    target = spec.kl.target if spec else None
    max_kl = max(MAX_KL, 5.0 * (target or 0.0))
    leash = f"{_shorter(spec)} or lower ppo.lr"
    return [*_of_the_policy(max_kl, leash), *_of_the_reward(spec, leash), *_of_the_update(spec)]


def _shorter(spec: PpoSpec | None) -> str:
    """What keeps the policy nearer to its reference: the one of two keys that counts in this run."""
    return "lower ppo.kl.target" if spec and spec.kl.target else "raise ppo.kl.beta"


def _of_the_policy(max_kl: float, leash: str) -> list[Sign]:
    return [
        Sign("objective/kl", "negative KL", lambda now, _: now < -1.0,
             "rollout and reference do not score the same tokens alike, or the policy exploits the estimate",
             "check that temperature and dtype are the same everywhere, then " + leash),
        Sign("objective/kl", f"KL above {max_kl:g} nats a response", lambda now, _: now > max_kl,
             "the policy no longer resembles the model it started from", leash),
        Sign("rollout/length", "replies far shorter than at the start", lambda now, start: now < 0.3 * start,
             "the reward favours short replies, or the policy has lost its language", leash),
        Sign("rollout/length", "replies far longer than at the start", lambda now, start: now > 3.0 * start,
             "the reward favours long replies", "add a length part to ppo.reward, or " + leash),
        Sign("rollout/empty_rate", "empty replies", lambda now, start: now > 0.25 and now > start + 0.1,
             "the policy has learnt that saying nothing is safe", "lower ppo.empty_score, or " + leash),
        Sign("objective/entropy", "entropy collapsed", lambda now, start: now < 0.15 * start,
             "the policy gives the same replies again and again and cannot learn from them", leash),
        Sign("objective/entropy", "entropy exploded", lambda now, start: now > 3.0 * start and now > 1.0,
             "the policy draws noise", "lower ppo.lr"),
        Sign("rollout/eos_rate", "replies no longer end", lambda now, start: start >= 0.2 and now < 0.25 * start,
             "ending costs more reward than being cut off",
             "raise ppo.missing_eos_penalty or ppo.max_new_tokens"),
        Sign("rollout/distinct_2", "replies repeat themselves", lambda now, start: now < 0.5 * start,
             "the reward does not notice repetition", "add a repetition part to ppo.reward, or " + leash),
        Sign("objective/kl", "the policy stands still", lambda now, _: abs(now) < 0.01,
             "after this many steps the policy is still the one it started from",
             "raise ppo.lr or ppo.epochs; see that the reward tells replies apart", stops=False, after=2 * SETTLED),
    ]  # fmt: skip


def _of_the_reward(spec: PpoSpec | None, leash: str) -> list[Sign]:
    ceiling = 0.9 * spec.score_clip * sum(abs(part.weight) for part in spec.parts) if spec else math.inf
    return [
        Sign("rollout/length_correlation", "the score follows length alone",
             lambda now, start: now > 0.9 and now > start + 0.15,
             "the reward counts words rather than reading them",
             "train the reward on length-matched pairs, add a length part to ppo.reward, or " + leash),
        Sign("rollout/length_correlation", "the reward is little but length", lambda now, _: now > 0.95,
             "one could count words instead of asking the reward model",
             "train the reward on length-matched pairs, or add a length part to ppo.reward", stops=False),
        Sign("objective/score", "the reward is saturated", lambda now, _: now > ceiling,
             "nearly every reply is at the clip of the normalised reward, so better ones cannot be told",
             "raise ppo.score_clip, or take a reward model that sees more difference", stops=False),
        Sign("objective/score_deviation", "the reward does not tell replies apart",
             lambda now, start: now < max(0.1 * start, 1e-6),
             "all replies score alike, so that advantages are noise",
             "correct or replace that part of ppo.reward; if it told them apart at the start, " + leash, stops=False),
    ]  # fmt: skip


def _of_the_update(spec: PpoSpec | None) -> list[Sign]:
    planned = spec.epochs * spec.batch_size // spec.minibatch_size if spec else 0
    return [
        Sign("value/explained_variance", "the value head predicts worse than a constant",
             lambda now, _: now < -0.25,
             "advantages are noisier than the returns themselves",
             "lower ppo.value_lr if it is far above ppo.lr, else raise it; raise ppo.batch_size", stops=False,
             after=SETTLED, mostly=True),
        Sign("policy/clip_fraction", "most of the update is clipped", lambda now, _: now > 0.4,
             "each update moves the policy further than its samples can tell",
             "lower ppo.lr or ppo.epochs", stops=False, mostly=True),
        Sign("policy/ratio", "the ratio leaves its range", lambda now, _: abs(now - 1) > 0.2,
             "the new policy and the one that wrote the replies are far apart", "lower ppo.lr or ppo.epochs",
             stops=False, mostly=True),
        Sign("policy/first_gap", "old log-probabilities are not the policy's own", lambda now, _: now > 0.01,
             "before the first step of an update the ratio should be exactly 1; something is random in the forward "
             "pass, such as dropout, or a padding token counts",
             "set lora.dropout to 0 and model.attention to eager; report it if that does not help", stops=False),
        Sign("rollout/drift", "sampling and update disagree", lambda now, _: now > 0.1,
             "the log-probabilities of decoding differ from those of the update by this much a token",
             "set model.dtype to float32; check that ppo.temperature is the same in a resumed run", stops=False),
        Sign("policy/updates", "updates are cut short", lambda now, _: now < 0.25 * planned,
             f"the target KL ends updates long before their {planned} optimiser steps",
             "lower ppo.lr, raise ppo.target_kl, or lower ppo.epochs", stops=False, mostly=True),
        Sign("policy/grad_norm", "gradients explode", lambda now, start: now > 10.0 and now > 50 * start,
             "single tokens dominate the update", "lower ppo.lr or ppo.grad_norm", stops=False),
    ]  # fmt: skip


def _lasting(sign: Sign, rows: Sequence[Row]) -> Finding | None:
    """The sign as a finding if the last steps all show it, or most steps where that is enough."""
    values = [row[sign.key] for row in rows if sign.key in row]
    if len(values) < sign.after:
        return None
    start, recent = _mean(values[:WINDOW]), values[-WINDOW:]
    seen = f"{sign.key} is {_mean(recent):.3g} over the last {WINDOW} steps, {start:.3g} at the start"
    if not all(sign.bad(value, start) for value in recent):
        shown = [value for value in values if sign.bad(value, start)]
        if not sign.mostly or len(shown) <= len(values) / 2:
            return None
        seen = f"{sign.key} was {_mean(shown):.3g} on average in {len(shown)} of {len(values)} steps"
    return Finding(sign.name, seen, _sentence(sign.meaning), sign.cure, sign.stops)


def _not_finite(rows: Sequence[Row]) -> Finding | None:
    """A figure of the last row that is no number."""
    for key in ("objective/kl", "objective/score", "objective/entropy", "loss/policy", "loss/value"):
        if rows and key in rows[-1] and not math.isfinite(rows[-1][key]):
            seen = f"{key} is {rows[-1][key]} at step {int(rows[-1]['step'])}"
            cure = "lower ppo.lr, or set model.dtype to float32"
            return Finding("a figure is not finite", seen, "The arithmetic has overflowed", cure, stops=True)
    return None


def _idle_value_head(rows: Sequence[Row]) -> Finding | None:
    """The value head explains exactly nothing of returns that do vary."""
    known = [row for row in rows if "value/explained_variance" in row]
    if len(known) < SETTLED:
        return None
    recent = known[-WINDOW:]
    if any(
        abs(row["value/explained_variance"]) > 1e-4 or row.get("objective/score_deviation", 1.0) < 1e-6
        for row in recent
    ):
        return None
    seen = f"value/explained_variance is 0 over the last {WINDOW} steps, though the scores of replies differ"
    meaning = "It says the same of every reply, and advantages are the bare returns"
    cure = "raise ppo.value_lr or ppo.value_coefficient"
    return Finding("the value head has learnt nothing", seen, meaning, cure, stops=False)


def _hacking(rows: Sequence[Row], spec: PpoSpec | None) -> Finding | None:
    """The reward up while the guard, a second reward that PPO does not see, goes down (Goodhart; Gao et al. 2022)."""
    probes = [row for row in rows if "heldout/guard" in row and "heldout/score" in row]
    if len(probes) < 2:
        return None
    first, last = probes[0], probes[-1]
    gain, loss = last["heldout/score"] - first["heldout/score"], first["heldout/guard"] - last["heldout/guard"]
    if gain < 0.25 or loss < 0.25:
        return None
    seen = (
        f"on held-out prompts the reward rose by {gain:.2f} deviations and ppo.guard fell by {loss:.2f} since step "
        f"{int(first['step'])}"
    )
    meaning = "The policy has found what the reward model overlooks"
    cure = f"stop at an earlier checkpoint, {_shorter(spec)}, or add the guard to ppo.reward"
    return Finding("reward hacking", seen, meaning, cure, stops=False)


def _overfitting(rows: Sequence[Row]) -> Finding | None:
    """The reward of the prompts trained on runs away from that of held-out prompts."""
    probes = [row for row in rows if "heldout/score" in row and "objective/score" in row]
    if len(probes) < 2:
        return None
    first, last = (row["objective/score"] - row["heldout/score"] for row in (probes[0], probes[-1]))
    if min(last, last - first) < max(1.0, 0.25 * probes[-1]["objective/score"]):
        return None
    seen = f"the reward on training prompts is {last:.2f} deviations above that on held-out ones, {first:.2f} at first"
    cure = "add prompts to ppo.prompts, or lower ppo.steps or ppo.epochs"
    return Finding("the gain does not carry over", seen, "The policy learns its prompts by heart", cure, stops=False)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]
