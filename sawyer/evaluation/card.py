"""``card.md``: the model card of a report. Every figure is the report's; what made it is named to be repeated."""

from sawyer.evaluation.markdown import markdown_tables
from sawyer.evaluation.report import Report
from sawyer.evaluation.wording import benchmark_lines, headline, warnings, win_rate_rows

LIMITS = (
    "The rewards are those of the model that training optimised: they show that optimisation worked, not that people "
    "agree. Intervals speak of prompts like these and of nothing else."
)


def render_card(report: Report) -> str:
    """The card in Markdown, with the front matter that the Hugging Face hub reads."""
    stages = [stage.stage for stage in report.stages]
    parts = [
        "---\nlibrary_name: peft\ntags: [sawyer, rlhf, lora, ppo]\n---",
        f"# {report.recipe}: {', '.join(stage.version for stage in report.stages)}",
        *([headline(report)] if headline(report) else []),
        *(f"**Warning.** {warning}" for warning in warnings(report)),
        "## Evaluation\n\n" + markdown_tables(report),
    ]
    if report.win_rates:
        names = [f"{pair.before} → {pair.after}" for pair in report.pairs]
        parts.append("## Who prefers the later stage\n\n" + _table(names, win_rate_rows(report)))
    if report.benchmarks:
        parts.append("## Benchmarks\n\n" + _table(stages, benchmark_lines(report)))
    parts.append("## How this was made\n\n" + _made(report))
    parts.append("## Limits\n\n" + LIMITS)
    return "\n\n".join(parts) + "\n"


def _made(report: Report) -> str:
    weights = ", ".join(f"{stage.stage} {stage.version} `{stage.weights or '–'}`" for stage in report.stages)
    lines = [
        f"- command: `{report.command or 'sawyer evaluate ' + report.recipe}`",
        f"- made: {report.created}, SAWYER {report.sawyer}, "
        + ", ".join(f"{name} {version}" for name, version in report.libraries.items()),
        f"- backbone: `{report.fingerprint}`; weights: {weights}",
        f"- prompts asked: sha256 `{report.prompts.sha256}`",
        *(f"- data `{name}`: sha256 `{digest}`" for name, digest in report.data.items()),
    ]
    return "\n".join(lines)


def _table(columns: list[str], rows: list[tuple[str, str, list[str]]]) -> str:
    head = f"| | {' | '.join(columns)} |\n|---|{'---|' * len(columns)}"
    return "\n".join([head, *(f"| {name} ({meaning}) | {' | '.join(cells)} |" for name, meaning, cells in rows)])
