"""How tensors travel between hosts. On one host they never travel: they lie in shared memory."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from workers.spec.base import Part


class Uncompressed(Part):
    """Every float is sent as it is."""

    kind: Literal["none"] = "none"


class Bf16(Part):
    """16 bits of each float, rounded to nearest even: half the bytes of a push."""

    kind: Literal["bf16"]


class TopK(Part):
    """Only the elements largest in absolute value; the rest is kept at the trainer and added to the next push."""

    kind: Literal["top-k"]
    share: float = Field(default=0.01, gt=0, le=0.5)
    """Of all elements. Each that is sent takes 8 bytes in place of 4."""


Compression = Annotated[Uncompressed | Bf16 | TopK, Field(discriminator="kind")]


class Transport(Part):
    """Between hosts only: on one host trainers and server share memory, and nothing here changes anything."""

    between_hosts: Literal["inline", "fabric"] = "inline"
    """`inline`: in the run's own TLS session. `fabric`: beside it through torch.distributed (gloo, or NCCL between
    GPUs), which is faster but neither encrypts nor authenticates: for networks whose every machine is trusted."""
    compression: Compression = Uncompressed()
    """What is pushed in place of a gradient to a server on another host; never in shared memory. A simulation
    compresses what every trainer pushes."""
