"""The board without a browser: what its sentences claim, what its pictures hold, what happens when nothing comes."""

import asyncio
import csv
import io
import xml.etree.ElementTree as xml
from typing import Any

import httpx
import pytest

from sawyer.types import Agreement, Board, Interval, Ladder, PairResult, PositionBias
from tests.ui import fake_board
from tests.ui.fake_board import interval
from tests.ui.html import dangers
from ui.board import findings, texts
from ui.board.figure_html import csv_text, picture
from ui.board.figures import figures
from ui.board.palette import FILE, PAGE, shades
from ui.board.plots import every_day
from ui.board.screen import screen
from ui.board.svg import WIDTH, steps
from ui.board.view import Look, Looking, Switch, View
from ui.client import ApiClient

ATTACK = "<script>alert(1)</script><img src=x onerror=alert(2)>"


def pair(rate: Interval) -> PairResult:
    return PairResult(first="rlf", second="sft", wins=7, ties=2, losses=3, n=12, win_rate=rate)


@pytest.mark.parametrize(
    ("rate", "says"),
    [
        (interval(0.7, 0.55, 0.82), "RLF is preferred to SFT: 70 % of 12 comparisons."),
        (interval(0.3, 0.18, 0.45), "SFT is preferred to RLF: 70 % of 12 comparisons."),
        (interval(0.7, 0.48, 0.86), "RLF and SFT are not separable yet (70 % of 12 comparisons)."),
        (interval(0.7, 0.5, 0.86), "RLF and SFT are not separable yet (70 % of 12 comparisons)."),
    ],
)
def test_a_preference_is_claimed_only_where_the_interval_leaves_chance_out(rate: Interval, says: str) -> None:
    assert findings.pair(pair(rate)) == says


def test_a_leader_is_named_as_one_only_when_separable() -> None:
    leaders = fake_board.strengths(("rlf", 0.6, 0.3, 0.9), ("sft", 0.3, 0.1, 0.5))
    assert "may be chance" in findings.ladder(Ladder(n=9, strengths=leaders, separable=False))
    assert findings.ladder(Ladder(n=9, strengths=leaders, separable=True)).startswith("RLF is the strongest")
    controlled = Ladder(n=9, strengths=leaders, length_effect=interval(0.1, -0.1, 0.3))
    assert "No effect of length" in findings.ladder(controlled)
    assert findings.ladder(Ladder(n=0, note="Nobody has compared any two.")) == "Nobody has compared any two."


def test_position_and_agreement_say_what_the_test_allows() -> None:
    assert "p = 0.44" in findings.position(PositionBias(n=64, counts=[26, 18, 20], p=0.44))
    assert "p below 0.001" in findings.position(PositionBias(n=64, counts=[50, 8, 6], p=1e-9))
    assert findings.position(PositionBias(n=3, counts=[1, 1, 1])) == texts.POSITION_NONE
    assert "not separable from chance" in findings.agreement(Agreement(n=20, share=interval(0.6, 0.42, 0.75)))
    assert "less often than by chance" in findings.agreement(Agreement(n=90, share=interval(0.3, 0.2, 0.4)))


@pytest.mark.parametrize("figure", figures(fake_board.board()), ids=lambda figure: figure.name)
def test_a_picture_is_whole_and_its_marks_lie_inside(figure: Any) -> None:
    drawn = xml.fromstring(picture(figure, FILE))
    height = float(drawn.attrib["height"])
    labels = drawn.attrib["aria-labelledby"].split()
    named = {each.attrib["id"]: each.text for each in drawn if "id" in each.attrib}
    assert figure.title == named[labels[0]]
    assert f"n = {figure.n:,}" in (named[labels[1]] or "")
    marks = list(drawn.iter())
    across = [float(each.attrib[name]) for each in marks for name in ("x", "x1", "x2", "cx") if name in each.attrib]
    along = [float(each.attrib[name]) for each in marks for name in ("y", "y1", "y2", "cy") if name in each.attrib]
    assert min(across) >= 0 and max(across) <= WIDTH
    assert min(along) >= 0 and max(along) <= height
    assert "var(" not in picture(figure, FILE), "a file has no style sheet to look colours up in"
    assert "var(--sw-ink)" in picture(figure, PAGE)


