"""A server over a fake engine and a real store."""

from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from sawyer.recipe import Recipe
from sawyer.store import FeedbackStore
from serve.app import create_app
from serve.limits import Unlimited
from serve.scorer import BackgroundScorer
from tests.serve.fakes import FakeEngine, LengthScorer
from tests.serve.live import serving


@pytest.fixture
def recipe() -> Recipe:
    return Recipe.model_validate(
        {"name": "test", "model": {"backbone": "nowhere", "context": 64}, "serve": {"max_tokens": 7}}
    )


@pytest.fixture
def store(tmp_path: Path):
    with FeedbackStore.open(f"sqlite:///{tmp_path / 'sawyer.db'}") as opened:
        yield opened


@pytest.fixture
def engine() -> FakeEngine:
    return FakeEngine()


@pytest.fixture
def app(engine, store, recipe):
    scorer = BackgroundScorer(LengthScorer)
    return create_app(engine, store, recipe=recipe, scorer=scorer, rate_limit=Unlimited(), max_body=20_000)


@pytest.fixture
def client(app):
    with TestClient(app, raise_server_exceptions=False) as opened:
        yield opened


@pytest.fixture
def address(app):
    with serving(app) as url:
        yield url
