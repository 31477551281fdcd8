"""``POST /v1/compare``: one question, every stage answers at once, as one stream of events."""

from fastapi import APIRouter
from starlette.responses import Response, StreamingResponse

from sawyer.types import CompareRequest, DeltaEvent, DoneEvent, EndEvent, ErrorEvent, QueuedEvent, TurnEvent
from serve.engine import Delta, Failed, Job
from serve.lineup import Lineup, RecentLineups, lineup_of, new_lineup
from serve.recorder import TurnRef
from serve.service import Kept, Service, Session
from serve.sse import Emit, EventStream, event


def make_router(service: Service) -> APIRouter:
    """Route ``/v1/compare``."""
    router, recent = APIRouter(), RecentLineups()

    @router.post(
        "/v1/compare",
        summary="All stages answer one conversation",
        response_class=StreamingResponse,
        responses={200: {"content": {"text/event-stream": {}}, "description": "Events of sawyer.types.CompareEvent"}},
    )
    async def compare(body: CompareRequest) -> Response:
        if body.turn_id is None:
            lineup = new_lineup(service.engine, body.stages, body.blind)
        else:
            lineup = await _earlier(service, recent, body.turn_id, body)
        session = await _open(service, body, lineup)
        if body.turn_id is None:
            recent.remember(session.kept_turn.turn_id, lineup)
        return EventStream(Comparison(session, lineup).stream)

    return router


async def _earlier(service: Service, recent: RecentLineups, turn_id: str, body: CompareRequest) -> Lineup:
    """The panes of an earlier turn that are to be answered anew.

    Raises:
        NotFound: no such turn. ApiError: it asked something else, or a pane that it has not.
    """
    turn = await service.recorder.turn(turn_id, _messages(body), "turn_id")
    lineup = recent.get(turn_id) or lineup_of(turn, service.engine, body.stages)
    return lineup.only(body.stages)


def _messages(body: CompareRequest) -> list[dict[str, str]]:
    return [message.model_dump() for message in body.messages]


async def _open(service: Service, body: CompareRequest, lineup: Lineup) -> Session:
    messages, sampling = _messages(body), service.sampling(body)
    jobs = [Job(place.stage, messages, sampling, version=place.version) for place in lineup.places]

    async def begin() -> TurnRef:
        if body.turn_id is not None:
            return await service.recorder.join(body.turn_id, messages, "turn_id")
        return await service.recorder.begin(messages, body.conversation_id, body.parent_turn_id)

    return await service.open(jobs, begin, lineup.panes)


class Comparison:
    """The stream of one comparison."""

    def __init__(self, session: Session, lineup: Lineup) -> None:
        self.session, self.panes, self.blind = session, lineup.panes, lineup.blind

    async def stream(self, emit: Emit) -> None:
        """Emit the turn, then deltas and results of all panes as they come, then the end."""
        turn = self.session.kept_turn
        emit(event(TurnEvent(turn_id=turn.turn_id, conversation_id=turn.conversation_id, stages=self.panes)))

        def on_event(happened: Delta | Kept | Failed) -> None:
            pane = self.panes[happened.row]
            if isinstance(happened, Delta):
                emit(event(DeltaEvent(stage=pane, delta=happened.text)))
            elif isinstance(happened, Failed):
                emit(event(ErrorEvent(stage=pane, error=happened.error.detail)))
            else:
                emit(event(self._done(pane, happened)))

        await self.session.run(on_event, lambda queued: emit(event(QueuedEvent(ahead=queued.ahead))))
        emit(event(EndEvent()))

    def _done(self, pane: str, kept: Kept) -> DoneEvent:
        finished, recorded = kept.finished, kept.recorded
        assert recorded is not None
        return DoneEvent(
            stage=pane,
            completion_id=recorded.completion_id,
            reward=recorded.reward,
            parts=recorded.parts,
            tokens=finished.tokens,
            seconds=round(finished.seconds, 3),
            finish_reason=finished.finish_reason,  # type: ignore[arg-type]  # cancelled ones have no reader
            version=None if self.blind else self.session.prepared[kept.row].version,
        )