def test_the_table_of_a_figure_holds_its_numbers_and_no_formulas() -> None:
    by_name = {figure.name: figure for figure in figures(fake_board.board())}
    rows = list(csv.DictReader(io.StringIO(csv_text(by_name["pairs"]))))
    assert [(row["first"], row["second"], row["n"], row["wins"]) for row in rows][1] == ("rlf", "base", "71", "48")
    assert sum(int(row["count"]) for row in csv.DictReader(io.StringIO(csv_text(by_name["rewards"])))) == 354
    hostile = fake_board.board(pairs=[pair(interval(0.7, 0.6, 0.8)).model_copy(update={"first": "=1+1"})])
    assert "'=1+1" in csv_text(figures(hostile)[0])


def test_names_from_the_registry_cannot_become_markup() -> None:
    rounds = [each.model_copy(update={"candidate": ATTACK, "reasons": [ATTACK]}) for each in fake_board.rounds()]
    hostile = fake_board.board(
        contestants=[ATTACK],
        choices={ATTACK: 3},
        pairs=[pair(interval(0.7, 0.6, 0.8)).model_copy(update={"first": ATTACK})],
        ladder=Ladder(n=1, strengths=fake_board.strengths((ATTACK, 0.1, 0.0, 0.2)), note=ATTACK),
        rounds=rounds,
    )
    assert dangers(screen(View(board=hostile, notice=ATTACK))) == []


def test_without_votes_the_board_says_how_to_get_some() -> None:
    shown = screen(View(board=fake_board.nothing()))
    assert texts.EMPTY_TITLE in shown and 'href="./"' in shown and "<svg" not in shown
    assert texts.EMPTY_SELECTION in screen(View(blind=True, board=fake_board.nothing()))
    sparse = fake_board.nothing(votes=1, voters=1, contestants=["base", "rlf"], choices={"rlf": 1})
    assert texts.LADDER_NONE in screen(View(board=sparse)) and texts.POSITION_NONE in screen(View(board=sparse))


def looking(*boards: Board | None) -> tuple[Looking, list[dict[str, str]]]:
    """A board page on an API that answers these one after another; None: it is not there."""
    answers, asked = iter(boards), []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(dict(request.url.params) | {"for": request.headers.get("x-forwarded-for", "")})
        board = next(answers)
        if board is None:
            raise httpx.ConnectError("refused")
        return httpx.Response(200, json=board.model_dump(mode="json"))

    return Looking(ApiClient("http://api.test", httpx.MockTransport(answer))), asked


def test_the_view_changes_only_when_the_votes_do_and_survives_an_absent_server() -> None:
    board = fake_board.board()
    later = board.model_copy(update={"updated": board.updated + 5})
    more = later.model_copy(update={"votes": 119})
    page, asked = looking(board, later, more, None, more)

    async def watch() -> list[View]:
        seen = [View()]
        for _ in range(5):
            seen.append(await page.act(seen[-1], Look(), "192.0.2.7"))
        return seen

    _, first, same, changed, away, back = asyncio.run(watch())
    assert first == same and changed.board == more
    assert away.board == more and "last ones that came" in screen(away)
    assert back == changed
    assert asked[0] == {"by": "stage", "for": "192.0.2.7"}


def test_switches_ask_for_other_figures_and_hide_the_old_ones() -> None:
    page, asked = looking(fake_board.board(), None)
    view = asyncio.run(page.act(View(), Switch(act="switch", votes="blind")))
    assert (view.by, view.blind) == ("stage", True)
    failed = asyncio.run(page.act(view, Switch(act="switch", by="version")))
    assert failed.board is None and failed.notice
    assert [(one["by"], one["blind"]) for one in asked] == [("stage", "true"), ("version", "true")]


def test_an_axis_has_round_steps_inside_it() -> None:
    assert steps(0, 1, 4) == [0, 0.5, 1.0]
    assert steps(0, 1, 5) == [0, 0.2, 0.4, 0.6, 0.8, 1.0]
    assert steps(-1.5, 1.5, 4) == [-1, 0, 1]
    assert steps(0, 0) == [0]


def test_days_on_which_nobody_voted_are_shown_as_such() -> None:
    shown = every_day(fake_board.board().days)
    assert [(day.day[-2:], day.n) for day in shown] == [("18", 32), ("19", 28), ("20", 0), ("21", 58)]


def test_versions_of_a_stage_share_its_colour_and_the_latest_is_strongest() -> None:
    found = shades(["base", "rlf@1", "rlf@2", "tie"])
    assert found["rlf@1"] < found["rlf@2"] == found["base"] == found["tie"] == 1
    assert FILE.of("rlf@1") == FILE.of("rlf@2") != FILE.of("sft@1")
