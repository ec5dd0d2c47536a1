"""What people may say about an upload."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from workers.datasets.errors import BadData

Format = Literal["npz", "csv", "parquet", "image-folder", "idx", "cifar", "text"]
FORMATS: tuple[Format, ...] = ("npz", "csv", "parquet", "image-folder", "idx", "cifar", "text")


class Options(BaseModel):
    """How a file is to be read. Each is for some formats only, and refused for the others."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    size: int | None = Field(default=None, ge=4, le=4096)
    """Pixels a side that images of a folder are resized to, whatever their shape. Left out: all must have the same."""
    colour: Literal["auto", "rgb", "gray"] = "auto"
    """Channels of an image folder: `auto` makes it gray if all images are."""
    layout: Literal["auto", "channels-first", "channels-last"] = "auto"
    """Where in the array x of an npz file the channels are: (n, channels, height, width), or behind the width."""
    target: str | None = Field(default=None, max_length=1000)
    """Column of a table that is to be predicted. Left out: the last one."""
    task: Literal["auto", "classification", "regression"] = "auto"
    """Whether a table's target is a class or a number. `auto`: texts, yes/no and whole numbers of up to 20 different
    values are classes."""
    drop: list[str] = Field(default=[], max_length=10_000)
    """Columns of a table to leave out, such as row numbers: a list, or one text with commas."""
    missing: Literal["refuse", "mean"] = "refuse"
    """What to do about missing numbers in a table: refuse the file, or put in the column's mean."""
    vocabulary: Literal["characters", "bytes"] = "characters"
    """What a text is made of."""

    @field_validator("drop", mode="before")
    @classmethod
    def _a_text_is_names_with_commas(cls, value: object) -> object:
        return [name.strip() for name in value.split(",")] if isinstance(value, str) else value


OF_FORMAT: dict[str, set[str]] = {
    "image-folder": {"size", "colour"},
    "npz": {"layout", "task"},
    "csv": {"target", "task", "drop", "missing"},
    "parquet": {"target", "task", "drop", "missing"},
    "text": {"vocabulary"},
}


def parse(data: Any) -> Options:
    """Raises BadData that names the option."""
    try:
        return Options.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        path = ".".join(["options", *map(str, first["loc"])])
        known = ", ".join(Options.model_fields)
        message = f"no such option; there are {known}" if first["type"] == "extra_forbidden" else first["msg"]
        raise BadData(path, message) from None


def check(options: Options, file_format: Format) -> None:
    """Whether every option that was given means something for this format. Raises BadData."""
    for name in sorted(options.model_fields_set - OF_FORMAT.get(file_format, set())):
        raise BadData(f"options.{name}", f"means nothing for a file of format {file_format}")
