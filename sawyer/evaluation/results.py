"""``docs/results.md``: the reference's published claims beside ours. Every figure of ours comes from a report.

    python -m sawyer.evaluation.results --nano RUN [--t5 RUN] > docs/results.md

RUN is the folder of an evaluation, or its report.json. A claim whose report is not given, or that did not ask for it,
says that it was not run. Theirs: the published case studies of SAWYER (Llama-2-7B, 200 held-out prompts; FLAN-T5).
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from sawyer.evaluation.acceptance import deciding_pair
from sawyer.evaluation.report import BenchmarkFigures, PairFigures, PartFigures, Report
from sawyer.evaluation.runs_compared import read_report
from sawyer.evaluation.wording import number, probability, ranged

NANO = "sawyer evaluate recipes/nano.yaml"
FULL = "sawyer evaluate recipes/llama2-7b.yaml"
T5 = "sawyer evaluate recipes/tiny-t5-neutral.yaml"
T5_FULL = "sawyer evaluate recipes/flan-t5-neutral.yaml"
ABSENT = "not run"
SURE = 0.05

Found = tuple[str, str, str]  # ours, the test, the verdict


@dataclass(frozen=True)
class Claim:
    """A row: what was published, how ours is read from a report, and the commands that repeat it."""

    says: str
    theirs: str
    ours: Callable[[Report], Found | None]
    small: str
    full: str


def reward_rises(report: Report) -> Found | None:
    """The mean reward before and after, and three tests of it."""
    pair = _decisive(report)
    if pair is None:
        return None
    means = f"{number(report.stage(pair.before).mean.value)} → {number(report.stage(pair.after).mean.value)}"
    test = (
        f"difference {ranged(pair.difference, sign=True)}, n {pair.n}; paired t p {probability(pair.t_p)}, Wilcoxon p "
        f"{probability(pair.wilcoxon_p)}, Mann–Whitney p {probability(pair.mann_whitney_p)}"
    )
    return means, test, _rise(pair.difference.value, pair.t_p)


def spread_falls(report: Report) -> Found | None:
    """The deviation before and after."""
    pair = _decisive(report)
    if pair is None:
        return None
    one, other = report.stage(pair.before).deviation, report.stage(pair.after).deviation
    test = f"Brown–Forsythe p {probability(pair.variance_p)}"
    return f"{ranged(one)} → {ranged(other)}", test, _rise(one.value - other.value, pair.variance_p)


def judge_confirms(report: Report) -> Found | None:
    """Whether a reward model that was never optimised sees the gain."""
    pair = _decisive(report)
    gains = [] if report.judge is None or pair is None else report.judge.gains
    gain = next((one for one in gains if pair and (one.before, one.after) == (pair.before, pair.after)), None)
    if gain is None:
        return None
    told = f"reward {ranged(gain.reward, sign=True)}, judge {ranged(gain.judge, sign=True)}, in deviations"
    test = f"gap {ranged(gain.gap, sign=True)}"
    return told, test, "they part: see the report" if gain.warning else "confirmed"


def length_explains(report: Report) -> Found | None:
    """What is left of the gain at equal length."""
    pair = _decisive(report)
    found = pair.length_matched if pair else None
    if found is None or found.at_equal_length is None:
        return None
    matched = f"; {ranged(found.difference, sign=True)} on {found.n} pairs of like length" if found.difference else ""
    left = found.at_equal_length
    verdict = "not by length alone" if left.low > 0 else "length may explain it" if left.high > 0 else "gone"
    return f"{ranged(left, sign=True)} at equal length{matched}", "intercept, 95 % t interval", verdict


def no_leak(report: Report) -> Found | None:
    """How the prompts were kept apart."""
    asked = report.prompts
    told = f"{asked.count} prompts asked of {asked.found} held out by the hash of their first turn"
    return told, "a test walks the splits", "no conversation on both sides"


def unchanged(name: str) -> Callable[[Report], Found | None]:
    """A benchmark's score before and after."""

    def read(report: Report) -> Found | None:
        pair, one = _decisive(report), _benchmark(report, name)
        if pair is None or one is None:
            return None
        change = next(c for c in one.comparisons if (c.before, c.after) == (pair.before, pair.after))
        test = (
            f"difference {ranged(change.difference, 3, sign=True)}, n {one.n}; {change.test} p {probability(change.p)}"
        )
        changed = change.p is not None and change.p < SURE
        told = f"{ranged(one.scores[pair.before], 3)} → {ranged(one.scores[pair.after], 3)}"
        return told, test, "changed" if changed else "no change shown; the interval says how large one could be"

    return read


