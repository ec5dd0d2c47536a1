"""What is trained."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from workers.spec.base import NotNegative, Part

Hidden = Annotated[list[Annotated[int, Field(ge=1, le=8192)]], Field(min_length=1, max_length=8)]
DatasetName = Annotated[str, Field(min_length=1, max_length=80)]


class DigitsCnn(Part):
    """Two 3×3 convolutions with batch norm, one pooling, one linear layer."""

    kind: Literal["cnn"] = "cnn"
    width: int = Field(default=16, ge=1, le=512)
    """Channels of the first convolution; the second has twice as many."""


class DigitsMlp(Part):
    """Linear layers with ReLU between them."""

    kind: Literal["mlp"] = "mlp"
    hidden: Hidden = [64, 64, 64]
    """Units of each hidden layer, from the input on."""
    batch_norm: bool = False
    """Whether each hidden layer is followed by batch norm."""
    initial: Literal["torch", "he"] = "torch"
    """Initial weights: torch's own, or normal with variance 2/inputs and no biases (He et al., 2015, section 2.2)."""


class Digits(Part):
    """scikit-learn's 1,797 handwritten digits, 8 by 8 pixels, 10 classes."""

    kind: Literal["digits"]
    model: Annotated[DigitsCnn | DigitsMlp, Field(discriminator="kind")] = DigitsCnn()
    """The network."""
    split: int = Field(default=0, ge=0, le=2**31 - 1)
    """Which examples are held out for the test: a random fifth, stratified, by this number."""
    evaluate_on: Literal["test", "validation"] = "test"
    """`validation` keeps a fifth of the training examples out of the training and evaluates on them: to tune on."""


class Glyphs(Part):
    """Very many classes: each is four signs of 16, rendered by TrainHub, moved, faint, noisy and partly erased. 16 by
    16 pixels. Metrics: accuracy, and whether the class is among the best five."""

    kind: Literal["glyphs"]
    classes: int = Field(default=20_000, ge=2, le=65_536)
    """Of which each has a code of four signs."""
    examples: int = Field(default=4, ge=1, le=1000)
    """Training images of each class."""
    features: int = Field(default=64, ge=1, le=4096)
    """What the last layer sees of an image: it has so many weights for each class."""
    width: int = Field(default=8, ge=1, le=512)
    """Channels of the first convolution; the second has twice as many."""
    noise: float = Field(default=0.2, ge=0, le=10)
    """Standard deviation of the noise; a sign's strokes are 0.4 to 1."""
    alphabet: int = Field(default=0, ge=0, le=2**31 - 1)
    """Signs, codes and images are made from this number."""


class Ledger(Part):
    """One coordinate per trainer, to which each of its gradients adds exactly 1: it counts what was applied."""

    kind: Literal["ledger"]
    coordinates: int = Field(default=8, ge=1, le=100_000_000)
    """Weights of the model: at least one a trainer."""
    compute_seconds: NotNegative = 0.0
    """Seconds that each gradient takes."""


class Mlp(Part):
    """Linear layers with ReLU between them."""

    kind: Literal["mlp"] = "mlp"
    hidden: Hidden = [128, 128]
    """Units of each hidden layer, from the input on."""
    batch_norm: bool = True
    """Whether each hidden layer is followed by batch norm."""


class Cnn(Part):
    """Two 3×3 convolutions with batch norm, one 2×2 pooling, one linear layer: for small images."""

    kind: Literal["cnn"] = "cnn"
    width: int = Field(default=32, ge=1, le=512)
    """Channels of the first convolution; the second has twice as many."""


class ResNet20(Part):
    """The network of He et al., 2015 (section 4.2) for images of about 32×32: three stages of three blocks of two
    convolutions with batch norm, 0.27 million weights. Shortcuts have no weights (the paper's option A)."""

    kind: Literal["resnet20"] = "resnet20"
    width: int = Field(default=1, ge=1, le=16)
    """Factor on the stages' 16, 32 and 64 channels. Time and memory grow with its square."""


