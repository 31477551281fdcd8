"""How figures are written for people, the same on the terminal and on the page."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from sawyer.evaluation.acceptance import deciding_pair
from sawyer.evaluation.report import Criterion, Gain, Interval, PairFigures, Report, StageFigures

Figures = TypeVar("Figures")


@dataclass(frozen=True)
class Line(Generic[Figures]):
    """A row of a table: its name, what it means, and how it is written for a stage or a pair."""

    name: str
    meaning: str
    write: Callable[[Figures], str]


def number(value: float | None, digits: int = 2, sign: bool = False) -> str:
    """A figure with a true minus; a dash for what could not be measured."""
    if value is None:
        return "–"
    text = f"{value:+.{digits}f}" if sign else f"{value:.{digits}f}"
    if not text.strip("+-0."):  # no signed zero
        text = text.lstrip("+-")
    return text.replace("-", "−")


def percent(share: float) -> str:
    """A share in whole per cent."""
    return f"{100 * share:.0f} %"


def probability(p: float | None) -> str:
    """A p-value: three decimals, powers of ten below them, a dash where there is no test."""
    if p is None:
        return "–"
    if p >= 0.001:
        return f"{p:.3f}"
    if p < 1e-99:
        return "< 1e−99"
    return f"{p:.0e}".replace("e-0", "e−").replace("e-", "e−")


def ranged(interval: Interval, digits: int = 2, sign: bool = False) -> str:
    """``1.20 [1.10, 1.31]``."""
    low, high = number(interval.low, digits, sign), number(interval.high, digits, sign)
    return f"{number(interval.value, digits, sign)} [{low}, {high}]"


STAGE_LINES: tuple[Line[StageFigures], ...] = (
    Line("version", "what answered", lambda s: s.version),
    Line("mean reward", "with its bootstrap 95 % interval", lambda s: ranged(s.mean)),
    Line("median", "with its bootstrap 95 % interval", lambda s: ranged(s.median)),
    Line("deviation", "standard deviation of the reward, 95 % interval", lambda s: ranged(s.deviation)),
    Line("length, tokens", "mean, end mark included", lambda s: number(s.length, 1)),
    Line("ended by itself", "replies that reached their end mark", lambda s: percent(s.eos_rate)),
    Line("empty", "replies without text", lambda s: percent(s.empty_rate)),
    Line("distinct-1", "different words over all words", lambda s: number(s.distinct_1, 3)),
    Line("distinct-2", "different word pairs over all word pairs", lambda s: number(s.distinct_2, 3)),
    Line("repetition", "word triples seen before in the same reply", lambda s: number(s.repetition, 3)),
)

PAIR_LINES: tuple[Line[PairFigures], ...] = (
    Line("reward difference", "mean over prompts, 95 % interval", lambda p: ranged(p.difference, sign=True)),
    Line("paired t-test", "two-sided p", lambda p: probability(p.t_p)),
    Line("Wilcoxon", "signed-rank test, two-sided p", lambda p: probability(p.wilcoxon_p)),
    Line("… by Holm", "both corrected for the number of comparisons", lambda p: _holm(p)),
    Line("Mann–Whitney", "ignores the pairing, two-sided p", lambda p: probability(p.mann_whitney_p)),
    Line("spread", "Brown–Forsythe test of equal deviations, p", lambda p: probability(p.variance_p)),
    Line("at like length", "pairs of replies within 20 % of each other's length", lambda p: _matched(p)),
    Line("at equal length", "what is left when length is taken out, 95 % interval", lambda p: _intercept(p)),
    Line("effect size", "mean difference over its deviation", lambda p: number(p.effect_size, sign=True)),
    Line("prompts needed", "for p < 0.01 four times in five, at this effect", lambda p: _needed(p)),
    Line("win rate", "ties count half, 90 % interval", lambda p: _win_rate(p)),
    Line("wins, ties, losses", "prompts", lambda p: f"{p.wins}, {p.ties}, {p.losses}"),
    Line("same text", "prompts answered identically", lambda p: str(p.identical_replies)),
    Line("length ratio", "mean tokens, after over before", lambda p: number(p.length_ratio)),
    Line("distinct-2 ratio", "after over before", lambda p: number(p.distinct_2_ratio)),
    Line("… at equal length", "replies cut to the shorter one", lambda p: number(p.distinct_2_ratio_matched)),
    Line("KL, nats a reply", "k1: unbiased, 95 % interval", lambda p: ranged(p.kl.k1) if p.kl else "–"),
    Line("KL, k3", "never negative, less noisy", lambda p: ranged(p.kl.k3) if p.kl else "–"),
)


GAIN_LINES: tuple[Line[Gain], ...] = (
    Line("by the reward", "the model that training optimised, 95 % interval", lambda g: ranged(g.reward, sign=True)),
    Line("by the judge", "the model that nothing was optimised against", lambda g: ranged(g.judge, sign=True)),
    Line("gap", "prompt by prompt", lambda g: ranged(g.gap, sign=True)),
    Line("verdict", "", lambda g: "they part" if g.warning else "no conflict"),
)


def warnings(report: Report) -> list[str]:
    """Where the two reward models part."""
    return [gain.warning for gain in report.judge.gains if gain.warning] if report.judge else []


def contested(report: Report) -> bool:
    """Whether the judge contradicts the comparison that decides."""
    pair = deciding_pair(report.pairs, [stage.stage for stage in report.stages])
    gains = report.judge.gains if report.judge else []
    return any(gain.warning for gain in gains if pair and (gain.before, gain.after) == (pair.before, pair.after))


def _holm(pair: PairFigures) -> str:
    return f"{probability(pair.t_p_holm)}, {probability(pair.wilcoxon_p_holm)}"


def _matched(pair: PairFigures) -> str:
    found = pair.length_matched
    if found is None or found.difference is None:
        return "–"
    return f"{ranged(found.difference, sign=True)}, n {found.n}"


def _intercept(pair: PairFigures) -> str:
    found = pair.length_matched
    return ranged(found.at_equal_length, sign=True) if found and found.at_equal_length else "–"


def _needed(pair: PairFigures) -> str:
    return "–" if pair.n_needed is None else f"{pair.n_needed:,}"


ROLES = {"guard": "guard: not optimised, must not fall", "judge": "judge: a second reward model, never optimised"}


def part_lines(report: Report) -> list[tuple[str, str, list[str]]]:
    """Rows about the reward's parts: name, meaning, and a cell for each stage."""
    rows = []
    for part in report.parts:
        what = ROLES.get(part.role) or f"weight {part.weight:g}"
        rows.append(
            (part.name, f"mean with its bootstrap 95 % interval; {what}", [ranged(m) for m in part.means.values()])
        )
        found = {comparison.after: comparison for comparison in part.comparisons}
        cells = [
            f"{ranged(found[stage].difference, sign=True)}, p {probability(found[stage].t_p)}"
            if stage in found
            else "–"
            for stage in part.means
        ]
        rows.append(("… change", "from the stage it is compared with, paired t-test", cells))
    return rows


