"""Checkpoint files: safetensors, with everything a run needs to go on in one file.

Model tensors have their names in the module, so that plain PyTorch can load them; what is ours starts with
`trainhub/`:

    state = {k: v for k, v in load_file(path).items() if not k.startswith("trainhub/")}
    model.load_state_dict(state)

We write the format ourselves (8 bytes length, a JSON header, raw little-endian tensors): the library's writer copies
every tensor and holds the interpreter's lock meanwhile, which would stall the server.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from workers.assignment import Cause
from workers.failures import Failure

OWN = "trainhub/"
FORMAT = 1
ALIGNMENT = 8
CHUNK_BYTES = 4 * 1024 * 1024
DTYPES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}


@dataclass(frozen=True)
class Meta:
    """What the tensors are a state of. Random numbers are keyed by (seed, worker, step): `steps` is their state."""

    run: int
    attempt: int
    epoch: int
    version: int
    gradients: int
    seed: int
    steps: list[int]
    applied: list[int]
    refused: int
    statistics: int
    optimizer_steps: int
    seconds: float
    metrics: dict[str, float]
    spec: dict[str, Any]
    format: int = FORMAT

    @classmethod
    def parse(cls, text: str) -> Self:
        raw = json.loads(text)
        if raw["format"] > FORMAT:
            raise ValueError(f"format {raw['format']} is newer than this TrainHub understands ({FORMAT})")
        return cls(**raw)


@dataclass(frozen=True)
class Written:
    path: Path
    sha256: str
    size_bytes: int


def file_name(version: int, epoch: int) -> str:
    return f"v{version}-e{epoch}.safetensors"


def write(folder: Path, tensors: Mapping[str, Tensor], meta: Meta) -> Written:
    """Write a checkpoint so that its name appears only when all of it is on disk. Raises OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / file_name(meta.version, meta.epoch)
    partial = path.with_suffix(".part")
    try:
        digest, size = _write_file(partial, tensors, meta)
        os.replace(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    _sync_folder(folder)
    return Written(path, digest, size)


def _write_file(path: Path, tensors: Mapping[str, Tensor], meta: Meta) -> tuple[str, int]:
    digest, size = hashlib.sha256(), 0
    with open(path, "wb", buffering=0) as file:
        for piece in _pieces(tensors, meta):
            for start in range(0, len(piece), CHUNK_BYTES):
                chunk = piece[start : start + CHUNK_BYTES]
                digest.update(chunk)
                while chunk:
                    written = file.write(chunk)
                    size += written
                    chunk = chunk[written:]
        os.fsync(file.fileno())
    return digest.hexdigest(), size


def _pieces(tensors: Mapping[str, Tensor], meta: Meta) -> list[memoryview]:
    header: dict[str, Any] = {"__metadata__": {"trainhub": json.dumps(asdict(meta)), "format": "pt"}}
    pieces, offset = [], 0
    for name, tensor in tensors.items():
        raw = memoryview(tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy().data)
        header[name] = {
            "dtype": DTYPES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [offset, offset + len(raw)],
        }
        pieces.append(raw)
        offset += len(raw)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % ALIGNMENT)
    return [memoryview(len(text).to_bytes(8, "little") + text), *pieces]


def _sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def read(path: Path) -> tuple[dict[str, Tensor], Meta]:
    """Read a checkpoint. Raises Failure when it is missing, damaged or too new."""
    try:
        with safe_open(path, framework="pt") as file:
            meta = Meta.parse(file.metadata()["trainhub"])
            return {name: file.get_tensor(name) for name in file.keys()}, meta  # noqa: SIM118 - a handle, not a mapping
    except FileNotFoundError:
        raise Failure(Cause.DATA, f"the checkpoint {path} does not exist") from None
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise Failure(Cause.DATA, f"the checkpoint {path} can't be read: {error}") from None


def model_state(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What `load_state_dict` takes, of all that a checkpoint holds."""
    return {name: tensor for name, tensor in tensors.items() if not name.startswith(OWN)}
