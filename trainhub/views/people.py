"""Signing in and out."""

from __future__ import annotations

from django.contrib.auth import login
from django.contrib.auth.views import LoginView, LogoutView
from django.http import HttpRequest, HttpResponseBase
from django.shortcuts import redirect, render
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods

from trainhub.actions import access

sign_in = LoginView.as_view(template_name="sign_in.html", redirect_authenticated_user=True)
sign_out = LogoutView.as_view()


@never_cache
@require_http_methods(["GET"])  # no HEAD: a link preview must not use the link up
def sign_in_by_link(request: HttpRequest, token: str) -> HttpResponseBase:
    """Sign in whoever holds a fresh link, once."""
    user = access.redeem(token)
    if user is not None:
        login(request, user, backend="django.contrib.auth.backends.ModelBackend")
    elif not request.user.is_authenticated:
        return render(request, "sign_in_link_used.html", status=410)
    return redirect(safe_next(request))


def safe_next(request: HttpRequest) -> str:
    """Where to go on: a page of ours, whatever the address says."""
    wanted = request.GET.get("next", "")
    ours = url_has_allowed_host_and_scheme(wanted, {request.get_host()}, require_https=request.is_secure())
    return wanted if ours else "/"
