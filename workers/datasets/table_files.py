"""CSV and Parquet files, read by Arrow. Texts become marks of a category, times days since 1970."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet

from workers.datasets.archives import beginning, read_whole
from workers.datasets.errors import BadData, check_finite
from workers.datasets.limits import Limits, size
from workers.datasets.options import Options
from workers.datasets.tables import FIRST_COLUMNS, FIRST_ROWS, Columns, Numbers, TableParts, Target, number_column

DELIMITERS = ",;\t|"
CLASSES_OF_WHOLE_NUMBERS = 20
BLOCK_BYTES = 16 * 1024 * 1024
"""Arrow guesses the type of a column from the first block."""
DAY_MICROSECONDS = 86_400e6
NOTHING = ["", "NA", "NaN", "nan", "null", "NULL", "?"]
"""Cells that hold no value."""
MISSING = "(missing)"


def read_csv(path: Path, options: Options, limits: Limits) -> TableParts:
    """Raises BadData."""
    head = beginning(path, 65_536).split(b"\n")[0].decode("utf-8", "replace")
    delimiter = max(DELIMITERS, key=head.count)
    reading = pa.csv.ReadOptions(block_size=BLOCK_BYTES, use_threads=False)
    parsing = pa.csv.ParseOptions(delimiter=delimiter, newlines_in_values=True)
    converting = pa.csv.ConvertOptions(strings_can_be_null=True, null_values=NOTHING)
    try:
        table = pa.csv.read_csv(io.BytesIO(read_whole(path, limits)), reading, parsing, converting)
        " ".join(table.column_names)  # Arrow decodes them only now
    except (pa.ArrowException, ValueError) as error:
        raise BadData("file", f"is no CSV file that can be read: {error}") from None
    return understood(table, options, limits)


def read_parquet(path: Path, options: Options, limits: Limits) -> TableParts:
    """Raises BadData."""
    try:
        file = pa.parquet.ParquetFile(path)
        unpacked = sum(file.metadata.row_group(i).total_byte_size for i in range(file.metadata.num_row_groups))
        limits.check_examples(file.metadata.num_rows)
        if unpacked > limits.unpacked_bytes:
            raise BadData("file", f"holds {size(unpacked)} unpacked; at most {size(limits.unpacked_bytes)} are taken")
        limits.check_columns(file.metadata.num_columns)
        table = file.read(use_threads=False)
        " ".join(table.column_names)  # Arrow decodes them only now
    except (pa.ArrowException, OSError, ValueError) as error:
        raise BadData("file", f"is no Parquet file that can be read: {error}") from None
    return understood(table, options, limits)


def understood(table: pa.Table, options: Options, limits: Limits) -> TableParts:
    """Sort the columns into features and a target. Raises BadData that names the column."""
    names = table.column_names
    limits.check_columns(len(names))
    twice = sorted(name for name, count in Counter(names).items() if count > 1)
    if twice:
        raise BadData(twice[0], "is the name of several columns")
    limits.check_examples(table.num_rows)
    if table.num_rows < 2:
        raise BadData("file", "has fewer than two rows")
    target = options.target if options.target is not None else names[-1]
    for field, name in [("options.target", target), *(("options.drop", name) for name in options.drop)]:
        if name not in names:
            raise BadData(field, f"there is no column {name!r}; there are {', '.join(names[:30])}")
    if target in options.drop:
        raise BadData("options.drop", f"{target!r} is the target")
    head = table.select(names[:FIRST_COLUMNS]).slice(0, FIRST_ROWS).to_pylist()
    first_rows = [[_shown(value) for value in row.values()] for row in head]
    understanding = Understanding(options, limits)
    found = [understanding.column(n, table.column(n)) for n in names if n != target and n not in options.drop]
    if not found:
        raise BadData("file", "has no column besides its target")
    columns = Columns(
        features=[name for column in found for name in column.features],
        values=np.concatenate([column.values for column in found], axis=1),
        scaled=np.array([column.is_number for column in found for _ in column.features]),
        about=[column.about for column in found],
        first_rows=first_rows,
    )
    return TableParts(columns, target_of(target, table.column(target), options), notes=understanding.notes)


def _shown(value: object) -> str:
    text = "" if value is None else str(value)
    return text if len(text) <= 40 else f"{text[:39]}…"


@dataclass(frozen=True)
class Column:
    """One column as features (rows, features)."""

    features: list[str]
    values: Numbers
    is_number: bool
    about: dict[str, Any]


class Understanding:
    """Makes features of columns, and remembers what it had to do to them."""

    def __init__(self, options: Options, limits: Limits) -> None:
        self._options, self._limits = options, limits
        self.notes: list[str] = []

    def column(self, name: str, values: pa.ChunkedArray) -> Column:
        """Raises BadData."""
        kind = values.type
        for is_so, numbers in NUMBERS:
            if is_so(kind):
                return self._numbers(name, numbers(values))
        if is_text(kind):
            return self._categories(name, values.cast(pa.string()))
        if pa.types.is_null(kind):
            raise BadData(name, "is empty; leave it out with option drop")
        raise BadData(name, f"is of type {kind}, which can't be learned from; leave it out with option drop")

    def _numbers(self, name: str, values: Numbers) -> Column:
        absent = np.isnan(values)
        count = int(absent.sum())
        if count and self._options.missing == "refuse":
            raise BadData(
                name, f"has no value in {count:,} of {len(values):,} rows; give option missing: mean to put in its mean"
            )
        if count == len(values):
            raise BadData(name, "is empty; leave it out with option drop")
        check_finite(name, values[~absent])
        if count:
            self.notes.append(f"{name}: its mean was put in where {count:,} values were missing")
            values = np.where(absent, values[~absent].mean(), values)
        return Column([name], values[:, None], True, number_column(name, values, missing=count))

    def _categories(self, name: str, values: pa.ChunkedArray) -> Column:
        """A feature for each text: 1 where it is there."""
        count = values.null_count
        encoded = pc.fill_null(values, MISSING).combine_chunks().dictionary_encode()
        texts = encoded.dictionary.to_pylist()
        if len(texts) > self._limits.categories:
            raise BadData(
                name,
                f"has {len(texts):,} different texts; at most {self._limits.categories} become features. "
                "Leave it out with option drop",
            )
        order = sorted(range(len(texts)), key=texts.__getitem__)
        which = encoded.indices.to_numpy()
        marks = np.stack([which == i for i in order], axis=1).astype(np.float64)
        levels = {texts[i]: int((which == i).sum()) for i in order}
        about = {"name": name, "kind": "category", "missing": count, "levels": levels}
        return Column([f"{name}={texts[i]}" for i in order], marks, False, about)


def is_text(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        return is_text(kind.value_type)
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def plain_numbers(values: pa.ChunkedArray) -> Numbers:
    """NaN where there is none."""
    found: Numbers = values.cast(pa.float64(), safe=False).to_numpy()
    return found


def days(values: pa.ChunkedArray) -> Numbers:
    """Days since 1970."""
    microseconds = values.cast(pa.timestamp("us"), safe=False).cast(pa.int64())
    return plain_numbers(microseconds) / DAY_MICROSECONDS


def is_number(kind: pa.DataType) -> bool:
    types = pa.types
    some = types.is_integer, types.is_floating, types.is_decimal, types.is_boolean
    return any(is_one(kind) for is_one in some)


def is_time(kind: pa.DataType) -> bool:
    return bool(pa.types.is_timestamp(kind) or pa.types.is_date(kind))


NUMBERS: tuple[tuple[Callable[[pa.DataType], bool], Callable[[pa.ChunkedArray], Numbers]], ...] = (
    (is_number, plain_numbers),
    (is_time, days),
)


def target_of(name: str, values: pa.ChunkedArray, options: Options) -> Target:
    """Raises BadData."""
    if values.null_count:
        raise BadData(name, f"is the target, and has no value in {values.null_count:,} rows")
    kind = values.type
    if not (is_text(kind) or is_number(kind)):
        raise BadData(name, f"is the target, and of type {kind}: it must hold classes or numbers")
    if options.task == "regression" and is_text(kind):
        raise BadData(name, "holds texts, and option task says regression")
    task = options.task if options.task != "auto" else guessed(values)
    if task == "regression":
        numbers = plain_numbers(values)
        check_finite(name, numbers)
        return Target(name, numbers, None)
    return as_classes(name, values)


def guessed(values: pa.ChunkedArray) -> str:
    kind = values.type
    if is_text(kind) or pa.types.is_boolean(kind):
        return "classification"
    few = pa.types.is_integer(kind) and pc.count_distinct(values).as_py() <= CLASSES_OF_WHOLE_NUMBERS
    return "classification" if few else "regression"


def as_classes(name: str, values: pa.ChunkedArray) -> Target:
    """Classes in the order of their values."""
    texts = is_text(values.type)
    found: npt.NDArray[Any] = values.cast(pa.string()).to_numpy() if texts else values.to_numpy()
    if not texts:
        check_finite(name, plain_numbers(values))
    classes, labels = np.unique(found, return_inverse=True)
    return Target(name, labels.astype(np.int64), [str(c) for c in classes.tolist()])
