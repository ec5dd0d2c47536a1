"""Bearer tokens: made, found, revoked. A secret is told once; only its digest is kept."""

from __future__ import annotations

import datetime as dt
import secrets
from collections.abc import Sequence

from django.contrib.auth.models import User
from django.db import transaction
from django.db.models import Q, QuerySet
from django.utils import timezone

from trainhub.actions import audit
from trainhub.actions.access import digest
from trainhub.actions.errors import WrongToken
from trainhub.models import Token

PREFIX = "th_"
SCOPES = ("read", "write")
MOST_DAYS = 365
MOST_TOKENS = 50
USED_EVERY = dt.timedelta(minutes=1)
"""How often the time of a token's last use is written."""


@transaction.atomic
def make(
    user: User, *, name: str, scopes: Sequence[str] = SCOPES, days: int = 90, by: Token | None = None
) -> tuple[Token, str]:
    """Make a token; returns it and its secret, which nobody can read again. Raises WrongToken.

    `by` is the token that asks for it, where one does: what it makes ends when it does, at the latest.
    """
    name = name.strip()
    if not 1 <= len(name) <= 80:
        raise WrongToken("name", "must have 1 to 80 characters")
    if not 1 <= days <= MOST_DAYS:
        raise WrongToken("days", f"must be 1 to {MOST_DAYS}, got {days}")
    chosen = sorted(set(scopes))
    if not chosen or not set(chosen) <= set(SCOPES):
        raise WrongToken("scopes", f"must be some of {', '.join(SCOPES)}, got {', '.join(scopes) or 'none'}")
    if valid(user).count() >= MOST_TOKENS:
        raise WrongToken("name", f"you have {MOST_TOKENS} tokens already; revoke one first")
    expires_at = timezone.now() + dt.timedelta(days=days)
    if by is not None:
        expires_at = min(expires_at, by.expires_at)
    secret = PREFIX + secrets.token_urlsafe(32)
    token = Token.objects.create(
        user=user,
        name=name,
        digest=digest(secret),
        hint=secret[:8],
        scopes=chosen,
        expires_at=expires_at,
    )
    audit.record(user, "make", "token", f"Made the token {name} for {days} days", subject_id=token.pk)
    return token, secret


def find(secret: str) -> Token | None:
    """The valid token with this secret. None: it is unknown, expired or revoked, or its user may not come in."""
    if not secret.startswith(PREFIX):
        return None
    now = timezone.now()
    token = (
        Token.objects.select_related("user")
        .filter(digest=digest(secret), revoked_at=None, expires_at__gt=now, user__is_active=True)
        .first()
    )
    if token is not None:
        unwritten = Q(last_used_at=None) | Q(last_used_at__lt=now - USED_EVERY)
        Token.objects.filter(unwritten, pk=token.pk).update(last_used_at=now)
    return token


@transaction.atomic
def revoke(token: Token, *, by: User) -> None:
    """Let it open nothing any more. Once revoked stays revoked."""
    if Token.objects.filter(pk=token.pk, revoked_at=None).update(revoked_at=timezone.now()):
        audit.record(by, "revoke", "token", f"Revoked the token {token.name} of {token.user}", subject_id=token.pk)


def valid(user: User) -> QuerySet[Token]:
    """A user's tokens that open something."""
    return Token.objects.filter(user=user, revoked_at=None, expires_at__gt=timezone.now())
