"""How results look in a terminal: tables, states, numbers with units. Data go to stdout, all else to stderr."""

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from trainhub.words import duration

WIDE = 1000
"""Columns where no terminal sets a limit: a line stays a line for whoever reads the pipe."""

STYLES = {
    "running": "cyan",
    "starting": "cyan",
    "completed": "green",
    "failed": "red",
    "cancelled": "yellow",
    "paused": "yellow",
    "queued": "dim",
    "online": "green",
    "offline": "red",
    "drained": "yellow",
}
CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
"""All but the tab and the line's end."""
PICTURES = 0x2400
"""Where Unicode has a sign for each of the first 32."""
UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


def out() -> Console:
    return _console(stderr=False)


def err() -> Console:
    return _console(stderr=True)


class Quitting(Console):
    """A console whose reader may go: rich would end the program with status 1 by itself."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


def _console(*, stderr: bool) -> Console:
    is_terminal = (sys.stderr if stderr else sys.stdout).isatty()
    return Quitting(stderr=stderr, highlight=False, soft_wrap=True, markup=False, width=None if is_terminal else WIDE)


def document(data: object) -> None:
    """One JSON document on stdout."""
    print(json.dumps(data, indent=2, ensure_ascii=False))


def line(data: object) -> None:
    """One line of JSON on stdout, there at once for whoever reads along."""
    print(json.dumps(data, ensure_ascii=False), flush=True)


def say(text: str) -> None:
    """To the person, not to a pipe."""
    err().print(harmless(text))


def harmless(text: str) -> str:
    """What others wrote, with signs for what a terminal would obey: `␛` for an escape."""
    return CONTROLS.sub(lambda found: chr(PICTURES + ord(found[0])) if found[0] < " " else "\ufffd", text)


def waiting(why: str, seconds: float) -> None:
    say(f"The service does not answer ({why}); trying again in {seconds:.1f} s.")


Cell = str | Text


def table(
    columns: Sequence[str], rows: Iterable[Sequence[Cell]], *, right: Sequence[str] = (), spare: Sequence[str] = ()
) -> None:
    """A table on stdout. `right`: columns of numbers. `spare`: what narrow terminals go without, the first first."""
    kept = [[harmless(cell) if isinstance(cell, str) else cell for cell in row] for row in rows]
    shown = fitting(columns, kept, spare)
    made = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for index in shown:
        made.add_column(columns[index], justify="right" if columns[index] in right else "left", overflow="fold")
    for row in kept:
        made.add_row(*(row[index] for index in shown))
    _print(made)


def fitting(columns: Sequence[str], rows: Sequence[Sequence[Cell]], spare: Sequence[str]) -> list[int]:
    """Indices of the columns that are shown."""
    widths = [max([len(name), *(_width(row[index]) for row in rows)]) for index, name in enumerate(columns)]
    shown = list(range(len(columns)))
    for name in spare:
        if sum(widths[index] + 2 for index in shown) - 2 <= out().width:
            break
        shown.remove(columns.index(name))
    return shown


def _width(cell: Cell) -> int:
    return max((len(part) for part in str(cell).splitlines()), default=0)


def facts(pairs: Iterable[tuple[str, Cell | None]]) -> None:
    """Names and values on stdout; those without a value are left out."""
    made = Table.grid(padding=(0, 2, 0, 0))
    made.add_column(style="dim")
    made.add_column(overflow="fold")
    for name, value in pairs:
        if value is not None and str(value):
            made.add_row(name, harmless(value) if isinstance(value, str) else value)
    _print(made)


def _print(made: Table) -> None:
    """Without the blanks that fill up the last column."""
    console = out()
    with console.capture() as captured:
        console.print(made, soft_wrap=False)
    for row in captured.get().splitlines():
        print(row.rstrip())


def state(word: str, wish: str = "") -> Text:
    """A state as a word and, in a terminal, a colour; with what somebody wants of it."""
    text = Text(word, style=STYLES.get(word, ""))
    return text.append(f" (asked to {wish})", style="dim") if wish else text


def percent(fraction: float | None) -> str:
    return "" if fraction is None else f"{int(fraction * 100)} %"


def metrics(found: Mapping[str, Any]) -> str:
    """`loss 0.0913, accuracy 0.972`."""
    return ", ".join(f"{name} {number(value)}" for name, value in found.items() if name != "version")


def titled(name: str, labels: Mapping[str, Any]) -> str:
    """A run's name with what tells it from its experiment's others: `digits (seed 3)`."""
    told = ", ".join(f"{axis} {number(value)}" for axis, value in labels.items())
    return harmless(f"{name} ({told})" if told else name)


def number(value: object) -> str:
    """Four digits of a float, all of an integer; `–` for none."""
    match value:
        case None:
            return "–"
        case bool():
            return "yes" if value else "no"
        case float():
            return f"{value:.4g}" if math.isfinite(value) else str(value)
        case int():
            return f"{value:,}"
        case dict() | list():
            return json.dumps(value, ensure_ascii=False)
        case _:
            return str(value)


def size(count: int | None) -> str:
    """`1.1 MiB`."""
    if count is None:
        return "–"
    amount, unit = float(count), 0
    while amount >= 1024 and unit < len(UNITS) - 1:
        amount, unit = amount / 1024, unit + 1
    return f"{count} B" if unit == 0 else f"{amount:.1f} {UNITS[unit]}"


def ago(at: datetime | None, now: datetime | None = None) -> str:
    """`3 min 05 s ago`."""
    if at is None:
        return "never"
    seconds = ((now or datetime.now(UTC)) - at).total_seconds()
    return f"{duration(max(0.0, round(seconds)))} ago"


def clock(at: datetime) -> str:
    """Time of day, here."""
    return at.astimezone().strftime("%H:%M:%S")


def counted(count: int, one: str, many: str) -> str:
    return f"{count:,} {one if count == 1 else many}"
