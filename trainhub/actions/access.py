"""People: first project, memberships, one-time sign-in links."""

from __future__ import annotations

import datetime as dt
import hashlib
import secrets

from django.contrib.auth.models import User
from django.db import transaction
from django.utils import timezone

from trainhub.models import Membership, Project, Role, SignInLink

LINK_LIFETIME = dt.timedelta(hours=12)


def digest(secret: str) -> str:
    """SHA-256 of a random secret. No salt is needed: it has 256 random bits."""
    return hashlib.sha256(secret.encode()).hexdigest()


def make_sign_in_link(user: User, *, lifetime: dt.timedelta = LINK_LIFETIME) -> str:
    """Make the secret part of a link that signs `user` in once, within its lifetime."""
    secret = secrets.token_urlsafe(32)
    SignInLink.objects.create(user=user, digest=digest(secret), expires_at=timezone.now() + lifetime)
    return secret


def redeem(token: str) -> User | None:
    """Use up a sign-in link. None: it is unknown, used, too old, or its user may not sign in."""
    now = timezone.now()
    with transaction.atomic():
        fresh = SignInLink.objects.filter(digest=digest(token), used_at=None, expires_at__gt=now, user__is_active=True)
        if not fresh.update(used_at=now):
            return None
        return SignInLink.objects.select_related("user").get(digest=digest(token)).user


@transaction.atomic
def first_admin(username: str = "admin") -> tuple[User, Project]:
    """The admin and the project that a new installation starts with; made where they are missing.

    The admin has no password: the way in is a one-time link.
    """
    user, made = User.objects.get_or_create(username=username, defaults={"is_staff": True, "is_superuser": True})
    if made:
        user.set_unusable_password()
        user.save(update_fields=["password"])
    project, _ = Project.objects.get_or_create(name="default")
    Membership.objects.get_or_create(project=project, user=user, defaults={"role": Role.ADMIN})
    return user, project
