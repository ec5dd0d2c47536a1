"""Runs that span two hosts, over a wire that is slow, cut and full of strangers."""

from __future__ import annotations

import socket
import ssl
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings

from tests.hosts.conftest import FIRST, POSTGRES, REDIS, SECOND, Hosts, replay, sleep_cut
from tests.runs.conftest import series
from tests.runs.test_faults import counted
from tests.waiting import eventually
from trainhub.actions import runs
from trainhub.models import Credentials, Event, Member, Node, Run, RunState
from workers.assignment import Role

pytestmark = pytest.mark.timeout(120)  # the first one waits for two agents to load torch

LEDGER: dict[str, Any] = {"kind": "ledger", "coordinates": 8, "compute_seconds": 0.02}
DIGITS: dict[str, Any] = {"kind": "digits", "model": {"kind": "mlp", "hidden": [32]}}
DOORS = {(FIRST, POSTGRES), (FIRST, REDIS)}
"""What the test itself opens, so that the second host's agent finds the service."""


def trainers(run: Run) -> dict[int, tuple[str, str]]:
    """Number of each trainer → its node, and its transport."""
    found = Member.objects.filter(attempt__run=run, role=Role.TRAINER).select_related("slot__node").order_by("pk")
    return {m.worker: (m.slot.node.name, m.transport) for m in found if m.slot and m.worker is not None}


def losses(run: Run) -> list[tuple[str, str]]:
    """What a test that fails has to tell."""
    lost = Event.objects.filter(run=run, level__in=["warning", "error"]).order_by("pk")
    return [(e.message, str(e.data.get("detail", ""))) for e in lost]


def test_a_run_spans_both_hosts_and_its_weights_replay_to_the_bit(hosts: Hosts) -> None:
    hosts.between.delay_seconds = 0.02
    run = hosts.submit(
        problem=DIGITS,
        optimizer={"kind": "sgd", "learning_rate": 0.1, "momentum": 0.9},
        workers=4,
        budget={"updates": 120},
    )
    done = hosts.wait(run, RunState.COMPLETED)
    assert (done.attempt, done.restarts) == (1, 0), losses(run)
    server = Member.objects.get(attempt__run=run, role=Role.SERVER)
    assert server.slot is not None
    assert server.slot.node.name == "first", "the other one does not share the home"
    assert trainers(run) == {
        0: ("first", "shared memory"),
        1: ("second", "tls"),
        2: ("second", "tls"),
        3: ("second", "tls"),
    }
    assert {m.peer.rpartition(":")[0] for m in Member.objects.filter(attempt__run=run, transport="tls")} == {SECOND}
    versions, _ = series(run, "staleness")
    assert versions.tolist() == list(range(1, 121))
    assert hosts.between.fired["delay"] > 100, "the fault did not fire"
    run_dir = Path(settings.HOME) / "runs" / str(run.pk)
    assert "bit for bit" in replay(run_dir, 1, server.pk)


def test_a_wire_cut_for_ten_seconds_tears_nothing(hosts: Hosts) -> None:
    run = hosts.submit(problem=LEDGER, workers={"min": 1, "max": 3}, budget={"updates": 1200}, restarts=20)
    eventually(lambda: _joined_over_tls(run) == 2)
    hosts.wait_for_version(run, 100)
    sleep_cut(hosts.between, 10.0)
    assert hosts.between.fired["cut"] > 5, "the fault did not fire"
    assert Event.objects.filter(run=run, kind="left").count() == 2, "the server noticed"
    eventually(lambda: _joined_over_tls(run) == 4)
    done = hosts.wait(run, RunState.COMPLETED)
    assert (done.attempt, done.restarts) == (1, 0), ("they came back by themselves", losses(run))
    versions, _ = series(run, "staleness")
    assert versions.tolist() == list(range(1, 1201))
    assert sum(counted(run)) == 1200


def _joined_over_tls(run: Run) -> int:
    return Event.objects.filter(run=run, kind="joined", data__transport="tls").count()