def benchmark_lines(report: Report) -> list[tuple[str, str, list[str]]]:
    """Rows about the benchmarks: name, meaning, and a cell for each stage."""
    rows = []
    for one in report.benchmarks:
        chance = "" if one.chance is None else f", guessing gives {percent(one.chance)}"
        cells = [ranged(one.scores[stage.stage], 3) for stage in report.stages]
        rows.append((one.name, f"{one.metric} of {one.n} questions, 95 % interval{chance}", cells))
        found = {comparison.after: comparison for comparison in one.comparisons}
        changes = [
            f"{ranged(found[stage.stage].difference, 3, sign=True)}, p {probability(found[stage.stage].p)}"
            if stage.stage in found
            else "–"
            for stage in report.stages
        ]
        test = one.comparisons[0].test if one.comparisons else "paired test"
        rows.append(("… change", f"from the stage it is compared with, {test}", changes))
    return rows


def win_rate_rows(report: Report) -> list[tuple[str, str, list[str]]]:
    """Rows about preferences: who prefers, how it is counted, and a cell for each comparison."""
    rows = []
    for by in dict.fromkeys(one.by for one in report.win_rates):
        found = {(one.before, one.after): one for one in report.win_rates if one.by == by}
        shown = [found.get((pair.before, pair.after)) for pair in report.pairs]
        rows.append((by, "ties half, 90 % interval", [_rate(one.rate) if one else "–" for one in shown]))
        controlled = [_rate(one.length_controlled) if one else "–" for one in shown]
        if any(cell != "–" for cell in controlled):
            rows.append(("… length-controlled", "between replies of equal length, 90 % interval", controlled))
        counts = [f"{one.wins}, {one.ties}, {one.losses}" if one else "–" for one in shown]
        rows.append(("… wins, ties, losses", "prompts or votes", counts))
    return rows


