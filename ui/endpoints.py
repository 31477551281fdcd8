"""What ``gradio_client`` can ask of the page: one question to all stages, and a vote, without the page's own state."""

import uuid
from typing import Any

import gradio as gr
from pydantic import ValidationError

from sawyer.types import CompareRequest, DeltaEvent, DoneEvent, ErrorEvent, TurnEvent, VoteRequest
from ui.client import ApiClient
from ui.failures import ApiFailure
from ui.wiring import address


class Endpoints:
    """``/compare`` and ``/vote`` over the API behind ``client``; ``attach`` adds them to a page being built."""

    def __init__(self, client: ApiClient):
        self._client = client

    def attach(self) -> None:
        """Inside ``with gr.Blocks()``."""
        gr.api(self.compare, api_name="compare", queue=True)
        gr.api(self.vote, api_name="vote", queue=True)

    async def compare(
        self, message: str, request: gr.Request, history: list[dict[str, str]] | None = None
    ) -> dict[str, Any]:
        """Ask every stage and wait for all of them.

        Args:
            message: the question.
            history: earlier messages, each with ``role`` and ``content``.

        Returns:
            ``turn_id``; and by stage ``replies``, ``rewards`` and ``versions``, or ``errors`` where one failed.
        """
        found: dict[str, Any] = {"turn_id": None, "replies": {}, "rewards": {}, "versions": {}, "errors": {}}
        try:
            asked = CompareRequest.model_validate(
                {"messages": [*(history or []), {"role": "user", "content": message}]}, strict=False
            )
            async for event in self._client.compare(asked, address(request)):
                if isinstance(event, TurnEvent):
                    found["turn_id"] = event.turn_id
                    found["replies"] = dict.fromkeys(event.stages, "")
                elif isinstance(event, DeltaEvent):
                    found["replies"][event.stage] += event.delta
                elif isinstance(event, DoneEvent):
                    found["rewards"][event.stage], found["versions"][event.stage] = event.reward, event.version
                elif isinstance(event, ErrorEvent):
                    found["errors"][event.stage or "all"] = event.error.message
        except (ApiFailure, ValidationError) as error:
            raise gr.Error(_told(error), print_exception=False) from error
        return found

    async def vote(self, turn_id: str, choice: str, request: gr.Request) -> dict[str, Any]:
        """Vote on a turn: ``choice`` is a stage, ``tie`` or ``bad``. Returns the stored vote."""
        try:
            asked = VoteRequest.model_validate({"turn_id": turn_id, "choice": choice}, strict=False)
            stored = await self._client.vote(asked, uuid.uuid4().hex, address(request))
        except (ApiFailure, ValidationError) as error:
            raise gr.Error(_told(error), print_exception=False) from error
        return stored.model_dump(mode="json")


def _told(error: Exception) -> str:
    if isinstance(error, ValidationError):
        return "; ".join(f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors())
    return str(error)
