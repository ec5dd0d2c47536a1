"""Data of one's own."""

from __future__ import annotations

import argparse
from pathlib import Path

from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from trainhub.client import Client, Dataset
from trainhub.command import fields, service, telling
from trainhub.command.errors import USAGE, CommandError

HELP = "List the data sets of your projects; upload one, show one, delete one."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    service.add_options(parser)
    kinds = parser.add_subparsers(dest="what", metavar="list | upload | show | delete")
    parser.set_defaults(what="list", project=None)
    for name, text in (("list", "what there is (the default)"), ("show", "all of one"), ("delete", "for good")):
        each = kinds.add_parser(name, help=text, description=HELP)
        if name != "list":
            each.add_argument("name", help="its name")
        each.add_argument("--project", help="of this project")
        service.add_options(each, again=True)
    each = kinds.add_parser("upload", help="a file: it is prepared for training while you wait", description=HELP)
    each.add_argument("file", type=Path)
    each.add_argument("--name", required=True, help="what specs will call it; unique in its project")
    each.add_argument("--project", help="default: the oldest one you may change")
    each.add_argument("--format", default="auto", help="where the file does not tell: npz, csv, image-folder, …")
    each.add_argument(
        "--option",
        action="append",
        default=[],
        dest="options",
        metavar="NAME=VALUE",
        help="how to read it, such as target=species for a table (docs/data.md)",
    )
    service.add_options(each, again=True)


def run(options: argparse.Namespace) -> None:
    what = {"list": list_them, "upload": upload, "show": show, "delete": delete}[options.what]
    with service.connected(options) as client:
        what(client, options)


def list_them(client: Client, options: argparse.Namespace) -> None:
    found = client.datasets(project=options.project)
    if options.as_json:
        telling.document([each.as_data() for each in found])
        return
    if not found:
        telling.say("There is none. `trainhub datasets upload FILE --name NAME` makes one.")
        return
    rows = [
        [each.name, each.kind, each.project, telling.number(each.examples), telling.size(each.size_bytes), each.owner]
        for each in found
    ]
    telling.table(("name", "kind", "project", "examples", "size", "owner"), rows, right=("examples", "size"))


def upload(client: Client, options: argparse.Namespace) -> None:
    if not options.file.is_file():
        raise CommandError(f"There is no file {options.file}.", status=USAGE)
    console = telling.err()
    columns = (TextColumn("{task.description}"), BarColumn(24), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("sending", total=None)

        def told(done: int, total: int | None) -> None:
            description = "preparing" if done == total else "sending"
            bar.update(task, completed=done, total=total, description=description)

        made = client.upload(
            options.file,
            options.name,
            project=options.project,
            format=options.format,
            options=dict(fields.setting("--option", each) for each in options.options),
            told=told,
        )
    tell(made, options)


def show(client: Client, options: argparse.Namespace) -> None:
    tell(named(client, options), options)


def delete(client: Client, options: argparse.Namespace) -> None:
    found = named(client, options)
    client.delete_dataset(found.id)
    telling.say(f"Deleted {found.name} of project {found.project}.")


def named(client: Client, options: argparse.Namespace) -> Dataset:
    """Raises CommandError where there is none of that name, or one in several projects."""
    found = [
        each for each in client.datasets() if each.name == options.name and options.project in {None, each.project}
    ]
    if not found:
        raise CommandError(f"There is no data set {options.name!r}, or you may not see it.", status=USAGE)
    if len(found) > 1:
        projects = ", ".join(each.project for each in found)
        raise CommandError(f"{options.name!r} is in several projects: {projects}. Add --project.", status=USAGE)
    return found[0]


def tell(dataset: Dataset, options: argparse.Namespace) -> None:
    if options.as_json:
        telling.document(dataset.as_data())
        return
    telling.facts(
        [
            ("name", dataset.name),
            ("kind", dataset.kind),
            ("project", dataset.project),
            ("owner", dataset.owner),
            ("format", dataset.format),
            ("examples", telling.number(dataset.examples)),
            ("size", telling.size(dataset.size_bytes)),
            ("sha-256", dataset.sha256),
            *((name, telling.number(value)) for name, value in dataset.info.items()),
        ]
    )
