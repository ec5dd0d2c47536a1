"""The same training without TrainHub: one process, one loop, to compare with.

    python examples/shapes/bare.py shapes.zip

Network, examples, batch size, passes, augmenting and schedule are those of spec.yaml, and so is the optimizer: Muon, in
PyTorch's own version. AdamW and SGD with momentum can be had too. Prints the accuracy on the test images as it goes.
"""

from __future__ import annotations

import argparse
import math
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from rich.progress import track
from torch import Tensor, nn

from workers.problems.nets.resnet import resnet20
from workers.spec import RunSpec

HERE = Path(__file__).resolve().parent
RATES = {"muon": 0.01, "adamw": 0.003, "sgd": 0.05}


def prepared(given: Path, folder: Path) -> Path:
    """The folder of the data set, made of a zip file where that is what we have."""
    if given.is_dir():
        return given
    command = [sys.executable, "-m", "workers.datasets", str(given), str(folder / "shapes")]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return folder / "shapes"


class Data:
    """Both parts of a data set, with mean 0 and deviation 1 over the training images."""

    def __init__(self, folder: Path) -> None:
        pixels = {part: torch.from_numpy(np.load(folder / f"{part}-x.npy")) / 255 for part in ("train", "test")}
        mean, deviation = (getattr(pixels["train"], f)((0, 2, 3), keepdim=True) for f in ("mean", "std"))
        self.images = {part: (x - mean) / deviation for part, x in pixels.items()}
        self.labels = {part: torch.from_numpy(np.load(folder / f"{part}-y.npy")) for part in ("train", "test")}
        self.classes = int(self.labels["train"].max()) + 1


def learning_rate(spec: RunSpec, passes: float, highest: float) -> float:
    """After so many passes: up in a straight line, then down along a cosine."""
    assert spec.budget.passes is not None
    rise = min(1.0, passes / spec.schedule.warmup_passes)
    return highest * rise * (1 + math.cos(math.pi * passes / spec.budget.passes)) / 2


def mirrored(images: Tensor) -> Tensor:
    """Half of them, left to right."""
    which = torch.rand(len(images)) < 0.5
    return torch.where(which.reshape(-1, 1, 1, 1), images.flip(3), images)


class Muon:
    """torch.optim.Muon for matrices, which to it have two dimensions: a convolution is one row an output channel.
    AdamW for all else."""

    def __init__(self, model: nn.Module, rate: float) -> None:
        self.pairs = [(p, nn.Parameter(p.detach().flatten(1))) for p in model.parameters() if p.ndim > 1]
        rest = [p for p in model.parameters() if p.ndim <= 1]
        flat = [matrix for _, matrix in self.pairs]
        self.inner = (
            torch.optim.Muon(flat, lr=rate, momentum=0.8, weight_decay=0.01, adjust_lr_fn="match_rms_adamw"),
            torch.optim.AdamW(rest, lr=rate, betas=(0.8, 0.99), weight_decay=0.0),
        )
        self.param_groups = [group for each in self.inner for group in each.param_groups]

    def zero_grad(self) -> None:
        for parameter, _ in self.pairs:
            parameter.grad = None
        self.inner[1].zero_grad()

    def step(self) -> None:
        for parameter, matrix in self.pairs:
            assert parameter.grad is not None
            matrix.grad = parameter.grad.flatten(1)
        for each in self.inner:
            each.step()


def optimizer_of(model: nn.Module, given: argparse.Namespace) -> Muon | torch.optim.Optimizer:
    rate = given.learning_rate or RATES[given.optimizer]
    if given.optimizer == "muon":
        return Muon(model, rate)
    if given.optimizer == "adamw":
        return torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=0.05)
    return torch.optim.SGD(model.parameters(), lr=rate, momentum=0.9, weight_decay=0.0005)


def train_one_pass(
    model: nn.Module,
    optimizer: Muon | torch.optim.Optimizer,
    data: Data,
    spec: RunSpec,
    number: int,
    highest: float,
) -> None:
    model.train()
    images, labels = data.images["train"], data.labels["train"]
    batches = torch.randperm(len(labels)).split(spec.batch_size)
    for index, rows in enumerate(track(batches, description=f"pass {number + 1}", transient=True)):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(spec, number + index / len(batches), highest)
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(mirrored(images[rows])), labels[rows]).backward()
        optimizer.step()


@torch.no_grad()
def accuracy(model: nn.Module, data: Data) -> float:
    model.eval()
    images, labels = data.images["test"].split(500), data.labels["test"].split(500)
    right = sum(int((model(x).argmax(1) == y).sum()) for x, y in zip(images, labels, strict=True))
    return right / len(data.labels["test"])


def main() -> None:
    parser = argparse.ArgumentParser(description="Train ResNet-20 on the shapes in one process.")
    parser.add_argument("data", type=Path, help="the zip file, or the folder of the data set")
    parser.add_argument("--passes", type=int, help="stop after so many; the schedule stays that of spec.yaml")
    parser.add_argument("--optimizer", choices=list(RATES), default="muon")
    parser.add_argument("--learning-rate", type=float, help=f"left out: {RATES}")
    parser.add_argument("--threads", type=int, help="of torch; left out: as many as torch takes")
    given = parser.parse_args()
    if given.threads:
        torch.set_num_threads(given.threads)
    train(RunSpec.parse_yaml((HERE / "spec.yaml").read_text()), given)


def train(spec: RunSpec, given: argparse.Namespace) -> None:
    torch.manual_seed(spec.seed)
    with tempfile.TemporaryDirectory() as folder:
        data = Data(prepared(given.data, Path(folder)))
    model = resnet20(3, data.classes)
    optimizer = optimizer_of(model, given)
    began = time.perf_counter()
    for number in range(given.passes or int(spec.budget.passes or 0)):
        train_one_pass(model, optimizer, data, spec, number, given.learning_rate or RATES[given.optimizer])
        seconds = time.perf_counter() - began
        print(f"pass {number + 1:2}  test accuracy {accuracy(model, data):.4f}  {seconds:.0f} s", flush=True)


if __name__ == "__main__":
    main()
