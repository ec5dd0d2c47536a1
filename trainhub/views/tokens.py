"""A person's own tokens."""

from __future__ import annotations

from django.contrib.auth.decorators import login_required
from django.contrib.auth.models import User
from django.db.models import F
from django.http import HttpRequest, HttpResponseBase
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from trainhub.actions.tokens import MOST_DAYS
from trainhub.models import Token

SHOWN = 200
DAYS = (7, 30, 90, 365)
"""How long a token may be valid, as the form offers it."""


@login_required
@require_safe
@never_cache
def list_tokens(request: HttpRequest) -> HttpResponseBase:
    """Those that open something first, then what has expired or was revoked, the newest first."""
    assert isinstance(request.user, User)
    kept_first = F("revoked_at").desc(nulls_first=True)
    tokens = Token.objects.filter(user=request.user).order_by(kept_first, "-created_at", "-pk")[:SHOWN]
    shown = {
        "tokens": tokens,
        "now": timezone.now(),
        "days": DAYS,
        "most_days": MOST_DAYS,
        "address": request.build_absolute_uri("/").rstrip("/"),
    }
    return render(request, "tokens/list.html", shown)
