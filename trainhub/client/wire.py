"""Requests and answers: the token, deadlines, what is tried again, and refusals as exceptions."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx

from trainhub.client.errors import ApiError, NotReachable, TokenRefused
from trainhub.client.login import Login
from trainhub.client.shapes import FieldProblem

FIRST_PAUSE_SECONDS = 0.2
LONGEST_PAUSE_SECONDS = 5.0
BUSY = {429, 502, 503, 504}
"""Statuses of a service that is not there for the moment."""

Params = Mapping[str, Any]


@dataclass(frozen=True)
class Clock:
    """Time, handed in so that tests need not wait for it."""

    now: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep


class Wire:
    """One service, one token.

    A request that may be repeated is repeated for `patience` seconds where the service is away; one whose very first
    connection is refused is not, since there nobody has ever been.
    """

    def __init__(
        self,
        login: Login,
        *,
        timeout: float,
        patience: float,
        on_wait: Callable[[str, float], None] | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.login = login
        self.patience = patience
        self.clock = clock or Clock()
        self._on_wait = on_wait
        self._met = False
        self._http = httpx.Client(
            base_url=f"{login.url}/api/v1/",
            headers={"Authorization": f"Bearer {login.token}", "Accept": "application/json"},
            timeout=httpx.Timeout(timeout, connect=min(timeout, 5.0)),
        )

    def close(self) -> None:
        self._http.close()

    def get(self, path: str, params: Params | None = None, *, patience: float | None = None) -> Any:
        """The answer's JSON. Raises what `send` raises."""
        return document(self.send("GET", path, params=params, repeats=True, patience=patience))

    def post(self, path: str, body: object = None, *, headers: Mapping[str, str] | None = None) -> Any:
        """As `get`. With an Idempotency-Key it may be repeated: what is lost is the answer, not what it tells of."""
        repeats = "Idempotency-Key" in (headers or {})
        return document(self.send("POST", path, headers=headers, repeats=repeats, json=body))

    def send(
        self, method: str, path: str, *, repeats: bool = False, patience: float | None = None, **request: Any
    ) -> httpx.Response:
        """An answer that is no refusal. `patience` is for this request alone, and for failures of any kind.

        Raises ApiError, TokenRefused, NotReachable.
        """
        deadline = self.clock.now() + (self.patience if patience is None else patience)
        pause = FIRST_PAUSE_SECONDS
        while True:
            why, wait = "", pause
            try:
                answer = self._http.request(method, path, **tidied(request))
                self._met = True
                # Whoever follows a run sits out a database that is started again, too.
                broken = patience is not None and answer.status_code >= 500
                if answer.status_code not in BUSY and not broken:
                    return accepted(answer, self.login.url)
                why, wait = f"{answer.status_code} {answer.reason_phrase}", max(pause, asked_to_wait(answer))
            except httpx.TransportError as error:
                why = in_words(error)
                if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout) and not self._met:
                    repeats = False
            if not repeats or self.clock.now() + wait > deadline:
                raise NotReachable(f"{self.login.url} does not answer: {why}") from None
            self._pause(why, wait)
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)

    def _pause(self, why: str, seconds: float) -> None:
        if self._on_wait:
            self._on_wait(why, seconds)
        self.clock.sleep(seconds)

    @contextmanager
    def stream(self, path: str) -> Iterator[httpx.Response]:
        """An answer whose body is read by the caller, bit by bit. Raises what `send` raises."""
        try:
            with self._http.stream("GET", path) as answer:
                if answer.status_code >= 300:
                    answer.read()
                yield accepted(answer, self.login.url)
        except httpx.TransportError as error:
            raise NotReachable(f"{self.login.url} does not answer: {in_words(error)}") from None


def tidied(request: dict[str, Any]) -> dict[str, Any]:
    """Parameters that are None or empty are not sent."""
    if params := request.get("params"):
        request = request | {"params": {k: v for k, v in params.items() if v not in (None, "", [])}}
    return request


def document(answer: httpx.Response) -> Any:
    """Its JSON. Raises NotReachable where something else than TrainHub answers."""
    if answer.status_code == 204:
        return None
    try:
        return answer.json()
    except ValueError:
        raise NotReachable(f"{answer.request.url} answers, but not as TrainHub does.") from None


def accepted(answer: httpx.Response, url: str) -> httpx.Response:
    """Raises ApiError for a refusal, and NotReachable for what is no TrainHub."""
    if answer.status_code < 300:
        return answer
    if answer.is_redirect:
        raise NotReachable(f"{url} leads on to {answer.headers.get('location')}; log in with that address.")
    told = problem_of(answer)
    if answer.status_code == 401:
        detail = f"{url} refuses this token: it is unknown, expired or revoked. Run `trainhub login` with a new one."
        raise TokenRefused(401, str(told.get("code", "not-signed-in")), detail)
    detail = str(told.get("detail") or told.get("title") or f"{url} answers {answer.status_code}.")
    errors = [FieldProblem.read(each) for each in told.get("errors") or []]
    raise ApiError(answer.status_code, str(told.get("code", "")), detail, errors)


def problem_of(answer: httpx.Response) -> dict[str, Any]:
    """Its problem+json (RFC 9457). Empty: it is something else, a proxy's page for one."""
    try:
        told = answer.json()
    except ValueError:
        return {}
    return told if isinstance(told, dict) else {}


def asked_to_wait(answer: httpx.Response) -> float:
    """Seconds of its Retry-After, where it has some."""
    try:
        return min(float(answer.headers.get("retry-after", 0)), 60.0)
    except ValueError:
        return 0.0


def in_words(error: httpx.TransportError) -> str:
    match error:
        case httpx.ConnectError():
            return f"no connection ({error})"
        case httpx.TimeoutException():
            return "no answer in time"
        case _:
            return str(error) or type(error).__name__
