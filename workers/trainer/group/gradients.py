"""The way of a group's gradients into its one hand-over vector: each device writes a part, and all is written once.

The gradient of the convolutions is a sum over the devices. Each device makes the sum of its part of it and writes that;
nobody needs the rest, since new weights come from the server. So it travels as a reduce-scatter, half of what an
all-reduce would move. It is cut into buckets along the vector, from its end: a bucket goes out as soon as the backward
pass is through with it, and travels while the layers in front are still computed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor, nn

from workers.assignment import Cause
from workers.devices import HOST, Device
from workers.failures import Failure
from workers.layout import Layout, Segment
from workers.methods.hybrid.base import Collectives, Slices, Sum, all_gather, reduce_scatter, spread
from workers.methods.hybrid.head import ShardedLinear
from workers.trainer.group.heads import Head

BUCKET_FLOATS = 1 << 20
"""Of which a bucket is made at least, where there are as many: smaller ones cost more in starting than in moving."""


@dataclass
class Bucket:
    """Values `start` to `stop` of the vector, from this device's own backward pass."""

    start: int
    stop: int
    segments: list[Segment]
    values: Tensor = field(init=False)
    parts: Slices = field(init=False)
    missing: int = 0
    under_way: Sum | None = None

    def prepare(self, devices: int, where: torch.device) -> None:
        self.values = torch.zeros(self.stop - self.start, device=where)
        self.parts = Slices(spread(self.stop - self.start, devices))

    def place(self, segment: Segment) -> Tensor:
        return self.values.as_strided(segment.shape, segment.stride, segment.offset - self.start)


class OwnSlice(NamedTuple):
    """A device's rows of a parameter that is cut: its name in the whole model, and where its gradient goes."""

    name: str
    parameter: nn.Parameter
    target: Tensor


def slices_of(layer: ShardedLinear, head: Head, layout: Layout, flat: Tensor) -> list[OwnSlice]:
    """What a device has of the last layer."""
    mine = layer.cut.classes.of(layer.cut.group.rank)
    placed = {s.name: s for s in layout.segments}
    parameters = [p for p in (layer.weight, layer.bias) if p is not None]
    named = zip(head.parameters, parameters, strict=True)
    return [OwnSlice(name, parameter, placed[name].of(flat)[mine]) for name, parameter in named]


class GroupGradients:
    """One device's share in filling `flat`."""

    def __init__(
        self,
        model: nn.Module,
        layout: Layout,
        flat: Tensor,
        group: Collectives,
        own: Sequence[OwnSlice] = (),
        device: Device = HOST,
    ) -> None:
        """`own` are this device's slices of the last layer. All other parameters are summed over the devices.

        `flat` is in host memory, and the model on `device`.
        """
        self._flat, self._group, self._own = flat, group, own
        named = dict(model.named_parameters())
        apart = {o.name for o in own}
        below = [s for s in layout.segments if s.name not in apart]
        self._parameters = {s.name: named[s.name] for s in below}
        self._addresses = {name: p.data_ptr() for name, p in self._parameters.items()}
        self._buckets = list(buckets(layout, below))
        for bucket in self._buckets:
            bucket.prepare(group.size, device.where)
            for segment in bucket.segments:
                self._watch(bucket, segment)
        self._gone = 0
        self._sending = False

    def _watch(self, bucket: Bucket, segment: Segment) -> None:
        target = bucket.place(segment)

        def done(parameter: Tensor) -> None:
            if self._sending and parameter.grad is not None:
                target.copy_(parameter.grad)
                bucket.missing -= 1
                self._send_what_is_ready()

        self._parameters[segment.name].register_post_accumulate_grad_hook(done)  # type: ignore[no-untyped-call]

    def begin(self) -> None:
        """A step starts: nothing is sent before `send`."""
        self._sending, self._gone = False, 0
        for bucket in self._buckets:
            bucket.missing, bucket.under_way = len(bucket.segments), None

    def send(self) -> None:
        """The backward pass that follows is the step's last: what it finishes goes out."""
        self._sending = True

    def _send_what_is_ready(self, *, all_of_them: bool = False) -> None:
        # In one order everywhere: that of the buckets, as far as they are complete.
        while self._gone < len(self._buckets):
            bucket = self._buckets[self._gone]
            if bucket.missing and not all_of_them:
                return
            bucket.under_way = reduce_scatter(self._group, bucket.values, bucket.parts, "convolution gradients")
            self._gone += 1

    def parts(self) -> list[tuple[Tensor, Tensor]]:
        """This device's parts of the vector, each with what is to be copied there. It is whole when all devices have
        copied theirs."""
        self._check_addresses()
        self._fetch_the_rest()
        self._send_what_is_ready(all_of_them=True)
        pairs = []
        for own in self._own:
            gradient = own.parameter.grad
            pairs.append((own.target, torch.zeros_like(own.parameter) if gradient is None else gradient))
        for bucket in self._buckets:
            assert bucket.under_way is not None
            mine = bucket.parts.of(self._group.rank)
            pairs.append((self._flat[bucket.start + mine.start : bucket.start + mine.stop], bucket.under_way.wait()))
        return pairs

    def spread(self) -> None:
        """Have every device get all of the sums, as where each would step by itself: what an all-reduce adds."""
        for bucket in self._buckets:
            mine = bucket.parts.of(self._group.rank)
            part = self._flat[bucket.start + mine.start : bucket.start + mine.stop]
            bucket.values.copy_(all_gather(self._group, part, bucket.parts, "convolution gradients"))

    def _fetch_the_rest(self) -> None:
        """Buckets that the last backward pass did not complete: some parameter had no part in it."""
        for bucket in self._buckets[self._gone :]:
            for segment in bucket.segments:
                gradient = self._parameters[segment.name].grad
                bucket.place(segment).zero_() if gradient is None else bucket.place(segment).copy_(gradient)

    def _check_addresses(self) -> None:
        if any(p.data_ptr() != self._addresses[name] for name, p in self._parameters.items()):
            raise Failure(Cause.USER_CODE, "a parameter was replaced in training; change its values in place instead")


def buckets(layout: Layout, below: list[Segment]) -> Iterator[Bucket]:
    """Ranges of the vector that cover all segments but the last layer's, in the order in which they go out."""
    for group in layout.groups:
        inside = [s for s in below if group.start <= s.offset < group.stop]
        run: list[Segment] = []
        for segment in reversed(inside):
            # What lies between two neighbours may be the last layer, which travels in no bucket.
            if run and (_size(run) >= BUCKET_FLOATS or not _adjacent(layout, segment, run[-1])):
                yield Bucket(run[-1].offset, _end(run[0]), run)
                run = []
            run.append(segment)
        if run:
            yield Bucket(run[-1].offset, _end(run[0]), run)


def _adjacent(layout: Layout, first: Segment, second: Segment) -> bool:
    return not any(first.offset < s.offset < second.offset for s in layout.segments)


def _size(run: list[Segment]) -> int:
    return _end(run[0]) - run[-1].offset


def _end(segment: Segment) -> int:
    return segment.offset + segment.size
