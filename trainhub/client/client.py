"""The client: each endpoint as a method."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from trainhub.client import files, following
from trainhub.client.errors import Misunderstood
from trainhub.client.following import Progress
from trainhub.client.login import Login, tidy
from trainhub.client.shapes import (
    Check,
    Checkpoint,
    Comparison,
    Dataset,
    Event,
    Experiment,
    Line,
    LogLine,
    Me,
    Node,
    Run,
    Series,
    Token,
)
from trainhub.client.wire import Clock, Wire

TIMEOUT_SECONDS = 20.0
PATIENCE_SECONDS = 10.0
FOLLOW_PATIENCE_SECONDS = 300.0
UPLOAD_SECONDS = 1800.0
"""How long the service may take to read an uploaded file."""
PAGE_RUNS = 100
MOST_POINTS = 5000
MOST_EVENTS = 1000

Grid = Mapping[str, Sequence[Any]]


class Client:
    """A service, as one person.

    `patience` is for how many seconds a request that may be repeated is, while the service is away; `on_wait` is told
    why and for how long, each time.
    """

    def __init__(
        self,
        url: str,
        token: str,
        *,
        timeout: float = TIMEOUT_SECONDS,
        patience: float = PATIENCE_SECONDS,
        on_wait: Callable[[str, float], None] | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.url = tidy(url)
        self._wire = Wire(Login(self.url, token), timeout=timeout, patience=patience, on_wait=on_wait, clock=clock)
        self.clock = self._wire.clock

    @classmethod
    def from_environment(
        cls, environ: Mapping[str, str] = os.environ, *, url: str | None = None, **options: Any
    ) -> Self:
        """By TRAINHUB_URL and TRAINHUB_TOKEN, else by what `trainhub login` kept. Raises NotLoggedIn."""
        login = Login.find(environ, url=url)
        return cls(login.url, login.token, **options)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._wire.close()

    def me(self) -> Me:
        return Me.read(self._wire.get("me"))

    # Submitting

    def check(
        self,
        spec: Mapping[str, Any] | None = None,
        *,
        yaml: str | None = None,
        project: str | None = None,
        seeds: Sequence[int] = (),
        grid: Grid | None = None,
        name: str = "",
    ) -> Check:
        """What a submission would be, or all that is wrong with it. Nothing is written."""
        return Check.read(self._wire.post("specs/check", draft(spec, yaml, project, seeds, grid, name)))

    def submit(
        self,
        spec: Mapping[str, Any] | None = None,
        *,
        yaml: str | None = None,
        project: str | None = None,
        seeds: Sequence[int] = (),
        grid: Grid | None = None,
        name: str = "",
        key: str | None = None,
    ) -> Experiment:
        """Queue a run for each seed and each point of the grid.

        Under one `key` there is one experiment, however often it is submitted; each call makes its own by default.
        Raises ApiError with a line for each field.
        """
        body = draft(spec, yaml, project, seeds, grid, name)
        headers = {"Idempotency-Key": key or uuid.uuid4().hex}
        return Experiment.read(self._wire.post("experiments", body, headers=headers))

    def experiment(self, experiment_id: int) -> Experiment:
        return Experiment.read(self._wire.get(f"experiments/{experiment_id}"))

    # Runs

    def runs(
        self,
        *,
        state: str | Sequence[str] = (),
        project: str | None = None,
        owner: str | None = None,
        tag: str | None = None,
        method: str | Sequence[str] = (),
        search: str | None = None,
        experiment: int | None = None,
        page: int = PAGE_RUNS,
        patience: float | None = None,
    ) -> Iterator[Run]:
        """Runs that match all of these, newest first; pages are fetched as they are needed.

        Of several states any will do; of several methods all must be the run's.
        """
        params: dict[str, Any] = {
            "state": state,
            "project": project,
            "owner": owner,
            "tag": tag,
            "method": method,
            "search": search,
            "experiment": experiment,
        }
        return (Run.read(each) for each in self._items("runs", params | {"limit": page}, patience))

    def _items(self, path: str, params: dict[str, Any], patience: float | None = None) -> Iterator[Any]:
        while True:
            page = self._wire.get(path, params, patience=patience)
            if not isinstance(page, dict) or "items" not in page:
                raise Misunderstood(f"{self.url} answers {path} without items. Are both of one version?")
            yield from page["items"]
            if not page.get("next"):
                return
            params = params | {"cursor": page["next"]}

    def run(self, run_id: int, *, patience: float | None = None) -> Run:
        return Run.read(self._wire.get(f"runs/{run_id}/", patience=patience))

    def spec(self, run_id: int) -> dict[str, Any]:
        """With every default written out."""
        found: dict[str, Any] = self._wire.get(f"runs/{run_id}/spec")
        return found

    def spec_yaml(self, run_id: int) -> str:
        """The shortest YAML that means the same."""
        return self._wire.send("GET", f"runs/{run_id}/spec", params={"format": "yaml"}, repeats=True).text

    def follow(
        self, run_id: int, *, patience: float = FOLLOW_PATIENCE_SECONDS, seconds: float | None = None
    ) -> Iterator[Progress]:
        """Each change until the run has ended; the last one tells the end.

        A service that goes away is waited for, `patience` seconds each time. Raises TookTooLong after `seconds`.
        """
        return following.follow(self, run_id, patience=patience, seconds=seconds)

    def follow_experiment(
        self, experiment_id: int, *, patience: float = FOLLOW_PATIENCE_SECONDS, seconds: float | None = None
    ) -> Iterator[list[Run]]:
        """All of its runs at each change, until all have ended; otherwise as `follow`."""
        return following.follow_many(self, experiment_id, patience=patience, seconds=seconds)

    def progress(self, run_id: int) -> Progress:
        """Where it stands now."""
        return following.progress(self, self.run(run_id), following.Speed(), None)

    def pause(self, run_id: int) -> Run:
        return self.act(run_id, "pause")

    def resume(self, run_id: int) -> Run:
        return self.act(run_id, "resume")

    def cancel(self, run_id: int) -> Run:
        return self.act(run_id, "cancel")

    def kill(self, run_id: int) -> Run:
        return self.act(run_id, "kill")

    def requeue(self, run_id: int) -> Run:
        return self.act(run_id, "requeue")

    def act(self, run_id: int, action: str) -> Run:
        """Ask for it; the run's state tells when it is done. Raises ApiError where its state forbids it."""
        return Run.read(self._wire.post(f"runs/{run_id}/actions/{action}"))

    # What a run measured, said and kept

    def series(
        self,
        run_id: int,
        *,
        key: str | Sequence[str] = (),
        worker: int | None = None,
        attempt: int | None = None,
        first: int | None = None,
        last: int | None = None,
        after: int | None = None,
        points: int | None = None,
        patience: float | None = None,
    ) -> Series:
        """Series from version `first` to `last`, thinned to `points`. A key that ends in `*` is a beginning."""
        params = {
            "key": [key] if isinstance(key, str) else list(key),
            "worker": worker,
            "attempt": attempt,
            "first": first,
            "last": last,
            "after": after,
            "points": points,
        }
        return Series.read(self._wire.get(f"runs/{run_id}/series", params, patience=patience))

    def whole_series(self, run_id: int, key: str, *, first: int = 0, last: int | None = None) -> Iterator[Line]:
        """Every point of a series, stretch by stretch: of one that is thinned, each half is asked for."""
        last = self.run(run_id).version if last is None else last
        lines = self.series(run_id, key=key, first=first, last=last, points=MOST_POINTS).series
        if first >= last or all(line.exact for line in lines):
            yield from lines
            return
        middle = (first + last) // 2
        yield from self.whole_series(run_id, key, first=first, last=middle)
        yield from self.whole_series(run_id, key, first=middle + 1, last=last)

    def events(self, run_id: int, *, after: int | None = None, limit: int | None = None) -> list[Event]:
        """The newest `limit`, or with `after` the first ones behind that id; oldest first either way."""
        told = self._wire.get(f"runs/{run_id}/events", {"after": after, "limit": limit})
        return [Event.read(each) for each in told["events"]]

    def every_event(self, run_id: int) -> Iterator[Event]:
        """All of them, oldest first."""
        after = 0
        while found := self.events(run_id, after=after, limit=MOST_EVENTS):
            yield from found
            after = found[-1].id

    def logs(self, run_id: int, *, member: int | None = None, limit: int | None = None) -> list[LogLine]:
        """The newest `limit` lines, oldest of them first; of one member where its id is given."""
        told = self._wire.get(f"runs/{run_id}/log", {"member": member, "limit": limit})
        return [LogLine.read(each) for each in told["log"]]

    def log_after(self, run_id: int, after: int, member: int | None, *, patience: float | None) -> list[LogLine]:
        params = {"after": after, "member": member, "limit": following.LOG_LINES}
        told = self._wire.get(f"runs/{run_id}/log", params, patience=patience)
        return [LogLine.read(each) for each in told["log"]]

    def follow_logs(
        self,
        run_id: int,
        *,
        member: int | None = None,
        patience: float = FOLLOW_PATIENCE_SECONDS,
        seconds: float | None = None,
    ) -> Iterator[LogLine]:
        """Lines as they come, until the run has ended."""
        return following.follow_log(self, run_id, member=member, patience=patience, seconds=seconds)

    def checkpoints(self, run_id: int) -> list[Checkpoint]:
        """Newest first."""
        return [Checkpoint.read(each) for each in self._items(f"runs/{run_id}/checkpoints", {})]

    def download(self, run_id: int, checkpoint: Checkpoint, to: Path, *, told: files.Told | None = None) -> Path:
        """Fetch its file. It is at `to` whole and checked, or not at all. Raises Damaged."""
        path = f"runs/{run_id}/checkpoints/{checkpoint.id}"
        return files.download(self._wire, path, to, sha256=checkpoint.sha256, told=told)

    def bundle(self, run_id: int, checkpoint: Checkpoint, to: Path, *, told: files.Told | None = None) -> Path:
        """Fetch a zip of the checkpoint, its model's code, and how to load them without TrainHub."""
        return files.download(self._wire, f"runs/{run_id}/checkpoints/{checkpoint.id}/bundle", to, told=told)

    def compare(self, run_ids: Sequence[int]) -> Comparison:
        return Comparison.read(self._wire.get("compare", {"run": list(run_ids)}))

    # The installation

    def nodes(self) -> list[Node]:
        return [Node.read(each) for each in self._items("nodes", {})]

    def drain(self, node: str) -> None:
        """No new members for it; those it has work on to their end."""
        self._wire.post(f"nodes/{node}/actions/drain")

    def undrain(self, node: str) -> None:
        self._wire.post(f"nodes/{node}/actions/undrain")

    def datasets(self, *, project: str | None = None) -> list[Dataset]:
        return [Dataset.read(each) for each in self._items("datasets", {"project": project})]

    def dataset(self, dataset_id: int) -> Dataset:
        return Dataset.read(self._wire.get(f"datasets/{dataset_id}"))

    def upload(
        self,
        path: Path,
        name: str,
        *,
        project: str | None = None,
        format: str = "auto",  # noqa: A002, the API's own word
        options: Mapping[str, Any] | None = None,
        told: files.Told | None = None,
        seconds: float = UPLOAD_SECONDS,
    ) -> Dataset:
        """Send a file and wait until it is prepared. `options` are its format's: which column is the target, say.

        Raises ApiError where it can't be read.
        """
        fields = {"name": name, "project": project, "format": format, "options": json.dumps(options or {})}
        given = {key: value for key, value in fields.items() if value}
        return Dataset.read(files.upload(self._wire, "datasets", path, given, told=told, seconds=seconds))

    def delete_dataset(self, dataset_id: int) -> None:
        self._wire.send("DELETE", f"datasets/{dataset_id}")

    def methods(self) -> Any:
        """What can be chosen: the catalog."""
        return self._wire.get("methods")

    def tokens(self) -> list[Token]:
        return [Token.read(each) for each in self._items("tokens", {})]

    def make_token(self, name: str, *, scopes: Sequence[str] = ("read", "write"), days: int = 90) -> Token:
        """The answer's `secret` is told this once."""
        return Token.read(self._wire.post("tokens", {"name": name, "scopes": list(scopes), "days": days}))

    def revoke_token(self, token_id: int) -> None:
        self._wire.send("DELETE", f"tokens/{token_id}")


def draft(
    spec: Mapping[str, Any] | None,
    yaml: str | None,
    project: str | None,
    seeds: Sequence[int],
    grid: Grid | None,
    name: str,
) -> dict[str, Any]:
    """A submission as the service takes it; what is not given is left out."""
    given: dict[str, Any] = {"spec": spec, "yaml": yaml, "project": project, "name": name or None}
    given |= {"seeds": list(seeds) or None, "grid": {k: list(v) for k, v in (grid or {}).items()} or None}
    return {key: value for key, value in given.items() if value is not None}
