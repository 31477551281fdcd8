"""What people see: the page, the plots, the terminal table, the acceptance line and the rule behind the samples."""

import io
import re
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from sawyer.evaluation import Report, print_report
from sawyer.evaluation.acceptance import deciding_pair, judge
from sawyer.evaluation.canvas import DARK, Plot, png
from sawyer.evaluation.document import schema
from sawyer.evaluation.figures import pairs_of, references_of
from sawyer.evaluation.page import render_page
from sawyer.evaluation.plots import draw_all, draw_differences, draw_rewards
from sawyer.evaluation.report import Judge, PairFigures
from sawyer.evaluation.samples import choose_rows
from sawyer.evaluation.wording import number, probability

PLOT = Plot(b"light", b"dark", b"svg", "a plot")
PLOTS = {"rewards": PLOT, "differences": PLOT}
ATTACK = "<script>alert(1)</script><img src=x onerror=alert(2)> & \"quotes\" '{{ 7 * 7 }}' [bold]not markup[/bold]"


def interval(value: float, width: float = 0.5) -> dict[str, float]:
    return {"value": value, "low": value - width, "high": value + width, "level": 0.95}


def pair(**changes: Any) -> PairFigures:
    return PairFigures.model_validate(
        {
            "before": "sft", "after": "rlf", "n": 10, "difference": interval(1.0), "t_p": 0.0004, "wilcoxon_p": 0.002,
            "effect_size": 0.8, "win_rate": interval(0.7, 0.1), "wins": 7, "ties": 0, "losses": 3,
            "identical_replies": 0,
            "length_ratio": 1.2, "distinct_2_ratio": 0.9, "distinct_2_ratio_matched": 0.95, "note": None,
            "kl": {"reference": "sft", "k1": interval(4.0), "k3": interval(4.2), "temperature": 1.0},
            **changes,
        }
    )  # fmt: skip


def make_report(text: str = "A fine reply.", **changes: Any) -> Report:
    stages = []
    for place, name in enumerate(("base", "sft", "rlf")):
        rewards = [place + step / 10 for step in range(10)]
        figures = dict.fromkeys(("distinct_1", "distinct_2", "repetition", "eos_rate", "empty_rate"), 0.5)
        intervals = {key: interval(place + 0.45) for key in ("mean", "median", "deviation")}
        stages.append(
            {"stage": name, "version": f"{name}@1", "n": 10, "length": 20.0, "rewards": rewards} | figures | intervals
        )
    reply = {"text": text, "reward": 0.5, "tokens": 5, "finished": True}
    sample = {
        "kind": "best", "index": 0, "messages": [{"role": "user", "content": text}], "change": 1.0,
        "replies": [reply | {"stage": name} for name in ("base", "sft", "rlf")],
    }  # fmt: skip
    decided = judge(pair())
    return Report.model_validate(
        {
            "recipe": "trial", "created": "2025-01-01T00:00:00+00:00", "sawyer": "0.1.0", "libraries": {"torch": "2"},
            "reward_model": "reward@1", "fingerprint": "abc", "seconds": 1.0, "stages": stages,
            "sampling": {"max_new_tokens": 8, "temperature": 1.0, "top_p": 1.0, "seed": 0},
            "prompts": {"count": 10, "found": 10, "left_out": 1, "sources": {"starter": 10}, "sha256": "0" * 64},
            "pairs": [pair(before="base", after="sft", kl=None), pair()],
            "acceptance": decided, "accepted": True, "samples": [sample],
            **changes,
        }
    )  # fmt: skip


def test_text_of_others_is_escaped_on_the_page() -> None:
    page = render_page(make_report(ATTACK, reward_model=ATTACK, recipe=ATTACK), PLOTS)
    assert "<script" not in page and "<img src=x" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page and "{{ 7 * 7 }}" in page
    assert "default-src 'none'" in page, "and if something slipped through, it could not run"


def test_the_page_is_self_contained() -> None:
    page = render_page(make_report(), PLOTS)
    assert not re.search(r"(src|href|srcset)=\"(?!data:)", page) and "http" not in page.replace("http-equiv", "")
    assert "prefers-color-scheme: dark" in page and "@media print" in page and "width=device-width" in page
    for words in (
        "rlf beats sft and meets all 4 conditions",
        "10 held-out prompts",
        "sft → rlf",
    ):
        assert words in page


def test_a_page_of_one_stage_has_no_comparison() -> None:
    report = make_report()
    alone = report.model_copy(update={"stages": report.stages[:1], "pairs": [], "acceptance": [], "accepted": None})
    page = render_page(alone.model_copy(update={"samples": []}), {"rewards": PLOT})
    assert "On the same prompts" not in page and "Acceptance" not in page and page.count("<img") == 1


def test_plots_are_png_and_svg_and_repeatable() -> None:
    kl = {"reference": "sft", "k1": interval(4.0), "k3": interval(4.2), "temperature": 1.0}
    priced = pair(kl=kl | {"each": [float(n) for n in range(10)], "same_replies": True, "reward_correlation": 0.3})
    report = make_report(pairs=[pair(before="base", after="sft", kl=None), priced], judge=opinion())
    plots = draw_all(report)
    assert plots.keys() == {"rewards", "differences", "judge", "kl"}
    assert all(plot.light.startswith(b"\x89PNG") and plot.dark.startswith(b"\x89PNG") for plot in plots.values())
    assert all(b"<svg" in plot.svg and plot.alt for plot in plots.values())
    assert plots["rewards"].dark == png(draw_rewards(report, DARK)) != plots["rewards"].light
    assert draw_all(report)["kl"].svg == plots["kl"].svg


