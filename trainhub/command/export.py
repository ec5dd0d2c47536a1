"""A run as files, for whoever goes on without TrainHub."""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import os
import shutil
import zipfile
from pathlib import Path

from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn

from trainhub.client import Checkpoint, Client, Damaged, Line, Run
from trainhub.command import service, telling
from trainhub.command.errors import USAGE, CommandError

HELP = (
    "Write a run into a folder: a checkpoint with its model's code and how to load it, the spec, what was measured "
    "(CSV) and what happened (JSON). The folder is there whole, or not at all."
)
COLUMNS = ("key", "attempt", "worker", "version", "value")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", type=int, metavar="RUN", help="a run's number")
    parser.add_argument(
        "--checkpoint", type=int, metavar="VERSION", help="the checkpoint of this version; default: the newest"
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="a new folder; default: run-RUN")
    parser.add_argument("--no-series", action="store_true", help="leave out what was measured")
    service.add_options(parser)


def run(options: argparse.Namespace) -> None:
    folder: Path = options.out or Path(f"run-{options.run}")
    if folder.exists():
        raise CommandError(f"{folder} is there already; name another with --out.", status=USAGE)
    part = folder.with_name(f".{folder.name}.{os.getpid()}.part")
    try:
        with service.connected(options) as client:
            found = client.run(options.run)
            checkpoint = chosen(found, options.checkpoint)
            part.mkdir(parents=True)
            write(client, found, checkpoint, part, series=not options.no_series)
        os.replace(part, folder)
    except OSError as error:
        raise CommandError(f"{folder}: {error}") from None
    finally:
        shutil.rmtree(part, ignore_errors=True)
    tell(folder, checkpoint, options)


def chosen(run: Run, version: int | None) -> Checkpoint | None:
    """The checkpoint of that version, or the newest. None: there is none yet. Raises CommandError."""
    if version is None:
        return run.checkpoints[0] if run.checkpoints else None
    for checkpoint in run.checkpoints:
        if checkpoint.version == version:
            return checkpoint
    there = ", ".join(str(each.version) for each in run.checkpoints) or "none"
    raise CommandError(f"--checkpoint: run {run.id} has none of version {version}; it has: {there}", status=USAGE)


def write(client: Client, run: Run, checkpoint: Checkpoint | None, folder: Path, *, series: bool) -> None:
    (folder / "spec.yaml").write_text(client.spec_yaml(run.id))
    write_json(folder / "run.json", run.as_data())
    write_json(folder / "events.json", [each.as_data() for each in client.every_event(run.id)])
    if series:
        write_series(client, run, folder / "series.csv")
    if checkpoint is not None:
        write_checkpoint(client, run, checkpoint, folder)


def write_json(file: Path, data: object) -> None:
    file.write_text(json.dumps(data, indent=2, ensure_ascii=False) + "\n")


def write_series(client: Client, run: Run, file: Path) -> None:
    """Every point, one a line: worker -1 is the run as a whole."""
    with file.open("w", newline="") as text:
        rows = csv.writer(text)
        rows.writerow(COLUMNS)
        for key in client.series(run.id, key="none", points=10).keys:
            lines = sorted(client.whole_series(run.id, key, last=run.version), key=place)
            for line in lines:
                rows.writerows([key, line.attempt, line.worker, x, y] for x, y in zip(line.x, line.y, strict=True))


def place(line: Line) -> tuple[int, int, int]:
    return line.attempt, line.worker, line.x[0]


def write_checkpoint(client: Client, run: Run, checkpoint: Checkpoint, folder: Path) -> None:
    """Unpack its bundle. Raises Damaged where its weights are not those of the checkpoint."""
    bundle = folder / "bundle.zip"
    console = telling.err()
    columns = (TextColumn("{task.description}"), BarColumn(24), DownloadColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(f"checkpoint {checkpoint.version:,}", total=None)
        client.bundle(
            run.id, checkpoint, bundle, told=lambda done, total: bar.update(task, completed=done, total=total)
        )
    unpack(bundle, folder)
    bundle.unlink()
    if checkpoint.sha256 not in {sha256_of(file) for file in folder.glob("**/*.safetensors")}:
        raise Damaged(f"The bundle of checkpoint {checkpoint.version} does not hold its weights. Export it again.")


def unpack(bundle: Path, folder: Path) -> None:
    """Its files, under their own names and nowhere else. Raises Damaged."""
    try:
        with zipfile.ZipFile(bundle) as packed:
            packed.extractall(folder)  # which drops `..` and roots from names
    except zipfile.BadZipFile as error:
        raise Damaged(f"The bundle can't be unpacked: {error}. Export it again.") from None


def sha256_of(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def tell(folder: Path, checkpoint: Checkpoint | None, options: argparse.Namespace) -> None:
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    if options.as_json:
        telling.document(
            {
                "folder": str(folder),
                "checkpoint": checkpoint.as_data() if checkpoint else None,
                "files": {str(file.relative_to(folder)): sha256_of(file) for file in files},
            }
        )
        return
    if checkpoint is None:
        telling.say("The run has no checkpoint yet.")
    rows = [[str(file), telling.size(file.stat().st_size)] for file in files]
    telling.table(("file", "size"), rows, right=("size",))
