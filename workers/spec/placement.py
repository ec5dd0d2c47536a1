"""Which machines a run may be placed on."""

from __future__ import annotations

from typing import Annotated

from pydantic import ConfigDict, Field

from workers.spec.base import Part

NodeName = Annotated[str, Field(min_length=1, max_length=80)]
LABEL = r"^[A-Za-z0-9]([A-Za-z0-9._/-]*[A-Za-z0-9])?$"
"""What a label's key, and what its value, may look like; agents check theirs by the same."""
LabelText = Annotated[str, Field(min_length=1, max_length=63, pattern=LABEL)]


class Placement(Part):
    """Nodes that the run may be placed on. Left empty: any that have room."""

    model_config = ConfigDict(coerce_numbers_to_str=True)  # `{rack: 7}` is what people write

    hosts: list[NodeName] = Field(default=[], max_length=64)
    """Names of nodes: only these are taken. None: any."""
    labels: dict[LabelText, LabelText] = Field(default={}, max_length=16)
    """Only nodes that carry all of these are taken."""
