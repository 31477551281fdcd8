"""The admin routes with feedback, voters, versions and rounds from a script, kept in memory and changed by requests."""

from dataclasses import dataclass, field
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, PlainTextResponse

from sawyer.types import (
    AnswerShown,
    Board,
    FeedbackFilter,
    FeedbackItem,
    FeedbackPage,
    GateCondition,
    Message,
    PromoteRequest,
    RedactRequest,
    RedactResponse,
    RegistryState,
    ReviewRequest,
    ReviewResponse,
    RollbackRequest,
    RoundDetail,
    RoundList,
    RoundSample,
    RoundStep,
    RoundSummary,
    StartRound,
    VersionState,
    VoterList,
    VoterSummary,
)
from tests.ui import fake_board
from tests.ui.fake_board import NOW

KEY = "sk-sawyer-12345678-for-the-tests"
PAGE = 4
EXPORTED = '{"prompt": "a", "chosen": "b", "rejected": "<b>c</b>"}\n'
QUESTIONS = (
    "How do I boil an egg?",
    "Why is the sky blue?",
    "Tell me a short story about a lighthouse.",
    "Who are you?",
)
ANSWERS = {
    "base": "How do I boil an egg in the oven? How long does it take to boil an egg at high altitude?",
    "sft": "Put the egg in cold water, bring it to a boil, then turn the heat down. Wait about eight minutes.",
    "rlf": "Happy to help!\n\n1. Cover the egg with cold water.\n2. Bring it to a **boil**.\n3. Wait ten minutes.",
}


def item(number: int, **changed: Any) -> FeedbackItem:
    """One vote on three answers, blind and for the second one; every other one pending."""
    answers = [
        AnswerShown(
            completion_id=f"c-{number}-{stage}",
            stage=stage,
            version=None if stage == "base" else f"{stage}@1",
            pane=pane,
            text=text,
            tokens=len(text) // 5,
            reward=reward,
        )
        for (stage, text), pane, reward in zip(ANSWERS.items(), "ABC", (-1.2, 0.4, 2.1), strict=True)
    ]
    return FeedbackItem(
        **{
            "vote_id": f"vote-{number}",
            "turn_id": f"turn-{number}",
            "conversation_id": f"conversation-{number}",
            "created": NOW - 600 * number,
            "voter": f"voter-{number % 3}",
            "name": "Ada" if number % 3 == 0 else None,
            "choice": "sft",
            "completion_id": f"c-{number}-sft",
            "messages": [Message(role="user", content=QUESTIONS[number % len(QUESTIONS)])],
            "answers": answers,
            "position": 1,
            "blind": True,
            "seconds": 9.0,
            **changed,
        }
    )


def items() -> list[FeedbackItem]:
    return [
        item(
            1,
            comment="The list is easier to follow.",
            choice="rlf",
            completion_id="c-1-rlf",
        ),
        item(2, findings=["too_fast", "one_position"], seconds=0.8),
        item(
            3,
            edited="Ten minutes in boiling water, then cold water.",
            messages=[
                Message(role="user", content="I have an egg."),
                Message(role="assistant", content="How nice!"),
                Message(role="user", content="How do I boil it?"),
            ],
        ),
        item(4, choice="bad", completion_id=None, position=None, findings=["disagrees"]),
        item(5, findings=["duplicate"]),
        item(6, state="approved", reviewer="1a2b3c4d", note="Read with Sinan."),
    ]


def voters() -> list[VoterSummary]:
    return [
        VoterSummary(
            voter="voter-2",
            votes=24,
            first=NOW - 4000,
            last=NOW - 300,
            median_seconds=0.9,
            favourite_position=1,
            favourite_share=0.96,
            agreement=0.21,
            findings=["too_fast", "one_position", "disagrees"],
        ),
        VoterSummary(
            voter="voter-0",
            name="Ada",
            votes=9,
            first=NOW - 9000,
            last=NOW - 500,
            median_seconds=12.4,
            favourite_position=0,
            favourite_share=0.44,
            agreement=0.71,
        ),
        VoterSummary(voter="voter-1", votes=1, first=NOW - 800, last=NOW - 800),
    ]


