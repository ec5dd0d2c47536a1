"""Alice owns the run, Bob is a member of its project, Vera may look, Carol is a stranger."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import User
from django.test import Client

from tests import factories
from trainhub.models import Project, Role, Run


@pytest.fixture
def project(db: None) -> Project:
    return factories.project(alice=Role.ADMIN, bob=Role.MEMBER, vera=Role.VIEWER)


@pytest.fixture
def alice(project: Project) -> User:
    return factories.person("alice")


@pytest.fixture
def queued(project: Project, alice: User) -> Run:
    return factories.run(owner=alice, within=project)


def client_of(name: str | None) -> Client:
    """A browser in which that person is signed in. None: nobody is."""
    client = Client()
    if name:
        client.force_login(factories.person(name))
    return client
