"""Requests made up from the API's own OpenAPI document, right ones and wrong ones: answered as it says, never a 5xx."""

import contextlib

import pytest
import schemathesis
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from sawyer.recipe import Recipe
from sawyer.store import FeedbackStore
from serve.access import Access
from serve.app import create_app
from serve.keys import Keyring
from serve.limits import Unlimited
from tests.serve.fakes import FakeEngine

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]


@pytest.fixture(scope="module")
def api(tmp_path_factory):
    """The schema of a running application over a fake engine and a real store, and the headers of its administrator."""
    recipe = Recipe.model_validate({"name": "test", "model": {"backbone": "nowhere", "context": 64}})
    with FeedbackStore.open(f"sqlite:///{tmp_path_factory.mktemp('schema') / 'sawyer.db'}") as store:
        keyring = Keyring()
        app = create_app(FakeEngine(), store, recipe=recipe, rate_limit=Unlimited(), access=Access(keyring))
        with TestClient(app):  # starts and ends its parts
            found = schemathesis.openapi.from_asgi("/openapi.json", app)
            yield found, {"Authorization": f"Bearer {keyring.issue('admin', 'test')}"}


def ask(api, examples, **options):
    """Make up ``examples`` requests of each kind for each operation and check every answer; return how many."""
    asked, (schema, headers) = 0, api
    for operation in (found.ok() for found in schema.get_all_operations()):
        for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):

            @given(case=operation.as_strategy(generation_mode=mode))
            @settings(max_examples=examples, deadline=5000, suppress_health_check=list(HealthCheck), **options)
            def check(case):
                nonlocal asked
                asked += 1
                case.call_and_validate(checks=CHECKS, headers=headers)

            with contextlib.suppress(Unsatisfiable):  # nothing can be wrong about a route without parameters
                check()
    return asked


def test_made_up_requests_are_answered_as_the_document_says(api):
    assert ask(api, 15, derandomize=True) > 200


@pytest.mark.slow
def test_many_made_up_requests(api):
    assert ask(api, 400) > 3000