def registry() -> RegistryState:
    about = {
        "rlf@3": "round 3, PPO on 104 votes",
        "rlf@2": "round 2, DPO on 61 votes",
        "rlf@1": "shipped",
        "sft@1": "shipped",
    }
    return RegistryState(
        versions=[
            VersionState(
                ref=ref,
                stage=ref[:3],
                current=ref in ("rlf@2", "sft@1"),
                created="2026-11-21T19:40:02+00:00",
                about=words,
            )
            for ref, words in about.items()
        ],
        current={"rlf": "rlf@2", "sft": "sft@1"},
        history=[{"at": "2026-11-21T19:44:10+00:00", "action": "promote", "versions": ["rlf@2"]}],
    )


def running(number: int, progress: float) -> RoundDetail:
    """A round in the middle of its training."""
    names = ("snapshot", "reward", "normalise", "rlf", "evaluate", "gate", "promote")
    steps = [RoundStep(name=name, state="done", seconds=4.0 * place + 2) for place, name in enumerate(names[:3])]
    detail = f"step {round(progress * 40)} of 40, reward +0.84, KL 3.1 nats"
    steps.append(
        RoundStep(name="rlf", state="running", progress=progress, seconds=round(200 * progress), detail=detail)
    )
    steps += [RoundStep(name=name, state="waiting") for name in names[4:]]
    log = [f"step {step}: reward {0.4 + step / 60:+.2f}, KL {step / 12:.2f} nats" for step in range(28, 34)]
    return RoundDetail(
        number=number,
        recipe="nano",
        method="ppo",
        state="running",
        step="rlf",
        created=NOW,
        votes=104,
        voters=27,
        current="rlf@2",
        steps=steps,
        log=log,
    )


def refused() -> RoundDetail:
    """A round whose candidate talked too much."""
    summary = fake_board.rounds()[0].model_dump()
    names = ("snapshot", "reward", "normalise", "rlf", "evaluate")
    return RoundDetail(
        **(summary | {"figures": {"reward_gain": 0.62, "p": 0.0004, "kl": 6.1, "length_ratio": 1.93}}),
        steps=[RoundStep(name=name, state="done", seconds=30.0) for name in names]
        + [RoundStep(name="gate", state="failed", seconds=0.1), RoundStep(name="promote", state="waiting")],
        conditions=[
            GateCondition(name="reward gain, paired p", measured="0.0004", allowed="below 0.01", met=True),
            GateCondition(name="KL", measured="6.1 nats", allowed="below 15", met=True),
            GateCondition(name="length ratio", measured="1.93", allowed="at least 0.7 and below 1.8", met=False),
        ],
        samples=[
            RoundSample(
                prompt=QUESTIONS[1],
                current="Because air scatters blue light more than red.",
                candidate="Because air scatters blue light more than red, and it is blue, and the sky is lovely.",
                current_reward=0.7,
                candidate_reward=1.3,
            )
        ],
    )