class ResNet18(Part):
    """He et al., 2015, table 1, made for small images: a 3×3 convolution in front instead of 7×7 with stride 2, and
    no pooling behind it. 11 million weights."""

    kind: Literal["resnet18"] = "resnet18"


class Images(Part):
    """Classification of uploaded images. Metric: accuracy."""

    kind: Literal["images"]
    dataset: DatasetName
    """Name of a data set of the project that holds images."""
    model: Annotated[Mlp | Cnn | ResNet20 | ResNet18, Field(discriminator="kind")] = ResNet20()
    """The network. Its inputs and outputs follow from the data set."""
    augment: Literal["none", "flip", "flip-crop"] = "none"
    """What is done to training images at random: mirrored left to right; or that, and moved by up to an eighth of
    their size (4 pixels of 32), black coming in."""
    normalize: bool = True
    """Whether each channel has its mean over the training images taken off, and is divided by its deviation."""
    evaluate_on: Literal["test", "validation"] = "test"
    """`validation` keeps a fifth of the training examples out of the training and evaluates on them: to tune on."""


class Table(Part):
    """Classification or regression on an uploaded table, as its target column says. Metrics: accuracy, or the mean
    absolute error in the target's own unit. Columns are scaled to mean 0 and deviation 1."""

    kind: Literal["table"]
    dataset: DatasetName
    """Name of a data set of the project that holds a table."""
    model: Mlp = Mlp()
    """The network. Its inputs and outputs follow from the data set."""
    evaluate_on: Literal["test", "validation"] = "test"
    """`validation` keeps a fifth of the training examples out of the training and evaluates on them: to tune on."""


class Transformer(Part):
    """A decoder: attention to what came before, layer norm in front of attention and of the two linear layers (4 times
    the width, GELU) of each layer, learned positions, no dropout."""

    kind: Literal["transformer"] = "transformer"
    layers: int = Field(default=2, ge=1, le=24)
    """Attention layers, each with two linear layers behind it."""
    heads: int = Field(default=4, ge=1, le=64)
    """Attention heads of each layer; they share its width."""
    width: int = Field(default=128, ge=4, le=4096)
    """Values that stand for one character between layers; a multiple of heads."""
    context: int = Field(default=128, ge=2, le=4096)
    """Characters that the network sees at once: each example is a piece of the text of this length."""

    @model_validator(mode="after")
    def _heads_share_the_width(self) -> Self:
        if self.width % self.heads:
            raise ValueError(f"width must be a multiple of heads ({self.heads}), got {self.width}")
        return self


class Text(Part):
    """Prediction of the next character of an uploaded text. Metrics: bits per character, accuracy."""

    kind: Literal["text"]
    dataset: DatasetName
    """Name of a data set of the project that holds a text."""
    model: Transformer = Transformer()
    """The network. Its inputs and outputs follow from the data set."""
    evaluate_on: Literal["test", "validation"] = "test"
    """`validation` keeps the last fifth of the training part out of the training and evaluates on it: to tune on."""


class Installed(Part):
    """A problem that an installed package announces through the entry point group `trainhub.problems`."""

    kind: Literal["installed"]
    name: str = Field(min_length=1, max_length=100)
    """What the package calls it."""
    parameters: dict[str, Any] = {}
    """Passed to the problem's class by name."""


class PythonTarget(Part):
    """A problem named by its import path, `package.module:name`, importable on the nodes."""

    kind: Literal["python"]
    target: str = Field(pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_][\w.]*$", max_length=200)
    """Import path, as in `package.module:Name`."""
    parameters: dict[str, Any] = {}
    """Passed to the problem's class by name."""


OfDataset = Images | Table | Text
"""Problems whose data are a data set of the run's project."""
Problem = Annotated[
    Digits | Glyphs | Images | Table | Text | Ledger | Installed | PythonTarget, Field(discriminator="kind")
]
