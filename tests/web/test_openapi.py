"""The OpenAPI document is complete, and whatever it allows or forbids is answered as it says."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from django.core.signals import request_finished, request_started
from django.core.wsgi import get_wsgi_application
from django.db import close_old_connections
from hypothesis import HealthCheck, settings
from schemathesis import Case, CheckFunction
from schemathesis.config import SchemathesisConfig
from schemathesis.specs.openapi.checks import positive_data_acceptance

from tests import factories
from tests.web import rest
from tests.web.conftest import client_of
from tests.web.rest import bearer, session
from tests.web.test_rest_rights import World, world
from trainhub import api
from trainhub.models import Project

__all__ = ["world"]  # the fixture

pytestmark = pytest.mark.django_db

EXAMPLES = 10

OPERATIONS = [
    pytest.param(path, verb, told, id=told["operationId"])
    for path, verbs in api.document()["paths"].items()
    for verb, told in verbs.items()
]


@pytest.mark.parametrize(("path", "verb", "told"), OPERATIONS)
def test_every_operation_is_described(path: str, verb: str, told: dict[str, Any]) -> None:
    assert told["summary"]
    assert told["description"]
    assert told["tags"]
    assert {"BearerToken": []} in told["security"]
    succeeded = [response for status, response in told["responses"].items() if status.startswith("2")]
    assert succeeded
    assert verb == "delete" or all("content" in response for response in succeeded)


@pytest.mark.parametrize(("path", "verb", "told"), OPERATIONS)
def test_every_operation_tells_of_its_refusals(path: str, verb: str, told: dict[str, Any]) -> None:
    refusals = {status: each for status, each in told["responses"].items() if status >= "4"}
    assert {"401", "500"} <= set(refusals)
    assert ("{" in path) <= ("404" in refusals)
    assert all(list(each["content"]) == ["application/problem+json"] for each in refusals.values())


def test_the_document_is_for_those_who_are_signed_in(project: Project) -> None:
    assert session("carol").get("openapi.json").json() == api.document()
    assert bearer("carol", "read").get("openapi.json").status_code == 200
    assert session(None).get("openapi.json").status_code == 401


def test_the_reference_shows_every_operation_and_loads_nothing_from_elsewhere(project: Project) -> None:
    page = client_of("vera").get("/api/v1/docs")
    shown = page.content.decode()
    for parameter in OPERATIONS:
        assert f'id="{parameter.id}"' in shown
    assert "script-src 'self'" in page.headers["Content-Security-Policy"]
    assert "https://" not in shown
    assert client_of(None).get("/api/v1/docs").headers["Location"] == "/sign-in/?next=/api/v1/docs"


def test_every_code_of_a_problem_has_its_place_in_the_reference(project: Project) -> None:
    told = session("vera").get("nothing").json()
    path, _, anchor = told["type"].partition("#")
    assert f'id="{anchor}"' in client_of("vera").get(path).content.decode()


@pytest.fixture
def one_connection() -> Iterator[None]:
    """Requests leave the connection of the test's transaction open, as those of Django's own test client do."""
    for signal in (request_started, request_finished):
        signal.disconnect(close_old_connections)
    yield
    for signal in (request_started, request_finished):
        signal.connect(close_old_connections)


@pytest.fixture
def admin() -> str:
    """A token of somebody who may do everything."""
    factories.person("root", is_superuser=True, is_staff=True)
    return rest.secret_of("root")


schema = schemathesis.openapi.from_dict(api.document(), config=SchemathesisConfig(color=False))
schema.app = get_wsgi_application()


@schema.parametrize()
@settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.filter_too_much],
)
@pytest.mark.filterwarnings("ignore:StreamingHttpResponse must consume asynchronous iterators")
@pytest.mark.timeout(180)
def test_whatever_is_sent_is_answered_as_described(
    case: Case[Any], world: World, admin: str, one_connection: None
) -> None:
    at_what_there_is(case, world)
    # That a spec or a cursor is well-formed is more than a JSON schema can say.
    but: list[CheckFunction] = [positive_data_acceptance]
    case.call_and_validate(headers={"Authorization": f"Bearer {admin}"}, excluded_checks=but)


def at_what_there_is(case: Case[Any], world: World) -> None:
    """Point a request for any run at one that there is, and so on; otherwise all that comes back is 404."""
    there = {
        "run_id": world.run.pk,
        "artifact_id": world.checkpoint.pk,
        "experiment_id": world.run.experiment_id,
        "dataset_id": world.dataset.pk,
        "token_id": world.token.pk,
        "name": world.node.name,
    }
    for name, value in there.items():
        if isinstance((case.path_parameters or {}).get(name), type(value)):
            case.path_parameters[name] = value