@dataclass
class FakeAdmin:
    """What the admin routes answer; requests change it as they would the store and the registry."""

    items: list[FeedbackItem] = field(default_factory=items)
    voters: list[VoterSummary] = field(default_factory=voters)
    registry: RegistryState = field(default_factory=registry)
    rounds: dict[int, RoundDetail] = field(default_factory=lambda: {3: refused()})
    can_start: str | None = None
    board: Board = field(default_factory=fake_board.board)
    boards_asked: list[tuple[str, bool | None]] = field(default_factory=list)
    promotion_refused: str | None = None
    gone: bool = False
    keys_seen: list[str | None] = field(default_factory=list)
    reviews: list[ReviewRequest] = field(default_factory=list)
    redactions: list[RedactRequest] = field(default_factory=list)
    exports: list[dict[str, str]] = field(default_factory=list)

    def attach(self, app: FastAPI) -> None:
        """Add the routes and the guard before them to ``app``."""
        app.middleware("http")(self._guard)
        app.get("/v1/feedback/board")(self._board)
        app.get("/v1/admin/feedback")(self._feedback)
        app.post("/v1/admin/reviews", status_code=201)(self._review)
        app.post("/v1/admin/redact")(self._redact)
        app.get("/v1/admin/voters")(self._voters)
        app.get("/v1/admin/export")(self._export)
        app.get("/v1/admin/versions")(self._versions)
        app.post("/v1/admin/promote")(self._promote)
        app.post("/v1/admin/rollback")(self._rollback)
        app.get("/v1/admin/rounds")(self._rounds)
        app.post("/v1/admin/rounds", status_code=202)(self._start)
        app.get("/v1/admin/rounds/{number}")(self._round)
        app.post("/v1/admin/rounds/{number}/stop")(self._stop)

    async def _guard(self, request: Request, ask: Any) -> Any:
        if self.gone and request.url.path.startswith(("/v1/admin/", "/v1/feedback/board")):
            return refusal(503, "The server is shutting down.")
        if request.url.path.startswith("/v1/admin/"):
            given = request.headers.get("authorization", "").removeprefix("Bearer ")
            self.keys_seen.append(given)
            if given != KEY:
                return refusal(401, "The API key is not known here: it is misspelt or was revoked.")
        return await ask(request)

    async def _board(self, by: str = "stage", blind: bool | None = None) -> Board:
        self.boards_asked.append((by, blind))
        return self.board.model_copy(update={"by": by, "blind": blind})

    async def _feedback(self, request: Request) -> FeedbackPage:
        given = dict(request.query_params)
        before, size = given.pop("before", None), min(PAGE, int(given.pop("limit")))
        found = [one for one in self.items if matches(one, FeedbackFilter.model_validate(given))]
        start = int(before or 0)
        more = str(start + size) if len(found) > start + size else None
        return FeedbackPage(total=len(found), items=found[start : start + size], next=more)

    async def _review(self, asked: ReviewRequest) -> ReviewResponse:
        self.reviews.append(asked)
        changed = {"state": asked.state, "note": asked.note, "reviewer": "1a2b3c4d"}
        self.items = [one.model_copy(update=changed) if one.vote_id in asked.vote_ids else one for one in self.items]
        return ReviewResponse(reviewed=len(asked.vote_ids), state=asked.state)

    async def _redact(self, asked: RedactRequest) -> RedactResponse:
        self.redactions.append(asked)
        return RedactResponse(conversation_id=asked.conversation_id, places=2)

    async def _voters(self) -> VoterList:
        return VoterList(voters=self.voters)

    async def _export(self, request: Request) -> Any:
        self.exports.append(dict(request.query_params))
        if not self.items:
            return refusal(404, "There is nothing to export as preference yet.")
        return PlainTextResponse(EXPORTED)

    async def _versions(self) -> RegistryState:
        return self.registry

    async def _promote(self, asked: PromoteRequest) -> Any:
        if self.promotion_refused:
            return refusal(409, self.promotion_refused)
        return self._serve(asked.refs[0])

    async def _rollback(self, asked: RollbackRequest) -> Any:
        return self._serve(f"{asked.stage}@1")

    def _serve(self, ref: str) -> RegistryState:
        stage = ref.partition("@")[0]
        versions = [
            one.model_copy(update={"current": one.ref == ref}) if one.stage == stage else one
            for one in self.registry.versions
        ]
        self.registry = RegistryState(versions=versions, current={**self.registry.current, stage: ref})
        return self.registry

    async def _rounds(self) -> RoundList:
        newest = sorted(self.rounds.values(), key=lambda each: -each.number)
        return RoundList(rounds=[RoundSummary(**each.model_dump()) for each in newest], can_start=self.can_start)

    async def _start(self, asked: StartRound) -> RoundSummary:
        number = max(self.rounds) + 1
        self.rounds[number] = running(number, 0.1).model_copy(update={"method": asked.method})
        return RoundSummary(**self.rounds[number].model_dump())

    async def _round(self, number: int) -> Any:
        return self.rounds.get(number) or refusal(404, f"There is no round {number}.")

    async def _stop(self, number: int) -> RoundSummary:
        self.rounds[number] = self.rounds[number].model_copy(update={"state": "interrupted"})
        return RoundSummary(**self.rounds[number].model_dump())


def matches(one: FeedbackItem, chosen: FeedbackFilter) -> bool:
    """What the server's filter does, in small."""
    said = " ".join([one.comment or "", one.edited or "", one.name or "", *(each.content for each in one.messages)])
    return all(
        (
            chosen.state in (None, one.state),
            chosen.choice in (None, one.choice),
            chosen.voter in (None, one.voter),
            chosen.finding is None or chosen.finding in one.findings,
            chosen.text is None or chosen.text.lower() in said.lower(),
            chosen.blind in (None, one.blind),
            chosen.edited in (None, one.edited is not None),
        )
    )


def refusal(status: int, message: str) -> JSONResponse:
    """OpenAI's error shape."""
    return JSONResponse({"error": {"message": message, "type": "invalid_request_error"}}, status_code=status)
