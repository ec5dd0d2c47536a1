"""What the service answers, typed. Fields that a newer service adds are kept, and told again by `model_dump`."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError

from trainhub.client.errors import Misunderstood

ENDED = frozenset({"completed", "failed", "cancelled"})

Number = Annotated[float, BeforeValidator(lambda value: float(value) if isinstance(value, str) else value)]
"""JSON has no NaN and no infinity: they come as their names."""


class Shape(BaseModel):
    model_config = ConfigDict(frozen=True, extra="allow", protected_namespaces=())

    @classmethod
    def read(cls, data: object) -> Self:
        """Out of an answer's JSON. Raises Misunderstood."""
        try:
            return cls.model_validate(data)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"])
            raise Misunderstood(
                f"The service's answer can't be read as {cls.__name__} ({where}: {first['msg']}). "
                "Are both of one version?"
            ) from None

    def as_data(self) -> dict[str, Any]:
        """What the service said, nothing added."""
        return self.model_dump(mode="json", exclude_unset=True)


class FieldProblem(Shape):
    """One thing wrong with what was sent; `field` is a dotted path, empty for the whole."""

    field: str = ""
    pointer: str = ""
    message: str


class ProjectRole(Shape):
    name: str
    role: str


class Me(Shape):
    """Who the token speaks for."""

    username: str
    is_admin: bool = False
    is_operator: bool = False
    projects: list[ProjectRole] = []
    may_run_code: bool = False


class Slots(Shape):
    """What a run would take, and what there is."""

    needed: int
    least: int
    idle: int
    total: int
    wait: str
    """What would happen now, in a sentence."""


class Check(Shape):
    """What a submission would be. `spec` has every default written out, `yaml` only what differs from them."""

    valid: bool
    spec: dict[str, Any] | None = None
    yaml: str | None = None
    errors: list[FieldProblem] = []
    runs: int = 0
    slots: Slots | None = None
    words: dict[str, str] | None = None


class Checkpoint(Shape):
    id: int
    version: int
    final: bool = False
    metrics: dict[str, Any] = {}
    size_bytes: int
    sha256: str
    url: str = ""
    created_at: datetime | None = None


class Member(Shape):
    """One place in a run's gang. `worker` is a trainer's number."""

    id: int
    title: str
    role: str = ""
    worker: int | None = None
    state: str = ""
    node: str = ""
    slot: str = ""
    transport: str = ""
    """How it is connected to its server. Empty: it has not joined, or is the server."""
    peer: str = ""
    """Network address that it joined from. Empty: it shares a machine with its server."""
    cause: str = ""


class ExperimentName(Shape):
    id: int
    name: str


class Run(Shape):
    """A run; one out of a list has no members and no checkpoints."""

    id: int
    name: str
    state: str
    """queued, starting, running, paused, completed, failed or cancelled."""
    experiment: ExperimentName | None = None
    project: str = ""
    owner: str = ""
    labels: dict[str, Any] = {}
    tags: list[str] = []
    problem: str = ""
    method: str = ""
    trainers: str = ""
    budget: str = ""
    simulated: bool = False
    virtual_seconds: float | None = None
    waiting_reason: str = ""
    wish: str = ""
    cause: str = ""
    detail: str = ""
    restarts: int = 0
    attempt: int = 0
    address: str = ""
    """HOST:PORT at which its server takes trainers of other nodes. Empty: it opened no port."""
    version: int = 0
    gradients: int = 0
    fraction: float | None = None
    """Share of the budget that is spent. None: no end is in sight."""
    seconds_left: float | None = None
    metrics: dict[str, Number | None] = {}
    """Of the newest evaluation."""
    sequence: int = 0
    created_at: datetime | None = None
    started_at: datetime | None = None
    training_at: datetime | None = None
    ended_at: datetime | None = None
    now: datetime | None = None
    """The service's clock when it answered."""
    members: list[Member] = []
    checkpoints: list[Checkpoint] = []

    @property
    def has_ended(self) -> bool:
        return self.state in ENDED


class Experiment(Shape):
    """Runs that were submitted together."""

    id: int
    name: str
    project: str = ""
    owner: str = ""
    runs: list[Run] = []


class Line(Shape):
    """One series. `worker` -1 is the run as a whole; `x` are versions; `exact`: no point was left out."""

    attempt: int
    worker: int
    key: str
    count: int
    exact: bool
    x: list[int]
    y: list[Number]


class Series(Shape):
    """`keys` are all that the run has, `sequence` says what to ask for `after`."""

    sequence: int = 0
    series: list[Line]
    keys: list[str] = []


class Event(Shape):
    id: int
    at: datetime
    attempt: int = 0
    kind: str
    level: str = "info"
    message: str
    member: str = ""
    detail: str = ""


class LogLine(Shape):
    id: int
    at: datetime
    attempt: int = 0
    member: str
    text: str


class Compared(Shape):
    """A run beside others."""

    id: int
    name: str
    state: str
    labels: dict[str, Any] = {}


class Parameter(Shape):
    """A field of the specs; `values` stand in the order of the runs."""

    field: str
    values: list[Any]
    differs: bool


class Result(Shape):
    """What a run came to, or has come to so far."""

    run: int
    metrics: dict[str, Number | None] = {}
    version: int = 0
    updates_per_second: float | None = None
    seconds: float | None = None
    virtual_seconds: float | None = None
    mean_staleness: float | None = None


class Mean(Shape):
    """`deviation`: of the sample. None for fewer than two."""

    count: int
    mean: float | None
    deviation: float | None


class Group(Shape):
    """Runs that differ in their seed alone."""

    runs: list[int]
    seeds: list[int]
    completed: int
    means: dict[str, Mean] = {}


class Comparison(Shape):
    """Runs side by side, sorted by their groups; parameters and results stand in their order."""

    runs: list[Compared]
    parameters: list[Parameter]
    results: list[Result]
    groups: list[Group] = []


class NodeSlots(Shape):
    """Of a node that is offline or drained none is idle."""

    idle: int
    total: int


class Gpu(Shape):
    index: int
    name: str
    memory_bytes: int
    driver: str = ""
    capability: str = ""


class Node(Shape):
    """A machine. A drained one gets no new members."""

    name: str
    online: bool
    drained: bool
    cores: int
    memory_bytes: int
    gpus: list[Gpu] = []
    address: str = ""
    """Where members on other nodes reach its members. Empty: nowhere, and it takes whole runs only."""
    labels: dict[str, str] = {}
    shares_home: bool = True
    """Whether it sees the service's files. If not, it trains, but serves no run and reads no uploaded data set."""
    slots: NodeSlots
    seen_at: datetime | None = None


class Dataset(Shape):
    id: int
    name: str
    project: str = ""
    owner: str = ""
    kind: str
    format: str = ""
    examples: int
    size_bytes: int
    sha256: str
    info: dict[str, Any] = {}
    created_at: datetime | None = None


class Token(Shape):
    """`secret` is there once only: when the token is made."""

    id: int
    name: str
    scopes: list[str]
    hint: str = ""
    secret: str | None = None
    expires_at: datetime | None = None
    last_used_at: datetime | None = None