def test_plots_of_rewards_that_do_not_vary() -> None:
    report = make_report()
    flat = [stage.model_copy(update={"rewards": [1.0] * 10}) for stage in report.stages]
    same = report.model_copy(update={"stages": flat})
    assert all(png(draw(same)).startswith(b"\x89PNG") for draw in (draw_rewards, draw_differences))


def opinion(warning: str | None = "rlf: this is what reward hacking looks like.") -> Judge:
    gain = {"before": "sft", "after": "rlf", "reward": interval(1.0), "judge": interval(-1.0), "gap": interval(2.0)}
    return Judge.model_validate(
        {"name": "judge@2", "note": None, "correlation": 0.4, "gains": [gain | {"warning": warning}]}
    )


def test_a_judge_that_disagrees_is_heard_first() -> None:
    page = render_page(make_report(judge=opinion()), PLOTS)
    assert page.index("reward hacking looks like") < page.index("<h2>") and "judge@2" in page and "they part" in page
    stream = io.StringIO()
    print_report(make_report(judge=opinion()), Console(file=stream, width=80))
    assert "Warning: rlf: this is what reward hacking" in stream.getvalue()
    assert "beats sft" in page and "does not confirm it" in page and 'class="verdict good"' not in page
    calm = render_page(make_report(judge=opinion(None)), PLOTS)
    assert "does not confirm" not in calm and "no conflict" in calm and "they part" not in calm
    absent = render_page(make_report(judge=Judge(name=None, note="Train one with `sawyer train judge`.")), PLOTS)
    assert "sawyer train judge" in absent


def test_the_schema_lies_beside_its_documentation() -> None:
    """``python -m sawyer.evaluation.document > docs/report.schema.json`` after a change."""
    assert (Path(__file__).resolve().parents[2] / "docs" / "report.schema.json").read_text("utf-8") == schema()


def test_the_terminal_shows_the_table_within_80_columns() -> None:
    stream = io.StringIO()
    print_report(make_report(reward_model="[bold]reward[/bold]"), Console(file=stream, width=80))
    shown = stream.getvalue()
    for words in (
        "mean reward",
        "1.45 [0.95, 1.95]",
        "sft → rlf",
        "4e−4",
        "Acceptance",
        "below 15 nats",
        "[bold]reward",
    ):
        assert words in shown
    assert max(map(len, shown.splitlines())) <= 80


def test_all_conditions_met() -> None:
    assert [criterion.met for criterion in judge(pair())] == [True] * 4


@pytest.mark.parametrize(
    ("changes", "missed"),
    [
        ({"t_p": 0.01}, 0),
        ({"t_p": None, "note": "why"}, 0),
        ({"difference": interval(-1.0)}, 0),
        ({"kl": {"reference": "sft", "k1": interval(15.0), "k3": interval(9.0), "temperature": 1.0}}, 1),
        ({"kl": None}, 1),
        ({"length_ratio": 0.69}, 2),
        ({"length_ratio": 1.81}, 2),
        ({"distinct_2_ratio": 0.79}, 3),
        ({"distinct_2_ratio": None}, 3),
    ],
)
def test_each_condition_can_be_missed(changes: dict[str, Any], missed: int) -> None:
    assert [place for place, criterion in enumerate(judge(pair(**changes))) if not criterion.met] == [missed]


def test_borders_that_are_met() -> None:
    assert all(criterion.met for criterion in judge(pair(length_ratio=0.7, distinct_2_ratio=0.8)))
    assert all(criterion.met for criterion in judge(pair(length_ratio=1.8)))


def test_samples_follow_the_rule() -> None:
    chosen = choose_rows([5.0, -1.0, 0.0, 3.0, -4.0, 2.0, 1.0, 0.5], 6, seed=0)
    assert chosen[:4] == [("best", 0), ("best", 3), ("worst", 4), ("worst", 1)]
    assert {index for kind, index in chosen if kind == "random"} <= {2, 5, 6, 7} and len(chosen) == 6
    assert choose_rows([0.0, 0.0], 12, seed=0) == [("random", 0), ("random", 1)], "few prompts: each once"
    assert len({index for _, index in choose_rows([1.0] * 7, 7, seed=3)}) == 7


def test_which_stages_are_compared() -> None:
    assert references_of(["base", "sft", "rlf@1", "rlf@2"], from_base=False) == {"rlf@1": "sft", "rlf@2": "sft"}
    assert references_of(["base", "rlf"], from_base=True) == {"rlf": "base"}
    assert references_of(["base", "rlf"], from_base=False) == {}
    assert pairs_of(["sft", "base", "rlf"], {"rlf": "sft"}) == [("sft", "base"), ("base", "rlf"), ("sft", "rlf")]


def test_the_last_rlf_decides() -> None:
    pairs = [pair(after="rlf@2"), pair(after="rlf@1"), pair(before="rlf@1", after="rlf@2", kl=None)]
    assert deciding_pair(pairs, ["rlf@1", "sft", "rlf@2"]) is pairs[0]
    assert deciding_pair([pair(kl=None)], ["sft", "rlf"]) is None


def test_figures_in_words() -> None:
    assert [number(-0.001), number(-1.5), number(1.5, 1, True), number(None)] == ["0.00", "−1.50", "+1.5", "–"]
    assert [probability(0.0123), probability(0.00042), probability(3e-12), probability(None), probability(0.0)] == [
        "0.012", "4e−4", "3e−12", "–", "< 1e−99"
    ]  # fmt: skip


def test_every_field_is_documented() -> None:
    text = (Path(__file__).resolve().parents[2] / "docs" / "evaluation.md").read_text(encoding="utf-8")
    schema = Report.model_json_schema()
    names = {name for part in [schema, *schema["$defs"].values()] for name in part["properties"]}
    assert {name for name in names if f"`{name}`" not in text} == set()
