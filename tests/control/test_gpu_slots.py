"""GPUs as slots: registered with what they are, and handed to the children of runs that compute on them."""

from __future__ import annotations

import threading
import uuid
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User

from tests.control.conftest import OUR_HOME, spec
from trainhub import machines, places
from trainhub.actions import members, nodes, placement, runs
from trainhub.models import Member, Node, Project, Run, Slot
from trainhub.scheduler import Scheduler
from workers import children, gpus
from workers.assignment import Assignment, Role
from workers.bridge import Place, Supervisor
from workers.gpus import Gpu
from workers.transport import credentials

pytestmark = pytest.mark.django_db

GPUS = [Gpu(index, f"GPU-{index}", "NVIDIA H100", 80 << 30, "580.65", "9.0") for index in range(2)]


def register(found: list[Gpu], *, name: str = "one", each: int = 1, cpus: int = 2) -> Node:
    machine = nodes.Machine(
        home=OUR_HOME,
        name=name, cores=4, memory_bytes=2**30, slots={"cpu": cpus}, gpus=gpus.slots(found, each),
        environment={"gpus": [vars(gpu) for gpu in found]},
    )  # fmt: skip
    return nodes.register(machine, uuid.uuid4())


def offered() -> list[str]:
    return [f"{s.kind}:{s.index}" for s in placement.offered().order_by("kind", "index")]


def test_each_gpu_is_a_slot_that_says_what_it_is() -> None:
    register(GPUS)
    assert offered() == ["cpu:0", "cpu:1", "cuda:0", "cuda:1"]
    assert Slot.objects.get(kind="cuda", index=1).device == vars(GPUS[1])
    assert Slot.objects.get(kind="cpu", index=1).device == {}


def test_a_gpu_that_is_offered_no_more_takes_its_slots_along() -> None:
    register(GPUS, each=2)
    assert offered()[2:] == ["cuda:0", "cuda:1", "cuda:2", "cuda:3"]
    register(GPUS[1:], each=2)
    assert offered()[2:] == ["cuda:2", "cuda:3"]
    register([])
    assert offered() == ["cpu:0", "cpu:1"]


def test_the_nodes_page_tells_of_each_gpu(alice: User) -> None:
    register(GPUS[:1])
    [machine] = machines.overview(Run.objects.none()).machines
    assert dict(machine.facts)["GPU 0"] == "NVIDIA H100, 80.0 GiB, compute capability 9.0, driver 580.65"


@pytest.mark.parametrize(("given", "found"), [("", None), ("none", ()), ("2,0", (0, 2)), (" 1 , 1", (1,))])
def test_gpus_may_be_chosen_by_their_numbers(given: str, found: tuple[int, ...] | None) -> None:
    assert places.gpus({"TRAINHUB_GPUS": given}) == found


@pytest.mark.parametrize("given", ["all", "0,x", "-1", "none,1"])
def test_a_wrong_choice_of_gpus_is_named(given: str) -> None:
    with pytest.raises(ValueError, match="TRAINHUB_GPUS must be none, or numbers such as 0,2, got"):
        places.gpus({"TRAINHUB_GPUS": given})


@pytest.mark.parametrize("given", ["0", "two"])
def test_a_wrong_number_of_trainers_a_gpu_is_named(given: str) -> None:
    with pytest.raises(
        ValueError, match=f"TRAINHUB_TRAINERS_PER_GPU must be a whole number of at least 1, got '{given}"
    ):
        places.trainers_per_gpu({"TRAINHUB_TRAINERS_PER_GPU": given})


def test_a_run_on_gpus_waits_where_there_are_none_and_is_told_why(project: Project, alice: User) -> None:
    register([], cpus=4)
    run = runs.submit(project=project, owner=alice, spec=spec(device="cuda"))
    scheduler = Scheduler(threading.Event())
    scheduler.tick()
    assert Run.objects.get(pk=run.pk).waiting_reason == "needs cuda slots, and no node it may run on has one"
    register(GPUS, cpus=4)
    scheduler.tick()
    kinds = Member.objects.filter(attempt__run=run).order_by("rank").values_list("slot__kind", flat=True)
    assert list(kinds) == ["cpu", "cuda", "cuda"]


# ------------------------------------------------------------ what children are told


