"""``POST /v1/compare``: one question, every stage answers at once, as one stream of events."""

import random
from collections.abc import Sequence

from fastapi import APIRouter
from starlette.responses import Response, StreamingResponse

from sawyer.types import (
    BLIND_PANES,
    STAGES,
    CompareRequest,
    DeltaEvent,
    DoneEvent,
    EndEvent,
    ErrorEvent,
    QueuedEvent,
    Stage,
    TurnEvent,
)
from serve.engine import Delta, Failed, Job
from serve.errors import NotReady, unknown_stage
from serve.recorder import TurnRef
from serve.service import Kept, Service, Session
from serve.sse import Emit, EventStream, event


def make_router(service: Service) -> APIRouter:
    """Route ``/v1/compare``."""
    router = APIRouter()

    @router.post(
        "/v1/compare",
        summary="All stages answer one conversation",
        response_class=StreamingResponse,
        responses={200: {"content": {"text/event-stream": {}}, "description": "Events of sawyer.types.CompareEvent"}},
    )
    async def compare(body: CompareRequest) -> Response:
        stages = _stages(service, body.stages)
        if body.blind:
            random.SystemRandom().shuffle(stages)
        panes = list(BLIND_PANES[: len(stages)]) if body.blind else list(stages)
        session = await _open(service, body, stages, panes)
        return EventStream(Comparison(session, panes, body.blind).stream)

    return router


def _stages(service: Service, wanted: Sequence[str] | None) -> list[Stage]:
    """The stages to ask, in showing order."""
    available = list(service.engine.versions)
    if not available:
        raise NotReady("The model is still being loaded. Try again in a few seconds; GET /readyz tells when it is.")
    for name in wanted or ():
        if name not in available:
            raise unknown_stage(name, available, param="stages")
    return [stage for stage in STAGES if stage in (wanted or available) and stage in available]


async def _open(service: Service, body: CompareRequest, stages: Sequence[Stage], panes: Sequence[str]) -> Session:
    messages = [message.model_dump() for message in body.messages]
    sampling = service.sampling(body)
    jobs = [Job(stage, messages, sampling) for stage in stages]

    async def begin() -> TurnRef:
        return await service.recorder.begin(messages, body.conversation_id, body.parent_turn_id)

    return await service.open(jobs, begin, panes if body.blind else None)


class Comparison:
    """The stream of one comparison."""

    def __init__(self, session: Session, panes: Sequence[str], blind: bool) -> None:
        self.session, self.panes, self.blind = session, panes, blind

    async def stream(self, emit: Emit) -> None:
        """Emit the turn, then deltas and results of all panes as they come, then the end."""
        turn = self.session.kept_turn
        emit(event(TurnEvent(turn_id=turn.turn_id, conversation_id=turn.conversation_id, stages=list(self.panes))))

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
            tokens=finished.tokens,
            seconds=round(finished.seconds, 3),
            finish_reason=finished.finish_reason,  # type: ignore[arg-type]  # cancelled ones have no reader
            version=None if self.blind else self.session.prepared[kept.row].version,
        )
