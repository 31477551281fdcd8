"""The review page without a browser: each act on a scripted API, and what is shown after it."""

import asyncio
from dataclasses import replace
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from pydantic import TypeAdapter, ValidationError

from sawyer.types import GateCondition, Message, RoundStep
from tests.ui.fake_admin import EXPORTED, KEY, FakeAdmin, item, refused, registry, running, voters
from tests.ui.html import dangers
from ui.review import texts
from ui.review.acts import Act
from ui.review.client import AdminClient
from ui.review.desk import Desk
from ui.review.handlers import Reviewing
from ui.review.screen import screen

ATTACK = "<script>alert(1)</script><img src=x onerror=alert(2)> [x](javascript:alert(3)) </pre>\"'>"


@pytest.fixture
def admin() -> FakeAdmin:
    return FakeAdmin()


def after(admin: FakeAdmin, desk: Desk, *acts: dict[str, Any]) -> Desk:
    """The desk after acts as the page's script reports them."""
    app = FastAPI()
    admin.attach(app)
    reviewing = Reviewing(AdminClient("http://api.test", httpx.ASGITransport(app)))

    async def work(desk: Desk) -> Desk:
        for each in acts:
            desk = await reviewing.act(desk, TypeAdapter(Act).validate_python(each))
        return desk

    return asyncio.run(work(desk))


def inside(admin: FakeAdmin, *acts: dict[str, Any]) -> Desk:
    return after(admin, Desk(), {"act": "enter", "key": KEY}, *acts)


def test_a_wrong_key_stays_at_the_door_and_is_told_why(admin: FakeAdmin) -> None:
    desk = after(admin, Desk(), {"act": "enter", "key": "sk-wrong"})
    assert (desk.key, desk.items) == ("", ())
    shown = screen(desk)
    assert "misspelt or was revoked" in shown and "sawyer keys add --role admin" in shown and "sk-wrong" not in shown
    assert after(admin, Desk(), {"act": "enter", "key": " "}).notice == texts.KEY_MISSING
    assert after(admin, desk, {"act": "show", "tab": "voters"}) == desk, "nothing is asked without a key"


def test_a_key_opens_the_desk_is_never_shown_and_leaves_with_the_reviewer(admin: FakeAdmin) -> None:
    desk = inside(admin)
    assert [one.vote_id for one in desk.items] == ["vote-1", "vote-2", "vote-3", "vote-4"]
    assert KEY not in screen(desk) and KEY not in repr(desk)
    assert after(admin, desk, {"act": "leave"}) == Desk()
    admin.keys_seen.clear()
    revoked = after(admin, replace(desk, key="sk-revoked"), {"act": "more"})
    assert revoked.key == "" and revoked.items == ()


def test_the_filter_asks_for_what_the_form_says(admin: FakeAdmin) -> None:
    blank = {
        "act": "find",
        "state": "",
        "choice": "",
        "finding": "",
        "blind": "",
        "edited": "",
        "voter": "",
        "text": "",
    }
    everything = inside(admin, blank | {"since": "", "until": ""})
    assert everything.total == 6 and everything.next == "4"
    assert len(after(admin, everything, {"act": "more"}).items) == 6
    edited = inside(admin, blank | {"edited": "true", "text": "boiling"})
    assert [one.vote_id for one in edited.items] == ["vote-3"]
    days = inside(admin, blank | {"since": "2026-11-20", "until": "2026-11-20"})
    assert days.chosen.since is not None and days.chosen.until == days.chosen.since + 86_400
    assert 'name="until" value="2026-11-20"' in screen(days)
    wrong = after(admin, edited, blank | {"since": "soon"})
    assert "soon is no day" in wrong.notice and wrong.items == edited.items
    assert "choice" in inside(admin, blank | {"choice": "nothing"}).notice
    assert inside(admin, {"act": "show", "tab": "voters"}, {"act": "read", "voter": "voter-2"}).tab == "feedback"


def test_a_decision_shows_at_once_and_the_votes_stay_where_they_are(admin: FakeAdmin) -> None:
    decide = {"act": "decide", "state": "rejected", "ids": "vote-2\nvote-4", "note": "spam"}
    desk = inside(admin, decide)
    assert [(one.vote_id, one.state) for one in desk.items][1] == ("vote-2", "rejected")
    assert admin.reviews[0].vote_ids == ["vote-2", "vote-4"] and admin.reviews[0].note == "spam"
    assert "2 votes rejected" in desk.done
    assert after(admin, desk, decide | {"ids": ""}).notice == texts.NOTHING_SELECTED


def test_redaction_and_export_say_what_they_did(admin: FakeAdmin) -> None:
    desk = inside(admin, {"act": "redact", "conversation": "conversation-1", "text": " Ada ", "note": ""})
    assert admin.redactions[0].text == "Ada" and desk.done == "Blacked out in 2 places."
    short = after(admin, desk, {"act": "redact", "conversation": "conversation-1", "text": "A"})
    assert "text" in short.notice and short.items == desk.items
    exported = after(admin, desk, {"act": "export", "format": "kto"})
    assert exported.file is not None and exported.file.text == EXPORTED
    assert admin.exports == [{"state": "pending", "form": "kto", "format": "jsonl"}]
    assert after(admin, exported, {"act": "more"}).file is None
    admin.items = []
    nothing = after(admin, exported, {"act": "export", "format": "preference"})
    assert nothing.file is None and "nothing to export" in nothing.notice


