"""What is trained."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from workers.spec.base import NotNegative, Part


class DigitsCnn(Part):
    kind: Literal["cnn"] = "cnn"
    width: int = Field(default=16, ge=1, le=512)
    """Channels of the first convolution; the second has twice as many."""


class DigitsMlp(Part):
    kind: Literal["mlp"] = "mlp"
    hidden: list[Annotated[int, Field(ge=1, le=8192)]] = Field(default=[64, 64, 64], min_length=1, max_length=8)
    batch_norm: bool = False
    initial: Literal["torch", "he"] = "torch"
    """Initial weights: torch's own, or normal with variance 2/inputs and no biases (He et al., 2015, section 2.2)."""


class Digits(Part):
    """scikit-learn's 1,797 handwritten digits, 8 by 8 pixels, 10 classes."""

    kind: Literal["digits"]
    model: Annotated[DigitsCnn | DigitsMlp, Field(discriminator="kind")] = DigitsCnn()
    split: int = Field(default=0, ge=0, le=2**31 - 1)
    """Which examples are held out for the test: a random fifth, stratified, by this number."""
    evaluate_on: Literal["test", "validation"] = "test"
    """`validation` keeps a fifth of the training examples out of the training and evaluates on them: to tune on."""


class Ledger(Part):
    """One coordinate per trainer, to which each of its gradients adds exactly 1: it counts what was applied."""

    kind: Literal["ledger"]
    coordinates: int = Field(default=8, ge=1, le=100_000_000)
    compute_seconds: NotNegative = 0.0


class Installed(Part):
    """A problem that an installed package announces through the entry point group `trainhub.problems`."""

    kind: Literal["installed"]
    name: str = Field(min_length=1, max_length=100)
    parameters: dict[str, Any] = {}


class PythonTarget(Part):
    """A problem named by its import path, `package.module:name`, importable on the nodes."""

    kind: Literal["python"]
    target: str = Field(pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_][\w.]*$", max_length=200)
    parameters: dict[str, Any] = {}


Problem = Annotated[Digits | Ledger | Installed | PythonTarget, Field(discriminator="kind")]
