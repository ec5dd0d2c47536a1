"""The methods' pages say what the catalog and the documentation say."""

from __future__ import annotations

import pytest
from django.test import Client
from django.urls import reverse

from tests.web.conftest import client_of
from trainhub import handbook
from workers import catalog
from workers.spec import RunSpec

pytestmark = pytest.mark.django_db

ENTRIES = [(entry, room.page_of(entry)) for room in catalog.ROOMS for entry in room.entries.values()]


@pytest.mark.parametrize(("entry", "slug"), ENTRIES)
def test_every_method_has_a_page_that_says_what_it_rests_on(entry: catalog.Entry, slug: str) -> None:
    page = handbook.page(slug)
    assert page is not None, f"docs/methods/{slug}.md is missing"
    assert entry.kind in page.html
    if entry.certainty == "reconstruction":
        assert "reconstruction" in page.html


def test_the_list_names_every_method_and_leads_to_its_page() -> None:
    text = client_of("carol").get(reverse("methods")).content.decode()
    for entry, slug in ENTRIES:
        assert entry.label in text
        assert reverse("method", args=[slug]) in text


@pytest.mark.parametrize("page", handbook.pages(), ids=lambda p: p.slug)
def test_a_page_is_shown(page: handbook.Page) -> None:
    response = client_of("carol").get(reverse("method", args=[page.slug]))
    assert response.status_code == 200
    assert page.title in response.content.decode().replace("&#x27;", "'")


@pytest.mark.parametrize("page", handbook.pages(), ids=lambda p: p.slug)
def test_a_page_has_a_spec_to_take_away(page: handbook.Page) -> None:
    client = client_of("carol")
    link = reverse("method-spec", args=[page.slug])
    assert link in client.get(reverse("method", args=[page.slug])).content.decode()
    response = client.get(link)
    assert response["Content-Disposition"] == f'attachment; filename="{page.slug}.yaml"'
    spec = RunSpec.parse_yaml(response.content.decode())
    assert spec.workers.max * spec.shards == 4


@pytest.mark.parametrize("slug", ["nothing", "README", "-"])
def test_an_unknown_page_is_not_found(slug: str) -> None:
    assert client_of("carol").get(f"/methods/{slug}/").status_code == 404


def test_strangers_sign_in_first() -> None:
    assert Client().get(reverse("methods")).status_code == 302
