"""The report's figures as Markdown tables, for model cards and pages: nothing in them is typed by hand."""

from sawyer.evaluation.report import Interval, PairFigures, PartFigures, Report, StageFigures


def markdown_tables(report: Report, samples: int = 4) -> str:
    """Stages, comparisons, the acceptance line, and the randomly chosen samples of a report.

    Args:
        report: a finished evaluation.
        samples: at most so many of its random samples; the best and worst are in ``report.html``.
    """
    asked = report.prompts
    head = (
        f"{asked.count} held-out prompts ({', '.join(f'{name} {n}' for name, n in asked.sources.items())}), "
        f"at most {report.sampling.max_new_tokens} tokens, temperature {report.sampling.temperature:g}, seed "
        f"{report.sampling.seed}; rewards by `{report.reward_model}`, the reward model that PPO optimised."
    )
    parts = [head, _stages(report.stages), _pairs(report.pairs)]
    if report.parts:
        parts.append(_parts(report.parts))
    if report.acceptance:
        parts.append(_acceptance(report))
    drawn = [sample for sample in report.samples if sample.kind == "random"][:samples]
    if drawn:
        parts.append("Replies to prompts drawn at random:")
        for sample in drawn:
            asked_last = _cell(sample.messages[-1]["content"])
            rows = "\n".join(f"| {r.stage} | {_cell(r.text) or '(empty)'} | {r.reward:+.2f} |" for r in sample.replies)
            parts.append(f"| | {asked_last} | reward |\n|---|---|---|\n{rows}")
    return "\n\n".join(parts)


def _stages(stages: list[StageFigures]) -> str:
    rows = [
        "| stage | mean reward [95 %] | median | deviation | length | ended | distinct-1 | distinct-2 | repetition |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    rows += [
        f"| {s.stage} | {_interval(s.mean)} | {s.median.value:.2f} | {s.deviation.value:.2f} | {s.length:.1f} tokens "
        f"| {s.eos_rate:.0%} | {s.distinct_1:.2f} | {s.distinct_2:.2f} | {s.repetition:.2f} |"
        for s in stages
    ]
    return "\n".join(rows)


def _pairs(pairs: list[PairFigures]) -> str:
    rows = [
        "| comparison | difference [95 %] | paired t p | Wilcoxon p | win rate [90 %] | length ratio | KL (nats) |",
        "|---|---|---|---|---|---|---|",
    ]
    rows += [
        f"| {p.before} → {p.after} | {_interval(p.difference)} | {_p(p.t_p)} | {_p(p.wilcoxon_p)} | "
        f"{_interval(p.win_rate)} | {p.length_ratio:.2f} | {p.kl.k1.value if p.kl else float('nan'):.2f} |".replace(
            "nan", "–"
        )
        for p in pairs
    ]
    return "\n".join(rows)


def _parts(parts: list[PartFigures]) -> str:
    stages = list(parts[0].means)
    rows = [f"| part | {' | '.join(stages)} | comparison | difference [95 %] | paired t p |"]
    rows.append("|---" * (len(stages) + 4) + "|")
    for part in parts:
        named = part.name if part.weight is None else f"{part.weight:g} · {part.name}"
        means = [_interval(part.means[stage]) for stage in stages]
        for index, c in enumerate(part.comparisons):
            cells = [named, *means] if index == 0 else [""] * (len(stages) + 1)
            rows.append(f"| {' | '.join([*cells, f'{c.before} → {c.after}', _interval(c.difference), _p(c.t_p)])} |")
    return "\n".join(rows)


def _acceptance(report: Report) -> str:
    rows = ["| condition | measured | allowed | met |", "|---|---|---|---|"]
    for c in report.acceptance:
        low = "" if c.low is None else f"at least {c.low:g}"
        high = "" if c.high is None else f"below {c.high:g}"
        measured = "–" if c.measured is None else f"{c.measured:.3g} {c.unit}".strip()
        rows.append(
            f"| {c.name} | {measured} | {' and '.join(x for x in (low, high) if x)} | {'yes' if c.met else 'no'} |"
        )
    return "\n".join(rows)


def _interval(value: Interval) -> str:
    return f"{value.value:.2f} [{value.low:.2f}, {value.high:.2f}]"


def _p(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:.1e}" if value < 0.001 else f"{value:.3f}"


def _cell(text: str) -> str:
    """Text that stays inside a table cell and is shown as it is."""
    flat = " ".join(text.split())
    for sign in "\\`*_<>|[]#":
        flat = flat.replace(sign, f"\\{sign}")
    return flat