def test_connections_that_are_reset_cost_little(hosts: Hosts) -> None:
    run = hosts.submit(problem=LEDGER, workers=3, budget={"updates": 400}, restarts=20)
    hosts.wait_for_version(run, 50)
    hosts.between.reset()
    assert hosts.between.fired["reset"] > 0, "the fault did not fire"
    done = hosts.wait(run, RunState.COMPLETED)
    assert done.attempt == 1
    assert sum(counted(run)) == 400


def test_a_stranger_is_refused_and_the_timeline_says_so(hosts: Hosts) -> None:
    run = hosts.submit(problem=LEDGER, workers=3, budget={"updates": 2000})
    hosts.wait_for_version(run, 20)
    host, port = Run.objects.get(pk=run.pk).address.rsplit(":", 1)

    def call() -> str:
        """As somebody on the network who has no certificate."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        with socket.create_connection((host, int(port)), 5) as line, context.wrap_socket(line) as wrapped:
            wrapped.settimeout(5)
            wrapped.send(b"let me in")
            return str(wrapped.recv(100))

    with pytest.raises(ssl.SSLError):
        hosts.second.within(call)
    refused = Event.objects.filter(run=run, kind="refused", level="warning", data__peer__startswith=SECOND)
    eventually(refused.exists)
    assert "it shows no certificate" in refused.get().message
    assert len(trainers(run)) == 3, "nobody else felt it"
    _cancel(hosts, run)


def test_a_port_is_open_while_a_run_needs_it_and_its_credentials_go_with_it(hosts: Hosts) -> None:
    assert hosts.first.listening() == DOORS
    assert hosts.second.listening() == set()
    run = hosts.submit(problem=LEDGER, workers=3, budget={"updates": 2000})
    hosts.wait_for_version(run, 20)
    host, port = Run.objects.get(pk=run.pk).address.rsplit(":", 1)
    assert hosts.first.listening() == DOORS | {(host, int(port))}
    assert hosts.second.listening() == set()
    assert Credentials.objects.filter(run=run).exists()
    _cancel(hosts, run)
    assert hosts.first.listening() == DOORS
    assert not Credentials.objects.exists()
    assert Run.objects.get(pk=run.pk).address == ""


def test_labels_keep_a_run_to_their_nodes(hosts: Hosts) -> None:
    nowhere = hosts.submit(problem=LEDGER, workers=1, budget={"updates": 9}, placement={"labels": {"rack": "9"}})
    eventually(lambda: Run.objects.get(pk=nowhere.pk).waiting_reason)
    assert Run.objects.get(pk=nowhere.pk).waiting_reason == "no node has the labels rack=9"
    _cancel(hosts, nowhere)
    assert Node.objects.get(name="second").labels == {"rack": "7"}


def test_without_the_setting_no_port_is_opened_and_no_run_spans(hosts: Hosts) -> None:
    hosts.stop_agent("first")
    hosts.start_agent("first", TRAINHUB_INTERFACE="")
    whole = hosts.submit(problem=LEDGER, workers=1, budget={"updates": 2000})
    hosts.wait_for_version(whole, 20)
    assert hosts.first.listening() == DOORS
    assert Run.objects.get(pk=whole.pk).address == ""
    assert not Credentials.objects.exists()
    spanning = hosts.submit(problem=LEDGER, workers=3, budget={"updates": 50})
    eventually(lambda: Run.objects.get(pk=spanning.pk).waiting_reason)
    assert Run.objects.get(pk=spanning.pk).waiting_reason == (
        "needs 4 slots on one host, the largest has 2; nodes without TRAINHUB_INTERFACE can't be combined"
    )
    _cancel(hosts, spanning)
    _cancel(hosts, whole)


def _cancel(hosts: Hosts, run: Run) -> None:
    runs.ask_to_cancel(run, by=hosts.owner)
    hosts.wait(run, RunState.CANCELLED)
    eventually(lambda: not Member.objects.filter(attempt__run=run, ended_at=None).exists())
