"""bfloat16: a float's sign, exponent and 7 of its 23 fraction bits, rounded to the nearest, ties to even.

    sent = round(g);      |sent - g| <= 2^-8 |g|

Half the bytes, and the whole range of float32 (Kalamkar et al., 2019, arXiv:1905.12322, section 3). Rounding is not
fed back: the error of one gradient is as good as independent of the next one's.
"""

from __future__ import annotations

import torch
from torch import Tensor

from workers.methods.compression.base import Payload


class Bf16:
    piecewise = True

    def payload(self, size: int) -> Payload:
        return (torch.zeros(size, dtype=torch.bfloat16),)

    def encode(self, vector: Tensor, payload: Payload) -> None:
        payload[0].copy_(vector)

    def decode(self, payload: Payload, into: Tensor) -> None:
        into.copy_(payload[0])
