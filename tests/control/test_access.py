"""Sign-in links work once, in time, for their own person."""

from __future__ import annotations

import datetime as dt

import pytest
from django.contrib.auth.models import User

from trainhub.actions.access import first_admin, make_sign_in_link, redeem
from trainhub.models import Membership, Project, Role, SignInLink


def test_a_link_signs_in_once(alice: User) -> None:
    link = make_sign_in_link(alice)
    assert redeem(link) == alice
    assert redeem(link) is None


def test_a_link_is_kept_only_as_a_digest(alice: User) -> None:
    link = make_sign_in_link(alice)
    assert link not in SignInLink.objects.get().digest


def test_an_old_link_does_not_work(alice: User) -> None:
    assert redeem(make_sign_in_link(alice, lifetime=dt.timedelta(seconds=-1))) is None


def test_a_link_of_somebody_shut_out_does_not_work(alice: User) -> None:
    link = make_sign_in_link(alice)
    User.objects.update(is_active=False)
    assert redeem(link) is None


@pytest.mark.django_db
def test_nonsense_does_not_work() -> None:
    assert redeem("") is None
    assert redeem("../../etc") is None


@pytest.mark.django_db
def test_the_first_admin_is_made_once_and_has_no_password() -> None:
    user, project = first_admin()
    assert first_admin() == (user, project)
    assert not user.has_usable_password()
    assert Membership.objects.get().role == Role.ADMIN
    assert Project.objects.count() == 1
