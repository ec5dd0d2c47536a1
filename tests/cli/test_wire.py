"""Services that are away, busy, or something else; and an answer that comes late."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from trainhub.client import ApiError, Client, Misunderstood, NotReachable
from trainhub.client.wire import Clock

ME = {"username": "alice", "projects": []}


@dataclass
class Answer:
    status: int = 200
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)


class Gateway(http.server.ThreadingHTTPServer):
    """What stands before a service, and answers for it: each request with the next answer."""

    def __init__(self, *answers: Answer) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers = list(answers)
        self.asked: list[str] = []
        self.address = f"http://127.0.0.1:{self.server_port}"


class Handler(http.server.BaseHTTPRequestHandler):
    server: Gateway

    def answer(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.asked.append(f"{self.command} {self.path}")
        answer = self.server.answers.pop(0)
        body = answer.body if isinstance(answer.body, bytes) else json.dumps(answer.body).encode()
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = answer  # noqa: N815, names that http.server calls

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def gateway() -> Iterator[Callable[..., Gateway]]:
    running: list[Gateway] = []

    def start(*answers: Answer) -> Gateway:
        running.append(Gateway(*answers))
        threading.Thread(target=running[-1].serve_forever, args=[0.02], daemon=True).start()
        return running[-1]

    yield start
    for each in running:
        each.shutdown()
        each.server_close()


class Pauses:
    """A clock that only pauses move."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    @property
    def clock(self) -> Clock:
        return Clock(now=lambda: sum(self.seconds), sleep=self.seconds.append)


Start = Callable[..., Gateway]


def client_of(gateway: Gateway, pauses: Pauses, **options: Any) -> Client:
    return Client(gateway.address, "th_x", clock=pauses.clock, **options)


def test_a_busy_service_is_asked_again_with_longer_pauses(gateway: Start) -> None:
    server, pauses = gateway(Answer(502), Answer(503), Answer(504), Answer(body=ME)), Pauses()
    with client_of(server, pauses) as client:
        assert client.me().username == "alice"
    assert pauses.seconds == [0.2, 0.4, 0.8]


def test_it_waits_as_long_as_it_is_asked_to(gateway: Start) -> None:
    server, pauses = gateway(Answer(429, headers={"Retry-After": "7"}), Answer(body=ME)), Pauses()
    with client_of(server, pauses) as client:
        client.me()
    assert pauses.seconds == [7]


def test_patience_ends(gateway: Start) -> None:
    server, pauses = gateway(*[Answer(503)] * 9), Pauses()
    with client_of(server, pauses, patience=2) as client:
        with pytest.raises(NotReachable, match="does not answer: 503 Service Unavailable"):
            client.me()
    assert sum(pauses.seconds) <= 2
    assert len(server.asked) == len(pauses.seconds) + 1 > 2


def test_what_may_not_happen_twice_is_asked_once(gateway: Start) -> None:
    server = gateway(Answer(503), Answer(503))
    with client_of(server, Pauses()) as client:
        with pytest.raises(NotReachable):
            client.pause(1)
    assert server.asked == ["POST /api/v1/runs/1/actions/pause"]


def test_a_failure_is_told_at_once_but_sat_out_by_whoever_follows(gateway: Start) -> None:
    run = {"id": 1, "name": "x", "state": "failed"}
    server = gateway(Answer(500, {"detail": "It failed."}), Answer(500), Answer(body=run))
    with client_of(server, Pauses()) as client:
        with pytest.raises(ApiError, match="It failed"):
            client.run(1)
        assert [each.run.state for each in client.follow(1)] == ["failed"]


def test_fields_are_named_one_a_line(gateway: Start) -> None:
    errors = [{"field": "workers.min", "message": "too few"}, {"field": "", "message": "all wrong"}]
    server = gateway(Answer(422, {"code": "bad-spec", "detail": "two things", "errors": errors}))
    with client_of(server, Pauses()) as client:
        with pytest.raises(ApiError) as refused:
            client.submit({})
    assert str(refused.value) == "workers.min: too few\nall wrong"
    assert (refused.value.status, refused.value.code, refused.value.detail) == (422, "bad-spec", "two things")


def test_a_page_is_no_answer(gateway: Start) -> None:
    server = gateway(Answer(body=b"<h1>Welcome</h1>"), Answer(404, b"<h1>Not here</h1>"))
    with client_of(server, Pauses()) as client:
        with pytest.raises(NotReachable, match="not as TrainHub does"):
            client.me()
        with pytest.raises(ApiError, match="answers 404"):
            client.me()


def test_a_token_follows_no_redirect(gateway: Start) -> None:
    server = gateway(Answer(301, headers={"Location": "https://elsewhere.example/"}))
    with client_of(server, Pauses()) as client:
        with pytest.raises(NotReachable, match="leads on to https://elsewhere"):
            client.me()
    assert len(server.asked) == 1


def test_an_answer_of_another_version_is_told_of(gateway: Start) -> None:
    server = gateway(Answer(body={"username": 7}), Answer(body=[]))
    with client_of(server, Pauses()) as client:
        with pytest.raises(Misunderstood, match=r"can't be read as Me \(username"):
            client.me()
        with pytest.raises(Misunderstood, match="answers runs without items"):
            list(client.runs())


def test_what_a_newer_service_adds_is_kept(gateway: Start) -> None:
    server = gateway(Answer(body=ME | {"hat": "blue"}))
    with client_of(server, Pauses()) as client:
        assert client.me().as_data() == ME | {"hat": "blue"}
