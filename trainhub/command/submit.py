"""Queue runs."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import yaml

from trainhub.client import ApiError, Check, Client, Experiment
from trainhub.command import fields, service, telling, watching
from trainhub.command.errors import USAGE, CommandError, Quiet, read_given
from workers import spec_yaml
from workers.spec_errors import SpecError
from workers.spec_paths import changed

HELP = "Queue a run out of a spec (YAML), or one for each seed and each point of a grid, as one experiment."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("spec", type=Path, help="the spec's file; - reads it from standard input")
    parser.add_argument("--project", help="default: the oldest one you may change")
    parser.add_argument("--name", default="", help="of the experiment; default: the spec's")
    parser.add_argument("--seeds", default="", help="a run for each: 0-4, or 0,1,2")
    parser.add_argument(
        "--grid",
        action="append",
        default=[],
        metavar="FIELD=A,B",
        help="a run for each value, such as optimizer.learning_rate=0.1,0.2 or rate.kind=constant,balanced; "
        "several make the product",
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        dest="sets",
        metavar="FIELD=VALUE",
        help="change the spec first, such as workers=8",
    )
    parser.add_argument("--check", action="store_true", help="say what it would be, submit nothing")
    parser.add_argument(
        "--follow", "-f", action="store_true", help="stay until all runs have ended: 0, 1 failed, 3 cancelled"
    )
    parser.add_argument("--key", help="submitting again under the same key finds what was submitted before")
    service.add_options(parser)


def run(options: argparse.Namespace) -> None:
    draft = draft_of(options)
    with service.connected(options) as client:
        try:
            if options.check:
                tell_check(client.check(**draft), options)
                return
            experiment = client.submit(**draft, key=options.key)
        except ApiError as error:
            raise in_file(options.spec, error) from None
        tell(client, experiment, options)
        if options.follow and (status := follow(client, experiment, as_json=options.as_json)):
            raise Quiet(status)


def draft_of(options: argparse.Namespace) -> dict[str, Any]:
    """What the client takes. Raises CommandError."""
    text = read_given(options.spec)
    draft = {"project": options.project, "name": options.name}
    draft |= {"seeds": fields.seeds(options.seeds), "grid": dict(fields.axis("--grid", each) for each in options.grid)}
    try:
        found = spec_yaml.load(text) if options.sets else None
    except yaml.YAMLError:
        found = None
    if not isinstance(found, dict):  # what is wrong with the file itself, the service says
        return draft | {"yaml": text}
    try:
        return draft | {"spec": changed(found, [dict([fields.setting("--set", each)]) for each in options.sets])}
    except SpecError as error:
        raise CommandError(f"--set: {error}", status=USAGE) from None


def in_file(file: Path, error: ApiError) -> CommandError:
    """A refusal, with the file where it is about fields."""
    status = service.status_of(error)
    if not error.errors:
        return CommandError(str(error), status=status)
    return CommandError(f"{file} is refused:\n{error}", status=status)


def tell_check(check: Check, options: argparse.Namespace) -> None:
    """Raises CommandError with all that is wrong."""
    if options.as_json:
        telling.document(check.as_data())
    if not check.valid:
        lines = [f"{each.field}: {each.message}" if each.field else each.message for each in check.errors]
        raise CommandError(f"{options.spec} is refused:\n" + "\n".join(lines), status=USAGE)
    if options.as_json:
        return
    told = [("valid", telling.counted(check.runs, "run", "runs"))]
    told += [(name, text) for name, text in (check.words or {}).items()]
    if check.slots:
        least = f", {check.slots.least} at least" if check.slots.least != check.slots.needed else ""
        told.append(("slots", f"{check.slots.needed} a run{least}; {check.slots.idle} of {check.slots.total} are idle"))
        told.append(("", check.slots.wait))
    telling.facts(told)


def tell(client: Client, experiment: Experiment, options: argparse.Namespace) -> None:
    if options.as_json:
        if options.follow:
            telling.line(experiment.as_data())
        else:
            telling.document(experiment.as_data())
        return
    count = telling.counted(len(experiment.runs), "run", "runs")
    telling.say(f"Experiment {experiment.id} {experiment.name}: {count} queued in project {experiment.project}.")
    rows = [
        [str(run.id), f"{client.url}/runs/{run.id}/", telling.titled(run.name, run.labels)] for run in experiment.runs
    ]
    telling.table(("run", "page", "name"), rows, right=("run",))


def follow(client: Client, experiment: Experiment, *, as_json: bool) -> int:
    if len(experiment.runs) == 1:
        return watching.follow_run(client, experiment.runs[0].id, as_json=as_json)
    return watching.follow_experiment(client, experiment.id, as_json=as_json)
