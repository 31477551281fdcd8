"""The LLM judge against a fake OpenAI-compatible server: orders, nonsense, cost, resuming, faults, win rates."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.special import expit

from sawyer.errors import ModelError, UsageError
from sawyer.evaluation.figures import Answers, pair_figures
from sawyer.evaluation.judging.ask import JudgePlan, judge_pairs
from sawyer.evaluation.judging.client import ChatJudge
from sawyer.evaluation.judging.verdict import Verdict, consistent, fill, read_template, score, understand
from sawyer.evaluation.win_rates import by_scores, by_votes, win_rate
from sawyer.generation import Generation
from sawyer.types import Board, PairResult

COUNT = 12


@dataclass
class Fake:
    """A chat completion server that answers by ``answer(question, number of the request)`` and records it all."""

    answer: Callable[[str, int], Any]
    asked: list[dict[str, Any]] = field(default_factory=list)
    tokens: list[str | None] = field(default_factory=list)
    url: str = ""


@contextmanager
def serving(answer: Callable[[str, int], Any]) -> Iterator[Fake]:
    fake = Fake(answer)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            fake.asked.append(body)
            fake.tokens.append(self.headers.get("Authorization"))
            told = fake.answer(body["messages"][0]["content"], len(fake.asked))
            status, reply = told if isinstance(told, tuple) else (200, told)
            if isinstance(reply, str):
                usage = {"prompt_tokens": 100, "completion_tokens": 3}
                reply = {"choices": [{"message": {"role": "assistant", "content": reply}}], "usage": usage}
            data = json.dumps(reply).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    fake.url = f"http://127.0.0.1:{server.server_port}/v1"
    try:
        yield fake
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def replies(stage: str, texts: list[str]) -> Answers:
    made = [Generation(list(range(len(text.split()))), text, True, []) for text in texts]
    return Answers(stage, f"{stage}@1", made, np.array([len(text) for text in texts], np.float32))


PROMPTS = [[{"role": "user", "content": f"Question {n}?"}] for n in range(COUNT)]
BEFORE = replies("sft", [f"dull {n}" for n in range(COUNT)])
AFTER = replies("rlf", [f"good reply {n}" if n else "dull 0" for n in range(COUNT)])
PAIRS = [pair_figures(BEFORE, AFTER, None)]


def run(fake: Fake, tmp_path: Path, **changes: Any) -> Any:
    plan = JudgePlan(ChatJudge(fake.url, "fake", sleep=lambda seconds: None), read_template(None), **changes)
    return judge_pairs(plan, PROMPTS, [BEFORE, AFTER], PAIRS, tmp_path / "kept.jsonl", 0)


def prefers_good(question: str, _: int) -> str:
    first = question.split("[Reply A]")[1].split("[Reply B]")[0]
    return "I weighed both.\n\n" + ("A" if "good" in first else "B")


def test_a_sound_judge_is_consistent_and_its_cost_is_told(tmp_path: Path) -> None:
    with serving(prefers_good) as fake:
        judge, (rate,) = run(fake, tmp_path)
        again = run(fake, tmp_path)
    assert (rate.wins, rate.ties, rate.losses, rate.left_out) == (COUNT - 1, 1, 0, 0), "equal texts tie unasked"
    assert judge.questions == len(fake.asked) == 2 * (COUNT - 1), "the second run asked nothing"
    assert again == (judge, [rate])
    assert judge.consistency.value == 1.0 and judge.first_place.value == 0.5 and judge.nonsense == 0
    assert (judge.prompt_tokens, judge.completion_tokens) == (100 * len(fake.asked), 3 * len(fake.asked))
    assert fake.asked[0]["temperature"] == 0 and "Question 1?" in "".join(
        q["messages"][0]["content"] for q in fake.asked
    )


def test_a_judge_of_places_is_exposed(tmp_path: Path) -> None:
    with serving(lambda question, number: "A") as fake:
        judge, (rate,) = run(fake, tmp_path, limit=6)
    assert (rate.wins, rate.ties, rate.losses, rate.n) == (0, 6, 0, 6)
    assert judge.consistency.value == 0.0 and judge.first_place.value == 1.0


def test_some_nonsense_is_counted_and_left_out(tmp_path: Path) -> None:
    def sometimes(question: str, number: int) -> str:
        return "As a language model, I like both." if "Question 3?" in question else prefers_good(question, number)

    with serving(sometimes) as fake:
        judge, (rate,) = run(fake, tmp_path)
    assert judge.nonsense == 2 and rate.left_out == 1 and rate.n == COUNT - 1


def test_a_judge_of_nonsense_ends_the_evaluation(tmp_path: Path) -> None:
    with serving(lambda question, number: "banana") as fake, pytest.raises(ModelError, match="nonsense: 22 of 22"):
        run(fake, tmp_path)


def test_what_was_judged_is_kept_when_the_service_fails(tmp_path: Path) -> None:
    def failing(question: str, number: int) -> Any:
        return (401, {"error": "no"}) if number > 8 else prefers_good(question, number)

    with serving(failing) as fake, pytest.raises(ModelError, match=r"401 .*SAWYER_JUDGE_TOKEN"):
        run(fake, tmp_path)
    kept = len((tmp_path / "kept.jsonl").read_text().splitlines())
    assert 0 < kept <= 8
    with (tmp_path / "kept.jsonl").open("a") as stream:
        stream.write('{"key": "torn')
    with serving(prefers_good) as fake:
        _, (rate,) = run(fake, tmp_path)
    assert rate.wins == COUNT - 1


def test_a_busy_service_is_asked_again_with_the_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAWYER_JUDGE_TOKEN", "secret")
    with serving(lambda question, number: (503, {}) if number == 1 else prefers_good(question, number)) as fake:
        _, (rate,) = run(fake, tmp_path, limit=3)
    assert rate.wins == 2 and set(fake.tokens) == {"Bearer secret"} and len(fake.asked) == 5
    assert "secret" not in (tmp_path / "kept.jsonl").read_text()


@pytest.mark.parametrize("body", [{"choices": []}, {"error": "x"}, []])
def test_another_answer_than_a_completion_is_told(tmp_path: Path, body: Any) -> None:
    with serving(lambda question, number: (200, body)) as fake, pytest.raises(ModelError, match="no chat completion"):
        run(fake, tmp_path, limit=3)


def test_verdicts() -> None:
    said = ["A", "b", " **TIE** ", "Because of x.\n\nFinal verdict: B.", "A\n\n", "[[A]]"]
    means = [Verdict.FIRST, Verdict.SECOND, Verdict.TIE, Verdict.SECOND, Verdict.FIRST, Verdict.FIRST]
    assert [understand(text) for text in said] == means
    nonsense = ["", "A is better than B", "C", "A or B", "Both are a tie, in a way"]
    assert {understand(text) for text in nonsense} == {Verdict.NONSENSE}
    assert score(Verdict.SECOND, Verdict.FIRST) == 1.0 and score(Verdict.FIRST, Verdict.SECOND) == 0.0
    assert score(Verdict.FIRST, Verdict.FIRST) == 0.5 and score(Verdict.TIE, Verdict.FIRST) == 0.5
    assert score(Verdict.NONSENSE, Verdict.FIRST) is None
    assert consistent(Verdict.TIE, Verdict.TIE) and not consistent(Verdict.FIRST, Verdict.FIRST)


def test_the_template_is_filled_once(tmp_path: Path) -> None:
    text = fill("{conversation}|{first}|{second}", [{"role": "user", "content": "{second}"}], "{first}", "x")
    assert text == "user: {second}|{first}|x", "a reply cannot smuggle the other one in"
    (tmp_path / "mine.txt").write_text("{first} or {second}?")
    with pytest.raises(UsageError, match=r"has no \{conversation\}"):
        read_template(tmp_path / "mine.txt")
    with pytest.raises(UsageError, match="cannot be read"):
        read_template(tmp_path / "absent.txt")


def test_length_is_taken_out_of_a_win_rate() -> None:
    """A judge of length alone: the plain rate is far above a half, the controlled one is not."""
    generator = np.random.default_rng(0)
    lengths = np.round(generator.normal(8, 10, 400))
    worth = (generator.random(400) < expit(0.3 * lengths)).astype(np.float64)
    found = win_rate("x", "sft", "rlf", worth, lengths, 0)
    assert found.rate is not None and found.rate.low > 0.6
    assert found.length_controlled is not None
    assert found.length_controlled.low < 0.5 < found.length_controlled.high
    assert win_rate("x", "sft", "rlf", worth, np.zeros(400), 0).length_controlled is None
    assert win_rate("x", "sft", "rlf", np.zeros(0), np.zeros(0), 0).rate is None


def test_rates_by_scores() -> None:
    scores = {"sft": np.zeros(COUNT), "rlf": np.array([0.0, *[1.0] * (COUNT - 3), -1.0, -1.0])}
    (rate,) = by_scores("reward model", [BEFORE, AFTER], PAIRS, scores, 0)
    assert (rate.wins, rate.ties, rate.losses) == (9, 1, 2) and rate.rate is not None
    assert rate.rate.value == pytest.approx(9.5 / 12)


def test_rates_by_votes_are_turned_the_right_way() -> None:
    interval = {"value": 0.25, "low": 0.1, "high": 0.4, "level": 0.9}
    result = {"first": "rlf@1", "second": "sft@1", "wins": 1, "ties": 0, "losses": 3, "n": 4, "win_rate": interval}
    (voted,) = by_votes(board(result), [BEFORE, AFTER], PAIRS)
    assert (voted.wins, voted.losses) == (1, 3) and voted.rate is not None and voted.rate.value == 0.25
    (voted,) = by_votes(board({**result, "first": "sft@1", "second": "rlf@1"}), [BEFORE, AFTER], PAIRS)
    assert (voted.wins, voted.losses) == (3, 1) and voted.rate is not None
    assert (voted.rate.value, voted.rate.low, voted.rate.high) == pytest.approx((0.75, 0.6, 0.9))
    assert by_votes(Board.model_construct(pairs=[]), [BEFORE, AFTER], PAIRS) == []


def board(result: dict[str, Any]) -> Board:
    return Board.model_construct(pairs=[PairResult.model_validate(result)])