def llm_sentence(report: Report) -> str:
    """How far the LLM judge can be trusted, and what it cost."""
    found = report.llm_judge
    if found is None:
        return ""
    alike, first = found.consistency, found.first_place
    told = (
        f"{found.model} was asked {found.questions} questions about {found.prompts} prompts, each pair in both orders. "
    )
    told += f"It judged {_rate(alike)} of the pairs alike in both orders; " if alike else ""
    told += f"{_rate(first)} of its choices were for the reply that stood first; " if first else ""
    return told + (
        f"{found.nonsense} answers were nonsense and count for nothing. Cost: {found.prompt_tokens:,} tokens read, "
        f"{found.completion_tokens:,} written."
    )


def _rate(rate: Interval | None) -> str:
    return "–" if rate is None else f"{percent(rate.value)} [{100 * rate.low:.0f}, {100 * rate.high:.0f}]"


def _win_rate(pair: PairFigures) -> str:
    return _rate(pair.win_rate)


def measured(criterion: Criterion) -> str:
    """What was measured for a condition, with its unit."""
    if criterion.name.endswith(" p"):
        return probability(criterion.measured)
    return f"{number(criterion.measured)} {criterion.unit}".strip()


def limit(criterion: Criterion) -> str:
    """What a condition allows."""
    low, high = criterion.low, criterion.high
    if low is not None and high is not None:
        return f"{low:g} to {high:g}"
    return f"at least {low:g}" if low is not None else f"below {high:g} {criterion.unit}".strip()


def headline(report: Report) -> str:
    """What the evaluation found, in a sentence or two."""
    pair = deciding_pair(report.pairs, [stage.stage for stage in report.stages])
    if pair is None:
        best = max(report.stages, key=lambda stage: stage.mean.value)
        return f"Highest mean reward: {best.stage} with {ranged(best.mean)}." if len(report.stages) > 1 else ""
    if report.accepted:
        met = f"{pair.after} beats {pair.before} and meets all {len(report.acceptance)} conditions"
        doubt = ", but a second reward model does not confirm it: do not trust the gain."
        return met + (doubt if contested(report) else ".")
    missed = [criterion.name for criterion in report.acceptance if not criterion.met]
    count = f"{len(missed)} of {len(report.acceptance)} conditions"
    return f"{pair.after} against {pair.before}: {count} not met ({', '.join(missed)})."


def asked(report: Report) -> str:
    """How the stages were asked."""
    sampling, prompts = report.sampling, report.prompts
    way = "greedy" if sampling.temperature == 0 else f"temperature {sampling.temperature:g}, top-p {sampling.top_p:g}"
    return (
        f"{prompts.count} held-out prompts ({prompts.found} found), {way}, at most {sampling.max_new_tokens} new "
        f"tokens, seed {sampling.seed}; rewards by {report.reward_model}"
    )