class Told:
    """A run's members on these slots, rank by rank, and the assignments that their supervisors would write."""

    def __init__(self, project: Project, owner: User, folder: Path, slots: list[str], **changes: Any) -> None:
        run = runs.submit(project=project, owner=owner, spec=spec(**changes))
        free = {f"{f.node}/{f.kind}:{f.index}": f for f in placement.idle_slots()}
        gang = placement.admit(run.pk, [free[name] for name in slots])
        self._folder = folder
        server = members.take(gang[0].pk, gang[0].slot.node.name)  # type: ignore[union-attr]
        assert server is not None
        assert members.claim(server, certify=lambda run, epoch: credentials.make(run=run, epoch=epoch)) == 1
        members.listening(members.get(server.pk), "/run/s.sock", "10.7.0.1:4000")
        self.server = members.get(server.pk)
        self.trainers = []
        for one in gang[1:]:
            taken = members.take(one.pk, one.slot.node.name)  # type: ignore[union-attr]
            assert taken is not None
            joined = members.become_trainer(taken)
            assert joined is not None
            self.trainers.append(joined)

    def supervisor(self, member: Member) -> Supervisor:
        return Supervisor(member, Place("one", self._folder, self._folder, "th-", 1, {}), threading.Event())

    def assignment(self, member: Member) -> Assignment:
        return self.supervisor(member)._assignment(self._folder, self._folder / "w")

    def of(self, member: Member) -> tuple[str, str]:
        told = self.assignment(member)
        return told.device, told.gpu

    def of_evaluator(self) -> tuple[str, str]:
        supervisor = self.supervisor(self.server)
        supervisor.child = children.Child(self._folder / "1" / "2", None)
        told = supervisor._evaluator_assignment()
        assert told.role is Role.EVALUATOR
        return told.device, told.gpu


@pytest.fixture
def told(project: Project, alice: User, tmp_path: Path) -> Any:
    return lambda *slots, **changes: Told(project, alice, tmp_path, list(slots), **changes)


CPU, FIRST, SECOND = ("cpu", ""), ("cuda:0", "GPU-0"), ("cuda:0", "GPU-1")


def test_trainers_get_their_slots_gpus_and_the_server_stays_on_a_cpu(told: Any) -> None:
    register(GPUS)
    run = told("one/cpu:0", "one/cuda:0", "one/cuda:1", device="cuda")
    assert [run.of(m) for m in (run.server, *run.trainers)] == [CPU, FIRST, SECOND]


def test_where_all_trainers_share_a_gpu_the_server_is_on_it_too(told: Any) -> None:
    register(GPUS[1:], each=2)
    run = told("one/cpu:0", "one/cuda:2", "one/cuda:3", device="cuda")
    assert [run.of(m) for m in (run.server, *run.trainers)] == [SECOND, SECOND, SECOND]


PAIR = {"device": "cuda", "layout": {"kind": "hybrid", "shards": 2}, "workers": 1}


def test_a_machine_group_gets_the_gpus_of_all_its_slots_and_its_server_stays_on_a_cpu(told: Any) -> None:
    register(GPUS)
    run = told("one/cpu:0", "one/cuda:0", "one/cuda:1", **PAIR)
    assert [run.of(m) for m in (run.server, *run.trainers)] == [CPU, FIRST]
    assert run.assignment(run.trainers[0]).gpus == ("GPU-0", "GPU-1")


def test_its_first_slot_is_its_first_device_and_two_may_be_on_one_gpu(told: Any) -> None:
    register(GPUS, each=2)
    run = told("one/cpu:0", "one/cuda:3", "one/cuda:2", **PAIR)
    assert run.of(run.trainers[0]) == SECOND
    assert run.assignment(run.trainers[0]).gpus == ("GPU-1", "GPU-1")


def test_gpus_are_taken_in_turns(project: Project, alice: User) -> None:
    register(GPUS, each=2, cpus=4)
    first = runs.submit(project=project, owner=alice, spec=spec(**PAIR))
    second = runs.submit(project=project, owner=alice, spec=spec(**PAIR))
    Scheduler(threading.Event()).tick()
    for run in (first, second):
        [group] = Member.objects.filter(attempt__run=run, devices=2)
        assert {slot.device["uuid"] for slot in members.slots_of(group)} == {"GPU-0", "GPU-1"}


def test_a_gpu_of_another_node_is_no_place_for_the_server(told: Any) -> None:
    register([], name="one")
    register(GPUS[:1], name="two", each=2)
    run = told("one/cpu:0", "two/cuda:0", "two/cuda:1", device="cuda")
    assert [run.of(m) for m in (run.server, *run.trainers)] == [CPU, FIRST, FIRST]


def test_a_run_on_cpus_stays_there_whatever_its_slots_come_with(told: Any) -> None:
    register(GPUS)
    run = told("one/cpu:0", "one/cpu:1", "one/cuda:0")
    assert [run.of(m) for m in (run.server, *run.trainers)] == [CPU, CPU, CPU]


def test_the_evaluator_is_on_a_cpu_unless_asked_otherwise(told: Any) -> None:
    register(GPUS, each=2, cpus=4)
    assert told("one/cpu:0", "one/cuda:0", "one/cuda:1", device="cuda").of_evaluator() == CPU
    asked = {"device": "cuda", "evaluation": {"device": "cuda"}}
    assert told("one/cpu:1", "one/cuda:2", "one/cuda:3", **asked).of_evaluator() == SECOND
    assert told("one/cpu:2", "one/cpu:3", evaluation={"device": "cuda"}, workers=1).of_evaluator() == CPU
