"""The page from outside, through the real ``gradio_client``."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from fastapi import FastAPI
from gradio_client import Client
from gradio_client.exceptions import AppError

from tests.serve.fakes import FakeEngine, LengthScorer
from tests.serve.live import serving


@contextmanager
def client_of(page: str) -> Iterator[Client]:
    """A client whose heartbeat ends with the block: a server waits for open connections."""
    client = Client(page, verbose=False)
    try:
        yield client
    finally:
        client.close()


@pytest.fixture
def served(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, Any]]:
    """The page over the real API with a made-up engine; its address, and the store."""
    from sawyer.recipe import Recipe
    from sawyer.store import FeedbackStore
    from serve.app import create_app
    from serve.limits import Unlimited
    from serve.scorer import BackgroundScorer
    from ui.app import mount_ui

    recipe = Recipe.model_validate({"name": "fake", "model": {"backbone": "none"}})
    with FeedbackStore.open(f"sqlite:///{tmp_path / 'sawyer.db'}") as store:
        scorer = BackgroundScorer(lambda: LengthScorer())  # type: ignore[arg-type]
        api = create_app(FakeEngine(), store, recipe=recipe, scorer=scorer, rate_limit=Unlimited())
        with serving(api) as address, serving(mount_ui(FastAPI(), address)) as page:
            yield page, store


def test_a_question_and_a_vote_through_gradio_client(served: tuple[str, Any]) -> None:
    page, store = served
    with client_of(page) as client:
        endpoints = client.view_api(return_format="dict", print_info=False)["named_endpoints"]
        assert set(endpoints) == {"/compare", "/vote"}
        answer = client.predict("hi", api_name="/compare")
        assert answer["replies"] == {stage: f"Hello ({stage}) there." for stage in ("base", "sft", "rlf")}
        assert answer["versions"] == {"base": "base@0", "sft": "sft@2", "rlf": "rlf@3"} and not answer["errors"]
        assert answer["rewards"]["base"] == len(answer["replies"]["base"])
        vote = client.predict(answer["turn_id"], "rlf", api_name="/vote")
        assert vote["choice"] == "rlf" and store.stats()["votes"] == 1
        history = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": answer["replies"]["rlf"]}]
        again = client.predict("and then?", history=history, api_name="/compare")
        assert again["turn_id"] != answer["turn_id"]


def test_what_cannot_be_done_is_said(served: tuple[str, Any]) -> None:
    with client_of(served[0]) as client:
        for asked, told in ((("absent", "rlf"), "turn"), (("absent", "everything"), "choice")):
            with pytest.raises(AppError, match=told):
                client.predict(*asked, api_name="/vote")
        with pytest.raises(AppError, match="role"):
            client.predict("hi", history=[{"role": "wizard", "content": "x"}], api_name="/compare")
