"""Who asks: whoever a bearer token speaks for, else whoever is signed in by the session cookie."""

from __future__ import annotations

from django.conf import settings
from django.contrib.auth.models import User
from django.http import HttpRequest
from ninja.security.base import AuthBase
from ninja.utils import check_csrf

from trainhub.actions import tokens
from trainhub.api.problems import Refusal
from trainhub.models import Token

SAFE = {"GET", "HEAD", "OPTIONS"}


class BearerToken(AuthBase):
    """`Authorization: Bearer th_…`. Where the header is there it decides, whatever cookies say.

    `reads`: the operation changes nothing though its verb could, so a token that may only read will do.
    """

    openapi_type = "http"
    openapi_scheme = "bearer"
    openapi_bearerFormat = "th_…"  # noqa: N815, OpenAPI's own word
    openapi_description = "Made on the page Tokens or by POST /tokens. With the scope `read` alone it changes nothing."

    def __init__(self, *, reads: bool = False) -> None:
        super().__init__()
        self.reads = reads

    def __call__(self, request: HttpRequest) -> Token | None:
        header = request.headers.get("Authorization")
        if header is None:
            return None
        scheme, _, secret = header.partition(" ")
        token = tokens.find(secret.strip()) if scheme.lower() == "bearer" and secret.isascii() else None
        if token is None:
            raise unknown_token()
        if request.method not in SAFE and not self.reads and "write" not in token.scopes:
            raise Refusal(403, "token-may-only-read", f"The token {token.name} may only read; make one that may write.")
        request.user = token.user
        return token


class SessionCookie(AuthBase):
    """Whoever is signed in to the pages. Requests that may change something carry the CSRF token too."""

    openapi_type = "apiKey"
    openapi_in = "cookie"
    openapi_name = settings.SESSION_COOKIE_NAME
    openapi_description = "The pages' own session. Unsafe verbs need the header X-CSRFToken as well."

    def __call__(self, request: HttpRequest) -> User | None:
        if not isinstance(request.user, User) or not request.user.is_active:
            return None
        if check_csrf(request):
            raise Refusal(403, "csrf-failed", "Send the page's token in the header X-CSRFToken, or use a bearer token.")
        return request.user


def unknown_token() -> Refusal:
    headers = {"WWW-Authenticate": 'Bearer realm="TrainHub", error="invalid_token"'}
    detail = "This token opens nothing: it is malformed, unknown, expired or revoked. Make a new one."
    return Refusal(401, "not-signed-in", detail, headers=headers)


ANYONE = (BearerToken(), SessionCookie())
"""Who may call an operation: each decides further by whom it finds."""
READING_ANYONE = (BearerToken(reads=True), SessionCookie())


def token_of(request: HttpRequest) -> Token | None:
    """The token that the request came with. None: a session's cookie."""
    found = getattr(request, "auth", None)
    return found if isinstance(found, Token) else None


def asker(request: HttpRequest) -> User:
    """Who asks; endpoints are reached by nobody else."""
    assert isinstance(request.user, User)
    return request.user
