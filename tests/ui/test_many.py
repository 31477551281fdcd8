"""Sixteen people at once, each with a browser of their own: places in the queue, own answers, own votes."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from time import monotonic, sleep
from typing import TYPE_CHECKING

import pytest
from fastapi import FastAPI

from sawyer.types import STAGES, CompareRequest, QueuedEvent
from tests.serve.live import serving
from tests.ui.conftest import PATIENCE, Visit
from tests.ui.fake_api import FakeApi, sse
from ui import texts
from ui.app import mount_ui

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.long]

PEOPLE = 16


@dataclass
class Hall(FakeApi):
    """Has room for ``room`` turns at a time, once its ``doors`` are open; answers name the question they are for."""

    room: int = 4
    doors: bool = False
    line: list[int] = field(default_factory=list)

    async def events(self, asked: CompareRequest, turn: int) -> AsyncIterator[str]:
        question = asked.messages[-1].content
        replies: dict[str, tuple[str, float | None]] = {
            stage: (f"{stage} answers {question}", float(turn)) for stage in STAGES
        }
        script = FakeApi(replies=replies, pause=self.pause).events(asked, turn)
        self.line.append(turn)
        try:
            yield await anext(script)
            async for place in self._waiting(turn):
                yield sse(QueuedEvent(ahead=place))
            async for each in script:
                yield each
        finally:
            self.line.remove(turn)

    async def _waiting(self, turn: int) -> AsyncIterator[int]:
        told = 0
        while not self.doors or self.line.index(turn) >= self.room:
            place = self.line.index(turn) - self.room + 1
            if place > 0 and place != told:
                told = place
                yield place
            await asyncio.sleep(0.05)


@pytest.fixture
def hall() -> Iterator[tuple[Hall, str]]:
    hall = Hall()
    with serving(hall.app()) as api, serving(mount_ui(FastAPI(), api)) as url:
        yield hall, url


def test_sixteen_people_at_once_each_see_their_own_and_every_vote_lands(
    browser: "Browser", hall: tuple[Hall, str]
) -> None:
    server, url = hall
    with ExitStack() as contexts:
        people: dict[str, Visit] = {}
        for number in range(PEOPLE):
            context = browser.new_context(viewport={"width": 1000, "height": 800})
            contexts.callback(context.close)
            visitor = people[f"visitor-{number:02}"] = Visit(context.new_page())
            visitor.open(url)
        for question, visitor in people.items():
            visitor.ask(question)
        _until(lambda: len(server.line) == PEOPLE)
        order = [asked.messages[-1].content for asked in server.asked]
        assert sorted(order) == sorted(people), "each was asked once"
        for place, question in enumerate(order[server.room :], start=1):
            people[question].page.wait_for_selector(f":text('{texts.replies_ahead(place)}')")
        server.doors = True
        for question, visitor in people.items():
            visitor.wait_for_answers()
            replies = [text.strip() for text in visitor.page.locator("#sw-panes .sw-reply").all_inner_texts()]
            assert replies == [f"{stage} answers {question}" for stage in STAGES]
            seen = visitor.page.locator("body").inner_text()
            assert [other for other in people if other in seen] == [question]
        for number, visitor in enumerate(people.values()):
            visitor.press(visitor.page.locator(".sw-pick").nth(number % 3), ".sw-thanks")
        alarms = [alarm for visitor in people.values() for alarm in visitor.alarms]
    assert alarms == []
    turn_of = {question: f"turn-{place}" for place, question in enumerate(order, start=1)}
    expected = {(turn_of[question], STAGES[number % 3]) for number, question in enumerate(people)}
    assert {(vote.turn_id, vote.choice) for _, vote in server.votes} == expected
    assert len(server.votes) == PEOPLE == len({vote.voter for _, vote in server.votes})


def _until(happened: Callable[[], bool]) -> None:
    deadline = monotonic() + PATIENCE / 1000
    while not happened():
        assert monotonic() < deadline, "not all questions arrived"
        sleep(0.05)
