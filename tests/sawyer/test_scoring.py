"""Scorers of text: classifiers by label and output, Python functions, HTTP services, penalties, and their sum."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sawyer.errors import ModelError, TrainingError, UsageError
from sawyer.recipe import RewardPartSpec
from sawyer.scoring import (
    ClassifierScorer,
    FunctionScorer,
    HttpScorer,
    LengthScorer,
    RepetitionScorer,
    RougeScorer,
    build_reward,
    build_scorer,
    display_scorer,
    encode_single,
    rouge_l,
    with_own,
)

PROMPTS = [[{"role": "user", "content": "What is tea?"}], [{"role": "user", "content": "Hi"}]]
REPLIES = ["Tea is a hot drink.", "Hello, how are you today?"]
Answer = Callable[[dict[str, Any]], tuple[int, Any, dict[str, str]]]


@contextmanager
def service(answer: Answer) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """A real HTTP server on a free port; yields its address and the requests it got (body and headers)."""
    seen: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            seen.append({"body": body, "headers": dict(self.headers)})
            status, value, headers = answer(body)
            data = value if isinstance(value, bytes) else json.dumps(value).encode()
            self.send_response(status)
            for key, text in {"Content-Length": str(len(data)), **headers}.items():
                self.send_header(key, text)
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/score", seen
    finally:
        server.shutdown()
        server.server_close()


def lengths(body: dict[str, Any]) -> tuple[int, Any, dict[str, str]]:
    return 200, {"scores": [len(text) for text in body["responses"]]}, {}


def test_a_classifier_gives_logit_log_probability_or_probability_of_the_label(tiny_classifier: Path) -> None:
    labels = ClassifierScorer(tiny_classifier).model.config.id2label
    by_hand = {
        label: ClassifierScorer(tiny_classifier, label=label).score(PROMPTS, REPLIES) for label in labels.values()
    }
    logits = torch.tensor(np.stack([by_hand[label] for label in labels.values()], 1))
    for index, label in labels.items():
        for output, wanted in (("logprob", logits.log_softmax(-1)), ("probability", logits.softmax(-1))):
            part = RewardPartSpec(classifier=str(tiny_classifier), label=label, output=output)
            np.testing.assert_allclose(build_scorer(part).score(PROMPTS, REPLIES), wanted[:, index], atol=1e-5)


def test_a_classifier_can_read_the_reply_alone(tiny_classifier: Path) -> None:
    scorer = ClassifierScorer(tiny_classifier, reads="response")
    alone = scorer.tokenizer(REPLIES[0])["input_ids"]
    assert encode_single(scorer.tokenizer, REPLIES[0], scorer.max_length) == alone
    assert len(encode_single(scorer.tokenizer, "tea " * 500, 20)) == 20
    with torch.no_grad():
        wanted = scorer.model(input_ids=torch.tensor([alone])).logits[0, scorer.index]
    found = scorer.score(PROMPTS, REPLIES)
    assert abs(found[0] - float(wanted)) < 1e-5
    np.testing.assert_allclose(scorer.score(PROMPTS[::-1], REPLIES), found, atol=1e-6)
    assert not np.allclose(ClassifierScorer(tiny_classifier).score(PROMPTS, REPLIES), found)


def test_a_classifier_in_half_precision_gives_float32_scores_close_to_the_full_ones(tiny_classifier: Path) -> None:
    half = build_scorer(RewardPartSpec(classifier=str(tiny_classifier), dtype="bfloat16")).score(PROMPTS, REPLIES)
    assert half.dtype == np.float32
    np.testing.assert_allclose(half, ClassifierScorer(tiny_classifier).score(PROMPTS, REPLIES), atol=0.4)


def test_an_unknown_label_lists_the_labels(tiny_classifier: Path) -> None:
    with pytest.raises(ModelError, match=r"no label 'neutral'; it has: .*Correct the key label"):
        build_scorer(RewardPartSpec(classifier=str(tiny_classifier), label="neutral"))


def test_functions_come_from_files_and_modules(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(
        "def words(prompts, responses):\n    return [len(r.split()) + len(p) for p, r in zip(prompts, responses)]\n"
    )
    np.testing.assert_array_equal(FunctionScorer(f"{file}:words").score(PROMPTS, REPLIES), [6, 6])
    np.testing.assert_array_equal(
        FunctionScorer("tests.sawyer.test_scoring:count_vowels").score(PROMPTS, ["tea", "xyz"]), [2, 0]
    )


def count_vowels(prompts: list[Any], responses: list[str]) -> torch.Tensor:
    return torch.tensor([sum(letter in "aeiou" for letter in text) for text in responses])


@pytest.mark.parametrize(
    ("body", "name", "kind", "message"),
    [
        (
            "def score(p, r):\n    return [1 / 0 for _ in r]\n",
            "score",
            TrainingError,
            r"raised ZeroDivisionError.*mine.py:2",
        ),
        ("def score(p, r):\n    return [1.0]\n", "score", TrainingError, r"shape \(1,\) to 2 responses"),
        ("def score(p, r):\n    return ['good', 'bad']\n", "score", TrainingError, "must give one number a response"),
        ("def other(p, r):\n    return r\n", "score", UsageError, "no function 'score'; it has: other"),
        ("import no_such_module\n", "score", UsageError, "cannot be imported: ModuleNotFoundError"),
    ],
)
def test_functions_that_go_wrong_are_named(
    tmp_path: Path, body: str, name: str, kind: type[Exception], message: str
) -> None:
    (tmp_path / "mine.py").write_text(body)
    with pytest.raises(kind, match=message):
        FunctionScorer(f"{tmp_path / 'mine.py'}:{name}").score(PROMPTS, REPLIES)


def test_a_missing_file_of_a_function_is_said() -> None:
    with pytest.raises(UsageError, match=r"there is no file nowhere\.py"):
        FunctionScorer("nowhere.py:score")


def test_a_service_is_asked_in_batches_with_its_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_TOKEN", "secret")
    with service(lengths) as (url, seen):
        part = RewardPartSpec(http=url, batch_size=2, token_env="MY_TOKEN")
        found = build_scorer(part).score([PROMPTS[0]] * 5, ["a", "bb", "ccc", "dddd", "eeeee"])
    np.testing.assert_array_equal(found, [1, 2, 3, 4, 5])
    assert [len(request["body"]["responses"]) for request in seen] == [2, 2, 1]
    assert seen[0]["body"]["prompts"] == [PROMPTS[0]] * 2
    assert all(request["headers"]["Authorization"] == "Bearer secret" for request in seen)


def test_a_busy_service_is_asked_again_and_a_lost_one_named() -> None:
    waits: list[float] = []
    left = [503, 429]

    def busy(body: dict[str, Any]) -> tuple[int, Any, dict[str, str]]:
        if not left:
            return lengths(body)
        return left.pop(0), {"error": "busy"}, {"Retry-After": "2"} if len(left) == 1 else {}

    with service(busy) as (url, seen):
        np.testing.assert_array_equal(HttpScorer(url, sleep=waits.append).score(PROMPTS, ["a", "bb"]), [1, 2])
        assert len(seen) == 3 and waits == [2.0, 1.0]
    with pytest.raises(TrainingError, match=r"no scores after 3 tries .*ConnectError.*--resume"):
        HttpScorer(url, retries=2, sleep=waits.append).score(PROMPTS, ["a", "bb"])


@pytest.mark.parametrize(
    ("status", "value", "message"),
    [
        (401, {"error": "who are you"}, "after 1 try .401 Unauthorized"),
        (200, b"<html>", "answered '<html>'"),
        (200, {"score": [1, 2]}, "must answer"),
        (200, {"scores": [1]}, r"shape \(1,\) to 2"),
        (200, {"scores": ["x", "y"]}, "one number a response"),
    ],
)
def test_a_service_that_answers_wrongly_is_named(status: int, value: Any, message: str) -> None:
    with service(lambda _: (status, value, {})) as (url, _), pytest.raises(TrainingError, match=message):
        HttpScorer(url, sleep=lambda _: None).score(PROMPTS, REPLIES)


def test_a_missing_token_is_said_before_anything_is_sent() -> None:
    with pytest.raises(UsageError, match="set the environment variable NO_SUCH_TOKEN"):
        build_scorer(RewardPartSpec(http="http://127.0.0.1:9/", token_env="NO_SUCH_TOKEN"))


def test_penalties_by_hand() -> None:
    replies = ["one two three four", "one " * 10, "one two one two one two", "one"]
    np.testing.assert_allclose(LengthScorer(target=4, slack=2).score([], replies), [0, -1, 0, -0.25])
    np.testing.assert_allclose(RepetitionScorer(2).score([], replies), [0, -8 / 9, -3 / 5, 0])
    np.testing.assert_allclose(
        RepetitionScorer(2, free=0.5).score([], replies), [0, -(8 / 9 - 0.5), -0.1, 0], atol=1e-6
    )


def test_a_sum_of_parts_normalises_classifiers_and_leaves_penalties_in_their_units(tiny_classifier: Path) -> None:
    parts = [
        RewardPartSpec(name="good", classifier=str(tiny_classifier), weight=2.0),
        RewardPartSpec(length={"target": 4, "slack": 2}, weight=-0.5),
    ]
    reward = build_reward(parts)
    assert reward.formula == "2 good - 0.5 length"
    prompts, replies = [PROMPTS[0]] * 3, ["one two three four", "hello " * 10, "tea"]
    reward.freeze(prompts, replies)
    state = reward.state()
    assert state["length"] == {"mean": 0.0, "deviation": 1.0} and state["good"]["deviation"] != 1.0
    scores = reward.score(prompts, replies)
    raw = ClassifierScorer(tiny_classifier).score(prompts, replies)
    wanted = 2.0 * (raw - raw.mean()) / raw.std() - 0.5 * np.array([0.0, -1.0, -0.25])
    np.testing.assert_allclose(scores.total, wanted, atol=1e-4)
    np.testing.assert_allclose(scores.raw["length"], [0, -1, -0.25])
    # What people read: the frozen sum where a run froze one, plain units otherwise, one part as it is.
    np.testing.assert_allclose(display_scorer(parts, statistics=state).score(prompts, replies), wanted, atol=1e-4)
    plain = 2.0 * raw - 0.5 * np.array([0.0, -1.0, -0.25])
    np.testing.assert_allclose(display_scorer(parts).score(prompts, replies), plain, atol=1e-4)
    np.testing.assert_allclose(display_scorer(parts[:1]).score(prompts, replies), raw, atol=1e-6)


def test_the_recipes_own_reward_model_must_have_been_trained() -> None:
    with pytest.raises(UsageError, match="none has been trained yet: run `sawyer train reward`"):
        build_scorer(RewardPartSpec(trained=True))


def test_rouge_l_by_hand() -> None:
    assert rouge_l("The cat sat on the mat.", "the cat sat on the mat") == 1.0
    assert rouge_l("police kill the gunman", "the gunman kill police") == pytest.approx(0.5)  # Lin 2004, section 3.1
    assert rouge_l("a b c d", "a x c") == pytest.approx(2 * 2 / 7)
    assert rouge_l("a b", "!?") == rouge_l("", "a") == 0.0


def test_rouge_compares_with_the_reference_of_the_prompt() -> None:
    prompts = [[{"role": "user", "content": "Summarize: …", "reference": "Tea is hot."}]]
    assert RougeScorer().score(prompts, ["Tea is hot"]).tolist() == [1.0]
    with pytest.raises(UsageError, match="field named summary"):
        RougeScorer().score(PROMPTS, REPLIES)


def test_an_own_classifier_is_found_in_its_folder(tiny_classifier: Path) -> None:
    part = RewardPartSpec(own=tiny_classifier.name, reads="response")
    with pytest.raises(UsageError, match="sawyer train classifiers"):
        build_scorer(part)
    found = with_own(part, tiny_classifier.parent)
    assert (found.title, found.kind) == (tiny_classifier.name, "classifier")
    wanted = ClassifierScorer(tiny_classifier, reads="response").score(PROMPTS, REPLIES)
    np.testing.assert_array_equal(build_scorer(found).score(PROMPTS, REPLIES), wanted)
    assert with_own(RewardPartSpec(trained=True), tiny_classifier.parent).trained