def test_findings_are_explained_wherever_they_are_shown(admin: FakeAdmin) -> None:
    votes = screen(inside(admin))
    people = screen(inside(admin, {"act": "show", "tab": "voters"}))
    for finding in ("too_fast", "one_position"):
        assert texts.FINDING_WHY[finding] in votes and texts.FINDING_WHY[finding] in people


def test_a_refused_promotion_changes_nothing_and_says_why(admin: FakeAdmin) -> None:
    admin.promotion_refused = "rlf@3 has no adapter folder."
    desk = inside(admin, {"act": "show", "tab": "versions"}, {"act": "promote", "ref": "rlf@3"})
    assert desk.notice == "rlf@3 has no adapter folder." and desk.registry == registry()
    admin.promotion_refused = None
    promoted = after(admin, desk, {"act": "promote", "ref": "rlf@3"})
    assert promoted.registry is not None and promoted.registry.current["rlf"] == "rlf@3" and not promoted.notice
    back = after(admin, promoted, {"act": "rollback", "stage": "rlf"})
    assert "rlf@1" in back.done


def test_a_round_is_started_watched_and_left_running_when_the_server_goes(admin: FakeAdmin) -> None:
    poll = {"act": "poll"}
    desk = inside(admin, {"act": "show", "tab": "rounds"}, {"act": "start", "method": "dpo", "dry_run": "true"})
    assert desk.detail is not None and desk.detail.number == 4
    assert after(admin, desk, poll) == desk, "no news, nothing to draw"
    admin.gone = True
    away = after(admin, desk, poll)
    assert away.detail == desk.detail and "No news of the server" in screen(away) and "progress" in screen(away)
    admin.gone = False
    admin.rounds[4] = running(4, 0.9)
    again = after(admin, away, poll)
    assert not again.stale and 'value="0.900"' in screen(again)
    admin.rounds[4] = refused().model_copy(update={"number": 4})
    ended = after(admin, again, poll)
    assert ended.detail is not None and ended.detail.state == "refused" and ended.rounds is not None
    assert texts.PROMOTE_OVERRULE.format(ref="rlf@3") in screen(ended)
    assert after(admin, ended, {"act": "open", "number": "0"}).detail is None


def test_a_round_that_cannot_start_says_why(admin: FakeAdmin) -> None:
    admin.can_start = "Too few votes: 3 of at least 20."
    shown = screen(inside(admin, {"act": "show", "tab": "rounds"}))
    assert "Too few votes: 3 of at least 20." in shown and texts.START not in shown


def test_whatever_people_or_processes_wrote_stays_text() -> None:
    written = item(
        1,
        name=ATTACK,
        comment=ATTACK,
        edited=ATTACK,
        note=ATTACK,
        reviewer=ATTACK,
        voter=ATTACK,
        conversation_id=ATTACK,
        messages=[Message(role="user", content=ATTACK)] * 2,
        ranking=[ATTACK],
    )
    answers = [one.model_copy(update={"text": ATTACK}) for one in written.answers]
    hostile = written.model_copy(update={"answers": answers})
    desk = Desk(key="k", notice=ATTACK, done=ATTACK, items=(hostile,), total=1)
    people = tuple(one.model_copy(update={"name": ATTACK, "voter": ATTACK}) for one in voters())
    stored = registry().model_copy(update={"history": [{"at": ATTACK, "action": ATTACK, "versions": [ATTACK]}]})
    versions = [one.model_copy(update={"ref": ATTACK, "about": ATTACK}) for one in stored.versions]
    detail = refused().model_copy(
        update={
            "log": [ATTACK],
            "reasons": [ATTACK],
            "candidate": ATTACK,
            "figures": {ATTACK: 1.0},
            "steps": [RoundStep(name=ATTACK, state="running", detail=ATTACK)],
            "conditions": [GateCondition(name=ATTACK, measured=ATTACK, allowed=ATTACK, met=False)],
            "samples": [one.model_copy(update={"prompt": ATTACK, "candidate": ATTACK}) for one in refused().samples],
        }
    )
    desks = (
        desk.saving(ATTACK, ATTACK),
        replace(desk, tab="voters", voters=people),
        replace(desk, tab="versions", registry=stored.model_copy(update={"versions": versions})),
        replace(desk, tab="rounds", detail=detail),
    )
    for each in desks:
        assert dangers(screen(each)) == []


def test_an_act_that_nobody_can_do_is_refused() -> None:
    for wrong in ({"act": "format"}, {"act": "promote"}, {"act": "start", "method": "magic"}, {"act": "more", "x": 1}):
        with pytest.raises(ValidationError):
            TypeAdapter(Act).validate_python(wrong)
