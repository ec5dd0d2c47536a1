"""What a browser may load on our pages."""

from collections.abc import Awaitable, Callable

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.http import HttpRequest, HttpResponseBase

DIRECTIVES = {
    "default-src": "'self'",
    "script-src": "'self'",
    "style-src": "'self' 'unsafe-inline'",  # Plotly and htmx write style elements of their own
    "img-src": "'self' data: blob:",  # Plotly's download button
    "connect-src": "'self'",
    "object-src": "'none'",
    "base-uri": "'none'",
    "form-action": "'self'",
    "frame-ancestors": "'none'",
}
ADMIN = "/admin/"
# unfold's pages are built with Alpine, which compiles the expressions in its attributes by `new Function`: eval, to a
# browser. Scripts still come from our own files alone, and nothing written inside a page runs.
ADMIN_DIRECTIVES = DIRECTIVES | {"script-src": "'self' 'unsafe-eval'"}


def policy(directives: dict[str, str]) -> str:
    return "; ".join(f"{name} {sources}" for name, sources in directives.items())


POLICY = policy(DIRECTIVES)
ADMIN_POLICY = policy(ADMIN_DIRECTIVES)

Response = HttpResponseBase | Awaitable[HttpResponseBase]


class ContentSecurityPolicy:
    """Middleware that adds the policy, without a thread hop on either kind of view."""

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: Callable[[HttpRequest], Response]) -> None:
        self.get_response = get_response
        if iscoroutinefunction(get_response):
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> Response:
        response = self.get_response(request)
        chosen = ADMIN_POLICY if request.path.startswith(ADMIN) else POLICY
        return with_policy(response, chosen) if isinstance(response, HttpResponseBase) else self.later(response, chosen)

    async def later(self, response: Awaitable[HttpResponseBase], chosen: str) -> HttpResponseBase:
        return with_policy(await response, chosen)


def with_policy(response: HttpResponseBase, chosen: str) -> HttpResponseBase:
    response.headers.setdefault("Content-Security-Policy", chosen)
    return response