def part_rises(word: str) -> Callable[[Report], Found | None]:
    """A part of T5's reward, or its guard, before and after."""

    def read(report: Report) -> Found | None:
        pair = _decisive(report)
        part: PartFigures | None = next((one for one in report.parts if word in one.name.lower()), None)
        if pair is None or part is None:
            return None
        found = next(c for c in part.comparisons if (c.before, c.after) == (pair.before, pair.after))
        told = f"{ranged(part.means[pair.before], 3)} → {ranged(part.means[pair.after], 3)}"
        test = (
            f"difference {ranged(found.difference, 3, sign=True)}, n {found.n}; paired t p {probability(found.t_p)}, "
            f"by Holm {probability(found.t_p_holm)}"
        )
        return told, test, _rise(found.difference.value, found.t_p)

    return read


BENCH = " --benchmarks truthfulqa,mmlu_world_religions"
NANO_CLAIMS = (
    Claim("Reward is higher after RL", "5.70 → 6.92, n 200, p 0.007", reward_rises, NANO, FULL),
    Claim("Rewards spread less after RL", "3.52 → 1.86, no test", spread_falls, NANO, FULL),
    Claim("TruthfulQA mc1 stays the same", "same, no test", unchanged("truthfulqa_mc1"), NANO + BENCH, FULL + BENCH),
    Claim("TruthfulQA mc2 stays the same", "same, no test", unchanged("truthfulqa_mc2"), NANO + BENCH, FULL + BENCH),
    Claim(
        "MMLU world_religions stays the same",
        "same, no test",
        unchanged("mmlu_world_religions"),
        NANO + BENCH,
        FULL + BENCH,
    ),
    Claim("A model that was not optimised agrees", "not asked: the judge was the reward", judge_confirms, NANO, FULL),
    Claim("The gain is not length", "not asked", length_explains, NANO, FULL),
    Claim("No prompt was learnt from", "prompts leaked between the splits", no_leak, NANO, FULL),
)
T5_CLAIMS = (
    Claim("FLAN-T5: summaries are more neutral", "1.306 → 1.323, no test", part_rises("neutral"), T5, T5_FULL),
    Claim("FLAN-T5: grammar is better", "0.690 → 0.758, no test", part_rises("acceptab"), T5, T5_FULL),
    Claim("FLAN-T5: still about the same", "similarity fell, unnoticed", part_rises("guard"), T5, T5_FULL),
)

HEAD = """# The published results, held to a stricter standard

Each row is a claim of the published SAWYER case studies (Llama-2-7B, 200 held-out prompts; FLAN-T5 for neutral
summaries), or a question that they left open. Ours are the small models of this repository: they show whether the
method does what was claimed, not that a 7B model would give the same figures; the last column runs each at full size,
which needs a GPU and the weights. A verdict means p < 0.05 in the test named; "not shown" is no proof of the contrary.
Every figure of ours is read from a report by `python -m sawyer.evaluation.results`; nothing here is typed by hand.
"""


def results(nano: Report | None, t5: Report | None) -> str:
    """The page as Markdown."""
    rows = ["| claim | theirs | ours | test | verdict | repeat it | at full size |", "|---|---|---|---|---|---|---|"]
    for report, claims in ((nano, NANO_CLAIMS), (t5, T5_CLAIMS)):
        for claim in claims:
            ours, test, verdict = (claim.ours(report) if report else None) or (ABSENT, "–", "–")
            cells = (claim.says, claim.theirs, ours, test, verdict, f"`{claim.small}`", f"`{claim.full}`")
            rows.append(f"| {' | '.join(cells)} |")
    return "\n".join([HEAD, *rows, "", *(_source(report) for report in (nano, t5) if report)]) + "\n"


def _source(report: Report) -> str:
    versions = ", ".join(f"{stage.stage} {stage.version} (`{stage.weights or '–'}`)" for stage in report.stages)
    return (
        f"- {report.recipe}: `{report.command or 'sawyer evaluate ' + report.recipe}`, {report.created[:10]}, SAWYER "
        f"{report.sawyer}; {versions}; reward by {report.reward_model}; prompts sha256 `{report.prompts.sha256[:16]}`"
    )


def _decisive(report: Report) -> PairFigures | None:
    return deciding_pair(report.pairs, [stage.stage for stage in report.stages])


def _benchmark(report: Report, name: str) -> BenchmarkFigures | None:
    return next((one for one in report.benchmarks if one.name == name), None)


def _rise(change: float, p: float | None) -> str:
    if p is None or p >= SURE:
        return "not shown"
    return "holds" if change > 0 else "the opposite"


def main(
    nano: Annotated[Path | None, typer.Option(help="Evaluation of recipes/nano.yaml.")] = None,
    t5: Annotated[Path | None, typer.Option(help="Evaluation of recipes/tiny-t5-neutral.yaml.")] = None,
) -> None:
    """Print docs/results.md."""
    typer.echo(results(nano and read_report(nano), t5 and read_report(t5)), nl=False)


if __name__ == "__main__":
    typer.run(main)
