"""What happens on each act of a reviewer: from the desk to the next desk. No widgets in here."""

from dataclasses import replace
from typing import Any

from pydantic import ValidationError

from sawyer.types import (
    FeedbackFilter,
    PromoteRequest,
    RedactRequest,
    ReviewRequest,
    RollbackRequest,
    StartRound,
)
from ui import failures
from ui.failures import ApiFailure
from ui.numbers import counted
from ui.review import acts, texts
from ui.review.client import AdminClient
from ui.review.desk import Desk

REFUSED = (401, 403)


class Reviewing:
    """The review page's actions on one API."""

    def __init__(self, client: AdminClient):
        self._client = client

    async def act(self, desk: Desk, act: Any, visitor: str | None = None) -> Desk:
        """The desk after an act. Failures end in its notice, never in an exception, and lose nothing that it shows."""
        quiet = desk if isinstance(act, acts.Poll) else desk.cleared()
        try:
            if isinstance(act, acts.Leave):
                return Desk()
            if isinstance(act, acts.Enter):
                return await self._enter(act.key.strip())
            return await self._work(quiet, act) if desk.key else desk
        except ValidationError as error:
            return replace(quiet, notice=str(failures.from_validation(error)))
        except ApiFailure as failure:
            return refused(quiet, failure, watching=isinstance(act, acts.Poll))

    async def _enter(self, key: str) -> Desk:
        if not key:
            return Desk(notice=texts.KEY_MISSING)
        desk = Desk(key=key)
        return desk.showing(await self._client.feedback(key, desk.chosen))

    async def _work(self, desk: Desk, act: Any) -> Desk:
        match act:
            case acts.Show():
                return await self._show(replace(desk, tab=act.tab, detail=None))
            case acts.Poll():
                return await self._poll(desk)
            case acts.Find():
                return await self._show(replace(desk, chosen=_filter(act)))
            case acts.Read():
                return await self._show(replace(desk, tab="feedback", chosen=FeedbackFilter(voter=act.voter)))
            case acts.More():
                page = await self._client.feedback(desk.key, desk.chosen, desk.next)
                return desk.showing(page, more=True)
            case acts.Decide():
                return await self._decide(desk, act)
            case acts.Redact():
                return await self._redact(desk, act)
            case acts.Export():
                return await self._export(desk, act)
            case _:
                return await self._train(desk, act)

    async def _train(self, desk: Desk, act: Any) -> Desk:
        """Rounds and versions."""
        key = desk.key
        match act:
            case acts.Open():
                detail = await self._client.round(key, act.number) if act.number else None
                return replace(await self._show(desk), detail=detail)
            case acts.Start():
                started = await self._client.start(key, StartRound(method=act.method, dry_run=act.dry_run))
                detail = await self._client.round(key, started.number)
                return replace(desk, detail=detail, done=texts.ROUND_STARTED.format(number=started.number))
            case acts.Stop():
                await self._client.stop(key, act.number)
                detail = await self._client.round(key, act.number)
                return replace(desk, detail=detail, done=texts.ROUND_STOPPED.format(number=act.number))
            case acts.Promote():
                registry = await self._client.promote(key, PromoteRequest(refs=[act.ref]))
                return replace(desk, registry=registry, done=texts.PROMOTED.format(ref=act.ref))
            case acts.Rollback():
                registry = await self._client.rollback(key, RollbackRequest(stage=act.stage))
                current = registry.current.get(act.stage) or texts.NO_VERSION
                return replace(desk, registry=registry, done=texts.ROLLED_BACK.format(stage=act.stage, ref=current))
        raise AssertionError(f"no answer to {act!r}")

    async def _show(self, desk: Desk) -> Desk:
        """A tab with what the server says now."""
        match desk.tab:
            case "feedback":
                return desk.showing(await self._client.feedback(desk.key, desk.chosen))
            case "voters":
                return replace(desk, voters=tuple((await self._client.voters(desk.key)).voters))
            case "rounds":
                # The versions tell whether a round's candidate is served by now.
                rounds = await self._client.rounds(desk.key)
                return replace(desk, rounds=rounds, registry=await self._client.versions(desk.key))
            case "versions":
                return replace(desk, registry=await self._client.versions(desk.key))

    async def _poll(self, desk: Desk) -> Desk:
        """News of rounds, the only thing here that changes while one looks on."""
        if desk.tab != "rounds":
            return desk
        if desk.detail is None:
            return replace(desk, rounds=await self._client.rounds(desk.key), stale="")
        detail = await self._client.round(desk.key, desk.detail.number)
        ended = detail.state != "running" and desk.detail.state == "running"
        after = replace(desk, detail=detail, stale="")
        # A round that promoted its candidate changed what is served.
        return replace(await self._show(after), detail=detail) if ended else after

    async def _decide(self, desk: Desk, act: acts.Decide) -> Desk:
        if not act.ids:
            return replace(desk, notice=texts.NOTHING_SELECTED)
        request = ReviewRequest(vote_ids=act.ids, state=act.state, note=act.note)
        answer = await self._client.review(desk.key, request)
        done = texts.DECIDED[act.state].format(votes=counted(answer.reviewed, "vote"))
        return replace(desk.decided(act.ids, act.state, act.note), done=done)

    async def _redact(self, desk: Desk, act: acts.Redact) -> Desk:
        request = RedactRequest(conversation_id=act.conversation, text=act.text.strip(), note=act.note)
        answer = await self._client.redact(desk.key, request)
        if not answer.places:
            return replace(desk, notice=texts.REDACTED_NOWHERE)
        # Everything shown is read anew: the text may have stood in several votes of the conversation.
        desk = desk.showing(await self._client.feedback(desk.key, desk.chosen))
        return replace(desk, done=texts.REDACTED.format(places=counted(answer.places, "place")))

    async def _export(self, desk: Desk, act: acts.Export) -> Desk:
        content = (await self._client.export(desk.key, desk.chosen, act.format)).decode()
        rows = sum(1 for line in content.splitlines() if line)
        name = f"sawyer-{act.format}.jsonl"
        done = texts.EXPORTED.format(rows=counted(rows, "example"), name=name)
        return replace(desk.saving(name, content), done=done)


def refused(desk: Desk, failure: ApiFailure, *, watching: bool) -> Desk:
    """The desk after a failure. A key that is refused takes the reviewer back to the door, with the reason."""
    if failure.status in REFUSED:
        return Desk(notice=texts.KEY_REFUSED.format(reason=failure))
    if watching:
        return replace(desk, stale=texts.WATCHING_FAILED.format(reason=failure))
    return replace(desk, notice=str(failure))


def _filter(act: acts.Find) -> FeedbackFilter:
    """The form as a filter.

    Raises:
        ValidationError: a field is none of those allowed.
        ApiFailure: a day is none.
    """
    given = act.model_dump(exclude={"act", "since", "until"}, exclude_none=True)
    try:
        if act.since:
            given["since"] = acts.seconds(act.since)
        if act.until:
            given["until"] = acts.seconds(act.until, end=True)
    except ValueError as error:
        raise ApiFailure(texts.BAD_DAY.format(day=act.since if "since" not in given else act.until)) from error
    return FeedbackFilter.model_validate(given, strict=False)
