"""The way that a run's spec asks for: by which tensors travel between hosts, and what is done to them before."""

from __future__ import annotations

from workers.server.setup import build_compression
from workers.spec import RunSpec, TopK
from workers.transport.compressed import CompressedWay
from workers.transport.fabric_way import FabricWay
from workers.transport.link import Link
from workers.transport.ways import Inline, TensorWay


def way_of(spec: RunSpec, link: Link, rank: int) -> TensorWay:
    """One end of it, over a new link. `rank`: of `workers.transport.fabric`."""
    way: TensorWay = FabricWay(link, rank) if spec.transport.between_hosts == "fabric" else Inline(link)
    rule = build_compression(spec)
    if rule is None:
        return way
    part = spec.transport.compression
    return CompressedWay(way, rule, f"top-k {part.share:g}" if isinstance(part, TopK) else part.kind)
